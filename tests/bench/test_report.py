"""The report and the tables, from recorded results."""

from __future__ import annotations

from pathlib import Path

from dynbert_bench.report import times_table, write_markdown
from dynbert_bench.results import Trial, read_results
from tests.helpers.results import TC, make_goal_rows, make_results, make_row

_GOLDEN = Path(__file__).parents[1] / "golden" / "benchmark"


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
        *(row for row in make_goal_rows() if row.competitor != "openvino-fast"),
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
    assert "smoke run of tiny models" in write_markdown(make_results(make_goal_rows(), is_quick=True))


def test_table_without_base_line_has_no_speeds():
    rows = [row for row in make_goal_rows() if row.cell.task == TC]
    assert "speed" not in times_table(rows)
