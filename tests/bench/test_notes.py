"""What a reader is told of the machine: that it was busy, and whose CPU time was not that of one thread."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from dynbert_bench.notes import note_load, note_shares
from tests.helpers.results import make_results, make_row


@pytest.mark.parametrize(("load", "is_noted"), [((), False), ((0.5, 9.0, 9.0), False), ((0.51, 0.0, 0.0), True)])
def test_a_load_at_the_start_is_noted(load, is_noted):
    environment = replace(make_results([]).environment, load_average=load)
    assert [note.split(",")[0] for note in note_load(environment)] == (
        ["The load average was 0.51 at the start"] if is_noted else []
    )


def test_contention_and_further_threads_are_noted():
    rows = [replace(make_row("a", 64, 1.0), cpu_share=share) for share in (1.0, 0.6, 0.9, 2.0)]
    rows = [replace(row, label=f"row {index}") for index, row in enumerate(rows)]
    threads, contention = note_shares(rows)
    assert threads == "row 3 (question-answering, 64) used 2.00 s of CPU a second: that is more than one thread."
    assert "in 2 of 4 measurements; the worst off, row 1 (question-answering, 64), had it for 60% of" in contention
    assert note_shares(rows[:1]) == []
