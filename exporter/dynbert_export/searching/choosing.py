"""Which configs of the front become profiles, by what their frozen graphs were measured at."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert_export.gates.dominance import FASTER
from dynbert_export.searching.front import (
    Rival,
    choose_evenly,
    find_front,
    find_superior,
    profile_names,
)
from dynbert_export.searching.results import Refusal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynbert_export.searching.study import TrialRecord

__all__ = ["Choice", "Slots", "fill_slots", "list_slots", "prefer_faster", "refuse_again"]

_PRICE = 3.0
"""A step to a faster config is worth it as long as it costs at most this many times what the caller would give (the
quality that need not be kept) for a model e times as fast. At the end of a front quality falls from a cliff."""


@dataclass(frozen=True)
class Slots:
    """Profiles to be, before anything was measured."""

    chosen: Mapping[str, TrialRecord]
    """Profile's name -> config, the slowest first."""
    alternates: tuple[TrialRecord, ...]
    """Others of the front, to take the place of one that is refused."""

    @property
    def all(self) -> tuple[TrialRecord, ...]:
        """Everything that is to be measured."""
        return (*self.chosen.values(), *self.alternates)


@dataclass(frozen=True)
class Choice:
    """Profiles, and what was refused."""

    profiles: Mapping[str, TrialRecord]
    """Profile's name -> config, the slowest first."""
    refusals: tuple[Refusal, ...]


def list_slots(records: Sequence[TrialRecord], full: TrialRecord, *, count: int, least_quality: float) -> Slots:
    """Choose configs along the front, evenly in the logarithm of the predicted time.

    Args:
        records: Of a study.
        full: The one that drops nothing.
        count: Profiles that are wanted.
        least_quality: Below it no profile is wanted.

    Returns:
        The configs; fewer where the front has no more.
    """
    worth = [
        each
        for each in records
        if each.quality is not None and each.quality >= least_quality and each.milliseconds < full.milliseconds
    ]
    front = [worth[place] for place in find_front([(each.quality or 0.0, each.milliseconds) for each in worth])]
    _cut_steep_end(front, price=_PRICE * ((full.quality or 0.0) - least_quality))
    times = [each.milliseconds for each in front]
    chosen = [front[place] for place in choose_evenly(times, count, slowest=full.milliseconds)]
    names = profile_names(len(chosen))
    others = [each for each in front if each not in chosen]
    others.sort(key=lambda each: min(abs(math.log(each.milliseconds / other.milliseconds)) for other in chosen))
    return Slots(dict(zip(names, chosen, strict=True)), tuple(others[: len(chosen)]))


def _cut_steep_end(front: list[TrialRecord], *, price: float) -> None:
    """Leave out the fastest configs as long as the next slower one would give back more quality than its time costs.

    ``front`` has the fastest first, and is changed in place; ``price`` is in quality by the logarithm of time.
    """
    while len(front) > 1:
        fastest, slower = front[:2]
        gain = (slower.quality or 0.0) - (fastest.quality or 0.0)
        if gain <= price * math.log(slower.milliseconds / fastest.milliseconds):
            return
        del front[0]


def prefer_faster(
    slots: Slots, seconds: Mapping[int, Sequence[float]], rivals: Mapping[int, Sequence[TrialRecord]]
) -> Slots:
    """Give slots to configs that turned out to be faster than those that were predicted to be.

    Args:
        slots: Profiles to be.
        seconds: Trial's number -> what its frozen graph took at the marks of the data's lengths.
        rivals: Number of a chosen trial -> others that are at least as good.

    Returns:
        The slots; each has the fastest of its own config and its rivals that is in no other slot.
    """
    chosen = dict(slots.chosen)
    for name, record in slots.chosen.items():
        taken = {each.number for each in chosen.values()} | {each.number for each in slots.alternates}
        others = [each for each in rivals.get(record.number, ()) if each.number not in taken]
        fastest = min([record, *others], key=lambda each: _mean_log(seconds[each.number]))
        if _mean_log(seconds[fastest.number]) < _mean_log(seconds[record.number]) + math.log(FASTER):
            chosen[name] = fastest
    return Slots(chosen, slots.alternates)


def _mean_log(seconds: Sequence[float]) -> float:
    return sum(map(math.log, seconds)) / len(seconds)


def fill_slots(slots: Slots, seconds: Mapping[int, Sequence[float]], full: Rival) -> Choice:
    """Refuse what is faster on no input than something better, and let others of the front take its place.

    Args:
        slots: Profiles to be.
        seconds: Trial's number -> what its frozen graph took at the marks of the data's lengths.
        full: The graph that drops nothing.

    Returns:
        The profiles.
    """
    profiles: dict[str, TrialRecord] = {}
    refusals: list[Refusal] = []
    spare = list(slots.alternates)
    for name, first in slots.chosen.items():
        nearest = sorted(spare, key=lambda each: abs(math.log(each.milliseconds / first.milliseconds)))
        better = [full, *(_rival(kept, record, seconds) for kept, record in profiles.items())]
        for record in (first, *nearest):
            superior = find_superior(_rival(name, record, seconds), better)
            if superior is None:
                profiles[name] = record
                break
            if record is first:
                refusals.append(_refuse(name, record, superior, seconds))
        spare = [each for each in spare if each is not profiles.get(name)]
    by_time = sorted(profiles.items(), key=lambda item: -item[1].milliseconds)
    return Choice(dict(by_time), tuple(refusals))


def refuse_again(choice: Choice, seconds: Mapping[int, Sequence[float]], full: Rival) -> Choice:
    """Hold profiles to the same rule by the last measurement; nothing takes their place any more.

    Args:
        choice: The profiles.
        seconds: As for ``fill_slots``.
        full: The graph that drops nothing.

    Returns:
        Those that are left.
    """
    kept = fill_slots(Slots(choice.profiles, ()), seconds, full)
    return Choice(kept.profiles, (*choice.refusals, *kept.refusals))


def _rival(name: str, record: TrialRecord, seconds: Mapping[int, Sequence[float]]) -> Rival:
    return Rival(name, record.quality or 0.0, tuple(seconds[record.number]))


def _refuse(name: str, record: TrialRecord, superior: Rival, seconds: Mapping[int, Sequence[float]]) -> Refusal:
    own = ", ".join(f"{1e3 * each:.2f}" for each in seconds[record.number])
    others = ", ".join(f"{1e3 * each:.2f}" for each in superior.seconds)
    return Refusal(
        name,
        str(record.candidate),
        record.number,
        f"it is faster on no input than {superior.name}, which is better ({record.quality:.4f} against "
        f"{superior.quality:.4f}): {own} ms against {others}",
    )
