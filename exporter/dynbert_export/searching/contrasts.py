"""What a profile is compared with: the best that would be had without a search, or by counting operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert_export.searching.results import Role
from dynbert_export.searching.seeds import FULL_FAMILY, STAIRCASE, UNIFORM

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dynbert_export.searching.study import TrialRecord

__all__ = ["find_contrasts"]

_FAMILIES = {Role.UNIFORM: (UNIFORM, FULL_FAMILY), Role.STAIRCASE: (STAIRCASE, FULL_FAMILY)}
"""Full is the uniform config, and the staircase, that drops nothing."""


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
