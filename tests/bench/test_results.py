"""``results.json``: what is written is read again, and the file's form is what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynbert_bench.results import read_results, write_results
from dynbert_export.errors import ExportError
from tests.helpers.results import make_results, make_row

_GOLDEN = Path(__file__).parents[1] / "golden" / "benchmark" / "results.json"


def test_a_recorded_file_is_written_again_to_the_last_byte(tmp_path):
    write_results(tmp_path / "results.json", read_results(_GOLDEN))
    assert (tmp_path / "results.json").read_bytes() == _GOLDEN.read_bytes()


def test_results_survive_their_file(tmp_path):
    rows = [
        make_row("dynbert-fast", 384, 10.0, rounds=(9.5, 10.5)),
        make_row("torch-full", 384, 0.0, failure="it broke"),
    ]
    results = make_results(rows, notes=("mind this",), left_out=("torch",))
    write_results(tmp_path / "results.json", results)
    assert read_results(tmp_path / "results.json") == results


def test_results_of_another_schema_are_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"schema_version": 1, "surprise": true}', encoding="utf-8")
    with pytest.raises(ExportError) as caught:
        read_results(path)
    assert str(caught.value) == (
        f"{path} must hold results of schema 1, got: Object contains unknown field `surprise`. Run it again."
    )


def test_results_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ExportError) as caught:
        read_results(tmp_path / "nowhere.json")
    assert str(caught.value) == (
        f"Results must be a readable file, got {tmp_path / 'nowhere.json'} (No such file or directory)."
    )


def test_failures_name_rows_and_products():
    assert read_results(_GOLDEN).failures == (
        "label of torch-full (question-answering, 384): no memory",
        "fp32 attention scores: it broke",
    )
