"""Time of inputs alone: which are timed, and that every candidate runs each of them in every round."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.scoring import timing
from dynbert.scoring.timing import pick_evenly, time_inputs


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (10, list(range(10))), (99, list(range(10)))],
)
def test_inputs_are_picked_from_end_to_end(count, expected):
    assert pick_evenly(range(10), count) == expected


def test_the_least_of_the_rounds_counts(monkeypatch):
    """The clock stands still but where a candidate moves it: the second round is the fastest for all."""
    clock, asked = [0.0], []
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])

    def make(name, seconds):
        def candidate(one):
            asked.append((name, one))
            calls = sum(each == (name, one) for each in asked) - (one == 1)  # the first run of all warms up
            clock[0] += seconds * one * (1 if calls == 2 else 3)

        return candidate

    rounds = []
    times = time_inputs(
        [make("a", 0.001), make("b", 0.002)], [1, 2], rounds=3, on_round=lambda: rounds.append(len(asked))
    )
    np.testing.assert_allclose(times, [[1, 2], [2, 4]])
    assert asked[:2] == [("a", 1), ("b", 1)]
    assert asked[2:6] == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert rounds == [4, 6, 8, 10, 12, 14]
