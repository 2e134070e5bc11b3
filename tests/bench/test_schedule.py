"""Turns: their order, the choice among settings, and what a failure does to the others."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert_bench.arrays import write_arrays
from dynbert_bench.options import Timing
from dynbert_bench.results import Trial
from dynbert_bench.schedule import Entrant, PreparedSetup, _choose, measure_in_turns, round_orders

_TIMING = Timing(rounds=3, burst_seconds=0.01, warm_up_seconds=0.01, trial_bursts=1)


def test_every_round_has_everyone_once_in_an_order_of_its_own():
    names = [f"competitor {index}" for index in range(8)]
    orders = list(round_orders(names, 6))
    assert all(sorted(order) == names for order in orders)
    assert len(set(orders)) == 6
    assert orders == list(round_orders(names, 6))


def test_entries_take_turns_and_are_compared_with_the_reference(make_spec, tmp_path):
    write_arrays(tmp_path / "wanted.npz", [{"output": np.array([2.0, -4.0])}, {"output": np.array([6.0, 1.0])}])
    wanted = tmp_path / "wanted.npz"
    entrants = [
        Entrant("right", (PreparedSetup("only", make_spec("right")),), wanted),
        Entrant("wrong", (PreparedSetup("only", make_spec("wrong", scale=-2.0)),), wanted),
        Entrant("product", (PreparedSetup("only", make_spec("product")),), None),
    ]
    steps = []
    outcomes = measure_in_turns(entrants, _TIMING, tmp_path, advance=lambda done, total: steps.append((done, total)))
    assert [len(outcomes[entrant.name].bursts) for entrant in entrants] == [3, 3, 3]
    assert outcomes["right"].trials[0].cosine == pytest.approx(1.0)
    assert outcomes["right"].trials[0].max_abs_difference == 0.0
    assert outcomes["wrong"].trials[0].cosine == pytest.approx(-1.0)
    assert outcomes["wrong"].trials[0].max_abs_difference == pytest.approx(12.0)
    assert outcomes["product"].trials[0].cosine is None
    assert steps[-1] == (12, 12)


def test_settings_with_wrong_answers_are_not_chosen(make_spec, tmp_path):
    wanted = tmp_path / "wanted.npz"
    write_arrays(wanted, [{"output": np.array([2.0, -4.0])}, {"output": np.array([6.0, 1.0])}])
    setups = (
        PreparedSetup("wrong", make_spec("wrong", scale=-2.0)),
        PreparedSetup("right", make_spec("right")),
        PreparedSetup("unprepared", None, "it could not be made"),
    )
    outcomes = measure_in_turns([Entrant("one", setups, wanted)], _TIMING, tmp_path, advance=lambda *_: None)
    trials = outcomes["one"].trials
    assert [trial.is_chosen for trial in trials] == [False, True, False]
    assert trials[0].median_ms is not None
    assert trials[2].failure == "it could not be made"
    assert outcomes["one"].failure is None


def test_the_fastest_of_the_right_settings_is_chosen():
    trials = [
        Trial(settings="a", median_ms=3.0, cosine=0.99),
        Trial(settings="b", median_ms=2.0, cosine=0.98),
        Trial(settings="c", median_ms=1.0, cosine=0.4),
        Trial(settings="d", median_ms=0.5, cosine=float("nan")),
        Trial(settings="e", failure="broken"),
    ]
    assert _choose(trials) == 1
    assert _choose(trials[2:]) == 1  # none is right: the fastest, whose cosine the report shows
    assert _choose(trials[4:]) is None


def test_a_failure_leaves_the_others_alone(make_spec, tmp_path):
    broken = make_spec("broken", engine="no such engine")
    entrants = [
        Entrant("unprepared", (PreparedSetup("a", None, "no memory"), PreparedSetup("b", None, "no disk")), None),
        Entrant("broken", (PreparedSetup("only", broken),), None),
        Entrant("sound", (PreparedSetup("only", make_spec("sound")),), None),
    ]
    outcomes = measure_in_turns(entrants, _TIMING, tmp_path, advance=lambda *_: None)
    assert outcomes["unprepared"].failure == "no memory; no disk"
    assert "no such engine" in outcomes["broken"].failure
    assert (outcomes["unprepared"].bursts, outcomes["broken"].bursts) == ((), ())
    assert len(outcomes["sound"].bursts) == 3
