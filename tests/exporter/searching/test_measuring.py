"""Times in turn: a slow round hits all graphs alike, and does not count."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert_export.searching import measuring
from dynbert_export.searching.measuring import Turn, combine_rounds, measure_turns


def test_rounds_that_were_slow_do_not_tell():
    graphs = np.array([1.0, 2.0, 5.0])
    rounds = np.array([1.0, 1.0, 3.0, 1.0, 2.0])
    np.testing.assert_allclose(combine_rounds(rounds[:, None] * graphs), graphs, rtol=1e-9)


def test_a_single_disturbance_does_not_tell():
    seconds = np.tile([1.0, 2.0, 5.0], (5, 1))
    seconds[2, 1] = 9.0
    np.testing.assert_allclose(combine_rounds(seconds), [1.0, 2.0, 5.0], rtol=1e-9)


def test_relative_times_survive_drift_better_than_medians_do():
    """Half of the rounds at half the speed, and each graph misses another round: ratios stay."""
    generator = np.random.default_rng(0)
    graphs = np.array([1.0, 1.5, 4.0, 8.0])
    seconds = graphs * generator.lognormal(0, 0.02, (8, 4))
    seconds[::2] *= 2.0
    combined = combine_rounds(seconds)
    np.testing.assert_allclose(combined / combined[0], graphs, rtol=0.05)


class _Graph:
    def __init__(self, log, name):
        self.log, self.name = log, name

    def run(self, feed):
        self.log.append((self.name, feed["tokens"]))


@pytest.mark.parametrize("threads", [1, 2])
def test_all_graphs_have_their_turn_in_each_round(monkeypatch, threads):
    log: list = []
    ticks = iter(range(10**6))
    clock = "thread_time" if threads == 1 else "perf_counter"
    monkeypatch.setattr(measuring.time, clock, lambda: float(next(ticks)))
    turns = [Turn(_Graph(log, name), {"tokens": number}) for number, name in enumerate("abc")]
    told: list = []
    seconds = measure_turns(turns, rounds=4, seed=0, threads=threads, on_round=told.append)
    np.testing.assert_allclose(seconds, 1.0)
    assert told == [1, 2, 3, 4]
    per_round = len(log) // 4
    orders = []
    for start in range(0, len(log), per_round):
        of_round = log[start : start + per_round]
        assert {name for name, _ in of_round} == {"a", "b", "c"}
        orders.append([name for name, _ in of_round[:: per_round // 3]])
    assert len({tuple(order) for order in orders}) > 1
