"""The front of a search, and which of it become profiles: pure functions of qualities and times."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert_export.gates.dominance import is_faster_somewhere

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Rival", "choose_evenly", "find_front", "find_superior", "hypervolume", "profile_names"]

_NAMES = {
    1: ("fast",),
    2: ("accurate", "fast"),
    3: ("accurate", "balanced", "fast"),
    4: ("accurate", "balanced", "fast", "faster"),
    5: ("accurate", "balanced", "fast", "faster", "fastest"),
}


@dataclass(frozen=True)
class Rival:
    """A graph that is compared with others."""

    name: str
    quality: float
    seconds: tuple[float, ...]
    """Measured, one an input's length; of all rivals the same lengths."""


def profile_names(count: int) -> tuple[str, ...]:
    """Return what profiles are called, the slowest first.

    Args:
        count: How many there are.

    Returns:
        The names.
    """
    return _NAMES.get(count) or tuple(f"profile-{number}" for number in range(1, count + 1))


def find_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Return which points no other one beats.

    Args:
        points: Quality, more is better, and time, less is better.

    Returns:
        Places of the points, the fastest first; of equal points the first one.
    """
    order = sorted(range(len(points)), key=lambda place: (points[place][1], -points[place][0], place))
    front: list[int] = []
    for place in order:
        if not front or points[place][0] > points[front[-1]][0]:
            front.append(place)
    return front


def hypervolume(points: Iterable[tuple[float, float]], reference: tuple[float, float]) -> float:
    """Return the area between a front and a reference point (Zitzler and Thiele 1998), time on a logarithmic scale.

    Args:
        points: Quality and time.
        reference: The least quality and the longest time that count; a point beyond it adds nothing.

    Returns:
        Quality times natural logarithm of time, at least 0.
    """
    quality, slowest = reference
    inside = [point for point in points if point[0] > quality and point[1] < slowest]
    area = 0.0
    for place in find_front(inside):
        area += (inside[place][0] - quality) * math.log(slowest / inside[place][1])
        quality = inside[place][0]
    return area


def choose_evenly(seconds: Sequence[float], count: int, *, slowest: float) -> list[int]:
    """Choose times that are spread evenly between the slowest and the fastest, on a logarithmic scale.

    Args:
        seconds: To choose from, each less than ``slowest``.
        count: How many, at most; fewer where there are no more.
        slowest: Of what is there anyway, and is not chosen.

    Returns:
        Places of the chosen ones, the slowest first. The fastest is always chosen.
    """
    if not seconds:
        return []
    fastest = min(seconds)
    left = list(range(len(seconds)))
    chosen = []
    for step in range(min(count, len(seconds)), 0, -1):  # the fastest first: its target is there exactly
        target = math.log(slowest) + step / min(count, len(seconds)) * math.log(fastest / slowest)
        place = min(left, key=lambda each: abs(math.log(seconds[each]) - target))
        left.remove(place)
        chosen.append(place)
    return sorted(chosen, key=lambda each: -seconds[each])


def find_superior(one: Rival, others: Iterable[Rival]) -> Rival | None:
    """Return a graph that is better than another one and slower on no input.

    Args:
        one: The graph that is to be worth having.
        others: What else there is.

    Returns:
        The first of them; None where each costs time somewhere, or is worse.
    """
    for other in others:
        is_as_good = other.name != one.name and other.quality >= one.quality
        if is_as_good and not is_faster_somewhere(one.seconds, other.seconds):
            return other
    return None
