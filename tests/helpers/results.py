"""Results of ``dynbert-bench``: rows with times that a test chooses."""

from __future__ import annotations

from dynbert.manifest import Task
from dynbert_bench.goals import judge_goals
from dynbert_bench.options import Cell, Shape
from dynbert_bench.results import (
    RESULTS_VERSION,
    Environment,
    FloorInfo,
    ProductRate,
    Results,
    Row,
    Trial,
)

QA, TC = Task.QUESTION_ANSWERING, Task.TEXT_CLASSIFICATION


def make_row(competitor, tokens, ms, *, task=QA, batch=1, cosine=0.99, failure=None, rounds=None, trials=None):
    is_measured = failure is None
    return Row(
        competitor=competitor,
        label=f"label of {competitor}",
        is_ours=competitor.startswith("dynbert"),
        cell=Cell(task, tokens, batch),
        trials=trials or (Trial(settings="as it is", cosine=cosine, failure=failure, is_chosen=is_measured),),
        median_ms=ms if is_measured else None,
        rounds_ms=(rounds or (ms, ms)) if is_measured else (),
        runs=20 if is_measured else 0,
        cpu_share=1.0 if is_measured else None,
        load_seconds=0.5 if is_measured else None,
        pss_bytes=123_400_000 if is_measured else None,
        cosine=cosine if is_measured else None,
        max_abs_difference=0.25 if is_measured else None,
        failure=failure,
    )


def make_results(rows, *, floor_ms=8.0, is_quick=False, notes=(), left_out=()):
    floors = (
        FloorInfo(
            profile="fast",
            tokens=384,
            int8_macs=2_228_000_000,
            fp32_macs=318_000_000,
            ms=floor_ms,
            int8_scores_ms=floor_ms,
        ),
    )
    product = ProductRate(
        name="int8 projection", precision="int8", macs=10**9, median_ms=2.5, gmacs_per_second=400.0, failure=None
    )
    shape = Shape(name="MiniLM", layers=6, hidden=384, heads=12, intermediate=1536, vocabulary=30522)
    return Results(
        schema_version=RESULTS_VERSION,
        is_quick=is_quick,
        model=shape,
        base_line=Shape(name="BERT-base", layers=12, hidden=768, heads=12, intermediate=3072, vocabulary=30522),
        lengths={"fast": "315,251,242,159,142,33"},
        rounds=2,
        burst_seconds=0.3,
        environment=Environment(
            date="2026-11-23T07:00:00+00:00",
            cpu="a CPU",
            target="vnni",
            features=("avx512_vnni",),
            cores=2,
            core=1,
            threads=1,
            governor=None,
            system="Linux 6 x86_64",
            python="3.11.2",
            load_average=(0.1, 0.1, 0.1),
            versions={"onnxruntime": "1.32.0"},
            code="abc",
        ),
        rows=tuple(rows),
        products=(product,),
        floors=floors,
        goals=judge_goals(rows, floors, is_quick=is_quick),
        left_out=tuple(left_out),
        notes=tuple(notes),
    )


def make_goal_rows(ours=10.0):
    """Return a row for each competitor that a goal names; ``ours`` is the time of *fast*."""
    return [
        make_row("base-line", 384, 371.0),
        make_row("ort-dynamic-full", 384, 30.0),
        make_row("ort-dynamic-fast", 384, 17.0),
        make_row("openvino-full", 384, 20.0),
        make_row("openvino-fast", 384, 15.0),
        make_row("dynbert-fast", 384, ours, rounds=(ours - 1, ours + 1)),
        make_row("openvino-full", 128, 5.0, task=TC),
        make_row("dynbert-full", 128, 5.5, task=TC),
    ]
