"""Geometry of charts: axes, ticks and places of labels, as shares of the plot's width and height.

The charts are SVG in which everything stands at a percentage, so that they fill any width while text keeps its size: a
chart of a plotting library scales its letters with its picture, and is illegible on a phone or coarse on a desk. They
take their colours from the page, light or dark, and are nothing a device has to install a plotting library for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Axis", "Label", "Spot", "Tick", "linear_axis", "log_axis", "place_labels"]

_STEPS = (1.0, 2.0, 5.0, 10.0)
_FEWEST_TICKS = 3
_MARGIN = 0.06
"""Share of an axis that is left free at each end."""

_PLOT_PIXELS = (264, 288)
"""The plot's width on the narrowest phone, where labels must not meet, and its height."""
_LETTER_PIXELS, _LINE_PIXELS, _DESCENT_PIXELS = 7.2, 18, 4
_MARKER_PIXELS = 7
"""Half a marker's size."""
_OUTSIDE_PIXELS = 10
"""How far a label may stand out of the plot."""


@dataclass(frozen=True)
class Tick:
    """One number at an axis."""

    percent: float
    """Its place: 0 at the left or the bottom."""
    text: str


@dataclass(frozen=True)
class Axis:
    """A range of numbers, laid out along one side of a plot."""

    low: float
    high: float
    is_log: bool
    ticks: tuple[Tick, ...]

    def percent(self, value: float) -> float:
        """Return where a number stands.

        Args:
            value: Any number; above 0 on a logarithmic axis.

        Returns:
            0 at the left or the bottom, 100 at the other end.
        """
        return _percent(value, self.low, self.high, is_log=self.is_log)


def linear_axis(values: Iterable[float]) -> Axis:
    """Return an axis for numbers, with room at both ends; it need not start at 0.

    Args:
        values: At least one.

    Returns:
        The axis.
    """
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    room = (high - low) * _MARGIN or abs(high) * _MARGIN or 1.0
    low, high = low - room, high + room
    return Axis(low, high, is_log=False, ticks=_linear_ticks(low, high, is_log=False))


def log_axis(values: Iterable[float], *, ticks: Sequence[float] | None = None) -> Axis:
    """Return a logarithmic axis for numbers above 0, with room at both ends: equal steps are equal factors.

    Args:
        values: At least one.
        ticks: The numbers to write; None to choose round ones.

    Returns:
        The axis.
    """
    numbers = list(values)
    low, high = min(numbers), max(numbers)
    factor = (high / low) ** _MARGIN if high > low else 1.5
    low, high = low / factor, high * factor
    if ticks is not None:
        return Axis(low, high, is_log=True, ticks=_as_ticks(ticks, low, high, is_log=True))
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    round_numbers = [step * 10.0**exponent for exponent in exponents for step in _STEPS[:-1]]
    inside = [number for number in round_numbers if low <= number <= high]
    if len(inside) < _FEWEST_TICKS:
        return Axis(low, high, is_log=True, ticks=_linear_ticks(low, high, is_log=True))
    return Axis(low, high, is_log=True, ticks=_as_ticks(inside, low, high, is_log=True))


def _linear_ticks(low: float, high: float, *, is_log: bool) -> tuple[Tick, ...]:
    """Return four to eight ticks at round numbers."""
    least = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in _STEPS if factor * power >= least * 0.8)
    first = math.ceil(low / step)
    return _as_ticks(
        [index * step for index in range(first, math.floor(high / step) + 1)], low, high, is_log=is_log, step=step
    )


def _as_ticks(
    numbers: Sequence[float], low: float, high: float, *, is_log: bool, step: float | None = None
) -> tuple[Tick, ...]:
    decimals = 0 if step is None else max(0, -math.floor(math.log10(step) + 1e-9))
    return tuple(
        Tick(
            _percent(number, low, high, is_log=is_log),
            f"{number:g}" if step is None else f"{number:.{decimals}f}",
        )
        for number in numbers
    )


def _percent(value: float, low: float, high: float, *, is_log: bool) -> float:
    if is_log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return round(100 * (value - low) / (high - low), 3)


@dataclass(frozen=True)
class Spot:
    """A marker that is to have a name; places are percent from the left and from the bottom."""

    x: float
    y: float
    low: float
    """Lower end of its interval; ``y`` where it has none."""
    high: float
    name: str


@dataclass(frozen=True)
class Label:
    """Where a marker's name stands: beside it, in pixels from its middle."""

    dx: int
    dy: int
    anchor: str
    """SVG's ``text-anchor``."""


_PLACES = (
    Label(11, 4, "start"),
    Label(-11, 4, "end"),
    Label(0, -12, "middle"),
    Label(0, 22, "middle"),
    Label(9, -9, "start"),
    Label(9, 17, "start"),
    Label(-9, -9, "end"),
    Label(-9, 17, "end"),
)
"""Places to try, best first."""

_Box = tuple[float, float, float, float]


def place_labels(spots: Sequence[Spot]) -> list[Label | None]:
    """Return where the names of markers can stand without meeting a marker or another name, on the narrowest phone.

    On a wider plot everything is farther apart.

    Args:
        spots: The markers, those that are to get a name first before the others.

    Returns:
        One a marker; None where there is no room.
    """
    width, height = _PLOT_PIXELS
    marks = [_marker_box(spot) for spot in spots]
    taken: list[_Box] = []
    labels: list[Label | None] = []
    for spot in spots:
        centre = (spot.x / 100 * width, (1 - spot.y / 100) * height)
        boxes = ((place, _text_box(centre, place, spot.name)) for place in _PLACES)
        free = (
            (place, box)
            for place, box in boxes
            if _is_inside(box) and not any(_meet(box, other) for other in (*marks, *taken))
        )
        place, box = next(free, (None, None))
        labels.append(place)
        if box is not None:
            taken.append(box)
    return labels


def _marker_box(spot: Spot) -> _Box:
    """Return the room of a marker with its interval."""
    width, height = _PLOT_PIXELS
    x, y = spot.x / 100 * width, (1 - spot.y / 100) * height
    top, bottom = (1 - spot.high / 100) * height, (1 - spot.low / 100) * height
    return (
        x - _MARKER_PIXELS,
        min(top, y - _MARKER_PIXELS),
        x + _MARKER_PIXELS,
        max(bottom, y + _MARKER_PIXELS),
    )


def _text_box(centre: tuple[float, float], place: Label, text: str) -> _Box:
    width = _LETTER_PIXELS * len(text)
    left = centre[0] + place.dx - {"start": 0.0, "middle": width / 2, "end": width}[place.anchor]
    bottom = centre[1] + place.dy + _DESCENT_PIXELS
    return (left, bottom - _LINE_PIXELS, left + width, bottom)


def _is_inside(box: _Box) -> bool:
    left, top, right, bottom = box
    width, height = _PLOT_PIXELS
    return left >= 0 and top >= -_OUTSIDE_PIXELS and right <= width + _OUTSIDE_PIXELS and bottom <= height


def _meet(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
