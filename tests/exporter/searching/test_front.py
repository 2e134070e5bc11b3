"""The front, its hypervolume, and which of it become profiles."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert_export.searching.front import (
    Rival,
    choose_evenly,
    find_front,
    find_superior,
    hypervolume,
    profile_names,
)

_POINTS = st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 10)), max_size=20)


def _is_beaten(point, points):
    quality, time = point
    return any(q >= quality and t <= time and (q, t) != point for q, t in points)


@given(_POINTS)
def test_front_is_what_nothing_beats(points):
    front = find_front(points)
    assert {points[place] for place in front} == {point for point in points if not _is_beaten(point, points)}
    times = [points[place][1] for place in front]
    assert times == sorted(set(times))


def test_of_equal_points_the_first_is_on_the_front():
    assert find_front([(0.5, 1.0), (0.5, 1.0)]) == [0]
    assert find_front([]) == []


@given(_POINTS)
def test_hypervolume_is_optunas(points):
    from optuna._hypervolume import compute_hypervolume

    reference = (0.2, 5.0)
    inside = [(q, t) for q, t in points if q > reference[0] and t < reference[1]]
    losses = np.array([[-q, math.log(t)] for q, t in inside]).reshape(-1, 2)
    expected = compute_hypervolume(losses, np.array([-reference[0], math.log(reference[1])]))
    assert hypervolume(points, reference) == pytest.approx(expected, abs=1e-12)


def test_hypervolume_counts_what_the_reference_allows():
    assert hypervolume([(0.9, 1.0)], (0.5, math.e)) == pytest.approx(0.4)
    assert hypervolume([(0.9, 3.0), (0.4, 1.0)], (0.5, math.e)) == 0.0


@given(st.lists(st.floats(0.1, 9.9), min_size=1, max_size=12, unique=True), st.integers(1, 8))
def test_chosen_times_are_different_and_have_the_fastest(times, count):
    chosen = choose_evenly(times, count, slowest=10.0)
    assert len(chosen) == len(set(chosen)) == min(count, len(times))
    assert [times[place] for place in chosen] == sorted((times[place] for place in chosen), reverse=True)
    assert times[chosen[-1]] == min(times)


def test_times_are_chosen_evenly_on_a_logarithmic_scale():
    times = [7.9, 6.0, 4.1, 3.0, 2.1, 1.5, 1.0]
    assert [times[place] for place in choose_evenly(times, 3, slowest=8.0)] == [4.1, 2.1, 1.0]
    assert choose_evenly([], 3, slowest=8.0) == []


def test_names_say_how_fast_and_are_numbered_where_there_are_many():
    assert profile_names(1) == ("fast",)
    assert profile_names(5) == ("accurate", "balanced", "fast", "faster", "fastest")
    assert profile_names(6)[::5] == ("profile-1", "profile-6")
    assert all(len(profile_names(count)) == count for count in range(9))


def test_a_graph_is_inferior_where_it_is_slower_everywhere_and_worse():
    better = Rival("better", 0.9, (1.0, 2.0, 4.0))
    for seconds, is_inferior in [
        ((1.0, 2.0, 4.0), True),
        ((1.1, 2.5, 5.0), True),
        ((1.1, 2.5, 3.0), False),
        ((1.0, 1.995, 4.0), True),  # half a percent is noise
    ]:
        found = find_superior(Rival("one", 0.8, seconds), [better])
        assert (found is better) is is_inferior
    assert find_superior(Rival("one", 0.95, (9.0, 9.0, 9.0)), [better]) is None
    assert find_superior(better, [better]) is None
