"""Axes, ticks, and names that do not lie on one another."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert.page.charts import Spot, _marker_box, _meet, _text_box, linear_axis, log_axis, place_labels

_TIMES = st.lists(st.floats(0.01, 10_000), min_size=1, max_size=12)
_VALUES = st.lists(st.floats(-1, 1), min_size=1, max_size=12)


@given(_TIMES)
def test_log_axes_have_room_for_every_number_and_ticks_inside(times):
    axis = log_axis(times)
    assert all(0 < axis.percent(value) < 100 for value in times)
    assert axis.ticks
    assert all(0 <= tick.percent <= 100 for tick in axis.ticks)
    assert all(axis.percent(float(tick.text)) == pytest.approx(tick.percent, abs=0.6) for tick in axis.ticks)


@given(_VALUES)
def test_linear_axes_have_room_for_every_number_and_ticks_inside(values):
    axis = linear_axis(values)
    assert all(0 <= axis.percent(value) <= 100 for value in values)
    assert all(0 <= tick.percent <= 100 for tick in axis.ticks)
    percents = [tick.percent for tick in axis.ticks]
    assert percents == sorted(set(percents))
    assert len({tick.text for tick in axis.ticks}) == len(axis.ticks)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.8, 0.9], ["0.80", "0.82", "0.84", "0.86", "0.88", "0.90"]),
        ([0.9926, 1.0], ["0.994", "0.996", "0.998", "1.000"]),
        ([0.25, 0.95], ["0.4", "0.6", "0.8"]),
    ],
)
def test_linear_ticks_are_round(values, texts):
    assert [tick.text for tick in linear_axis(values).ticks] == texts


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1.5, 40], ["2", "5", "10", "20"]),
        ([0.4, 1.9], ["0.5", "1", "2"]),
        ([200, 400], ["200", "250", "300", "350", "400"]),
    ],
)
def test_log_ticks_are_round(values, texts):
    assert [tick.text for tick in log_axis(values).ticks] == texts


def test_equal_factors_are_equal_steps_on_a_log_axis():
    axis = log_axis([16, 256], ticks=[16, 32, 64, 128, 256])
    places = [tick.percent for tick in axis.ticks]
    steps = [after - before for before, after in pairwise(places)]
    assert steps == pytest.approx([steps[0]] * 4, abs=0.01)
    assert [tick.text for tick in axis.ticks] == ["16", "32", "64", "128", "256"]


def test_one_number_is_in_the_middle():
    assert log_axis([5.0]).percent(5.0) == pytest.approx(50)
    assert linear_axis([0.9]).percent(0.9) == pytest.approx(50)


_SPOTS = st.lists(
    st.tuples(
        st.floats(2, 98),
        st.floats(2, 98),
        st.floats(0, 20),
        st.sampled_from(["full", "fast", "balanced", "a-long-name"]),
    ),
    min_size=1,
    max_size=12,
)


def _as_spots(drawn):
    return [Spot(x, y, max(0, y - half), min(100, y + half), name) for x, y, half, name in drawn]


@given(_SPOTS)
def test_names_meet_neither_markers_nor_each_other(drawn):
    spots = _as_spots(drawn)
    labels = place_labels(spots)
    assert len(labels) == len(spots)
    boxes = [
        _text_box((spot.x / 100 * 264, (1 - spot.y / 100) * 288), label, spot.name)
        for spot, label in zip(spots, labels, strict=True)
        if label is not None
    ]
    assert not any(_meet(one, other) for one, other in combinations(boxes, 2))
    assert not any(_meet(box, _marker_box(spot)) for box in boxes for spot in spots)


def test_a_lonely_marker_has_its_name_beside_it_and_a_crowded_one_none():
    [label] = place_labels([Spot(50, 50, 50, 50, "fast")])
    assert (label.dx, label.dy, label.anchor) == (11, 4, "start")
    crowd = [Spot(50 + x, 50 + y, 50 + y, 50 + y, "fast") for x in (-4, 0, 4) for y in (-4, 0, 4)]
    assert place_labels(crowd)[4] is None
    [label] = place_labels([Spot(97, 50, 50, 50, "balanced")])
    assert label.anchor == "end"
