"""What a profile is compared with: the best that would be had without a search, or by counting operations."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dynbert_export.searching.results import Role
from dynbert_export.searching.seeds import FULL_FAMILY, STAIRCASE, UNIFORM
from dynbert_export.searching.space import LEAST_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dynbert_export.searching.candidate import Candidate
    from dynbert_export.searching.space import Space
    from dynbert_export.searching.study import TrialRecord

__all__ = ["find_best", "find_contrasts", "propose_contrasts"]

_NEAR = 1.03
"""Shares whose ratio is below it are not told apart."""
_FAMILIES = {Role.UNIFORM: (UNIFORM, FULL_FAMILY), Role.STAIRCASE: (STAIRCASE, FULL_FAMILY)}
"""Full is the uniform config, and the staircase, that drops nothing."""


def propose_contrasts(
    profiles: Iterable[TrialRecord], records: Sequence[TrialRecord], space: Space
) -> list[tuple[str, Candidate]]:
    """Return configs to try so that profiles are compared with nearly the best of each family.

    Between the smallest share that is as good as a profile and the next smaller one that is not, the middle: a step of
    a bisection.

    Args:
        profiles: The profiles.
        records: Of the study.
        space: What is searched.

    Returns:
        Family and config of each; none where all are near enough.
    """
    make = {UNIFORM: space.uniform, STAIRCASE: space.staircase}
    proposed: dict[str, tuple[str, Candidate]] = {}
    for profile in profiles:
        for families in _FAMILIES.values():
            family = families[0]
            # The last share alone says which uniform config or staircase it is.
            tried = [(space.shares_of(each.candidate)[-1], each) for each in records if each.family in families]
            good = [share for share, each in tried if (each.quality or 0.0) >= (profile.quality or 0.0)]
            if not good:
                continue
            least = min(good)
            below = max([share for share, _ in tried if share < least], default=LEAST_SHARE)
            if least > _NEAR * below:
                candidate = make[family](math.sqrt(least * below))
                proposed.setdefault(str(candidate), (family, candidate))
    return list(proposed.values())


def find_contrasts(
    profile: TrialRecord, records: Sequence[TrialRecord], count: Callable[[TrialRecord], float]
) -> dict[Role, TrialRecord]:
    """Return what a profile is compared with, each at least as good as it on the part that was searched by.

    Args:
        profile: The profile.
        records: Of the study.
        count: The operations of a config.

    Returns:
        Role -> the fastest uniform config and the fastest staircase by predicted time, and the config of the fewest
        operations; a role without a config that is good enough is left out.
    """
    good = [each for each in records if each.quality is not None and each.quality >= (profile.quality or 0.0)]
    found: dict[Role, TrialRecord] = {}
    for role, families in _FAMILIES.items():
        alike = [each for each in good if each.family in families]
        if alike:
            found[role] = min(alike, key=lambda each: (each.milliseconds, each.number))
    if good:
        found[Role.MACS] = min(good, key=lambda each: (count(each), each.number))
    return found


def find_best(records: Sequence[TrialRecord]) -> dict[Role, TrialRecord]:
    """Return what a profile is compared with that is better than all of a family.

    Args:
        records: Of the study.

    Returns:
        Role -> the uniform config and the staircase of the highest quality, the fastest of equal ones.
    """
    best: dict[Role, TrialRecord] = {}
    for role, families in _FAMILIES.items():
        judged = [each for each in records if each.family in families and each.quality is not None]
        if judged:
            best[role] = max(judged, key=lambda each: (each.quality or 0.0, -each.milliseconds, -each.number))
    return best
