"""Targets and report, from recorded results."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from dynbert_bench.goals import GOALS
from dynbert_bench.notes import note_shares
from dynbert_bench.plot import draw_plot
from dynbert_bench.report import times_table, write_markdown
from dynbert_bench.results import Trial, Verdict, read_results
from tests.helpers.results import TC, make_results, make_row

_GOLDEN = Path(__file__).parents[1] / "golden" / "benchmark"


def _rows(ours=10.0):
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


def test_targets_are_those_of_the_issue():
    bounds = [(goal.bound, goal.is_least) for goal in GOALS]
    least = [(28.0, True), (2.2, True), (1.35, True), (1.15, True), (1.4, True)]
    assert bounds == [*least, (1.6, False), (1.0, True)]


def test_targets_are_judged_from_the_rows():
    goals = make_results(_rows()).goals
    assert [goal.verdict for goal in goals] == [Verdict.MET] * 6 + [Verdict.NOT_MET]
    assert [goal.ratio for goal in goals] == pytest.approx([37.1, 3.0, 1.7, 1.5, 2.0, 1.25, 5.0 / 5.5])
    assert (goals[0].lowest, goals[0].highest) == pytest.approx((371 / 11, 371 / 9))
    assert (goals[5].lowest, goals[5].highest) == pytest.approx((9 / 8, 11 / 8))


def test_slower_graphs_miss_the_targets():
    verdicts = [goal.verdict for goal in make_results(_rows(ours=14.5)).goals]
    assert verdicts == [
        *[Verdict.NOT_MET, Verdict.NOT_MET, Verdict.NOT_MET, Verdict.NOT_MET, Verdict.NOT_MET, Verdict.NOT_MET],
        Verdict.NOT_MET,
    ]


def test_a_target_whose_row_failed_or_is_missing_was_not_measured():
    rows = [row for row in _rows() if row.competitor != "base-line" or row.cell.task == TC]
    rows = [
        make_row("openvino-fast", 384, 1.0, failure="it broke") if row.competitor == "openvino-fast" else row
        for row in rows
    ]
    results = make_results(rows)
    assert [goal.verdict for goal in results.goals][:5] == [
        Verdict.NOT_MEASURED,
        Verdict.MET,
        Verdict.MET,
        Verdict.NOT_MEASURED,
        Verdict.MET,
    ]
    assert results.failures == ("label of openvino-fast (question-answering, 384): it broke",)


def test_a_smoke_run_gives_no_verdict():
    goals = make_results(_rows(), is_quick=True).goals
    assert {goal.verdict for goal in goals} == {Verdict.SMOKE_RUN, Verdict.NOT_MEASURED}


def test_report_of_recorded_results_is_the_recorded_one_to_the_last_byte():
    text = write_markdown(read_results(_GOLDEN / "results.json"))
    assert text == (_GOLDEN / "report.md").read_text(encoding="utf-8")


def test_report_says_everything():
    trials = (
        Trial(settings="fixed shapes", median_ms=15.0, cosine=0.99, is_chosen=True),
        Trial(settings="dynamic shapes", median_ms=16.0, cosine=0.99),
        Trial(settings="odd shapes", failure="not supported"),
    )
    rows = [
        *(row for row in _rows() if row.competitor != "openvino-fast"),
        make_row("openvino-fast", 384, 15.0, trials=trials),
        make_row("openvino-fast", 128, 40.0, batch=8),
        make_row("ort-static-full", 384, 1.0, cosine=0.5),
        make_row("torch-full", 384, 0.0, failure="no memory"),
    ]
    text = write_markdown(make_results(rows, notes=("mind this",), left_out=("torch",)))
    for part in (
        *(
            ">= 28x |",
            "37.10x",
            "**met**",
            "**not met**",
            "128, batch 8",
            "1.00 *",
            "failed",
            "no memory",
            "mind this",
        ),
        *("fixed shapes", "dynamic shapes", "odd shapes", "taken", "Left out on request: torch.", "2.228", "400.0"),
        *("a CPU", "onnxruntime 1.32.0", "not shown by this system", "315,251,242,159,142,33", "1.25x"),
    ):
        assert part in text, part


def test_report_of_a_smoke_run_says_that_it_is_one():
    assert "smoke run of tiny models" in write_markdown(make_results(_rows(), is_quick=True))


def test_table_without_base_line_has_no_speeds():
    rows = [row for row in _rows() if row.cell.task == TC]
    assert "speed" not in times_table(rows)


def test_plot_is_drawn(tmp_path):
    draw_plot(make_results(_rows()), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_contention_and_further_threads_are_noted():
    rows = [replace(make_row("a", 64, 1.0), cpu_share=share) for share in (1.0, 0.6, 0.9, 2.0)]
    rows = [replace(row, label=f"row {index}") for index, row in enumerate(rows)]
    threads, contention = note_shares(rows)
    assert threads == "row 3 (question-answering, 64) used 2.00 s of CPU a second: that is more than one thread."
    assert "in 2 of 4 measurements; the worst off, row 1 (question-answering, 64), had it for 60% of" in contention
    assert note_shares(rows[:1]) == []
