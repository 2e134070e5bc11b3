"""What a reader of the numbers should know of the machine while they were measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynbert_bench.results import Environment, Row

__all__ = ["note_load", "note_shares"]

_MAX_LOAD = 0.5
"""Load average above which a machine is not quiet."""
_FAIR_SHARES = (0.95, 1.05)
"""CPU time by wall time of one thread that has a core to itself."""


def note_load(environment: Environment) -> list[str]:
    """Say whether the machine was busy before anything was done.

    Args:
        environment: Of the run.

    Returns:
        A note where it was; else none.
    """
    load = environment.load_average[0] if environment.load_average else 0.0
    note = (
        f"The load average was {load:.2f} at the start, on {environment.cores} usable cores: other processes were at "
        "work. Ratios suffer less than times; run it again on a quiet machine."
    )
    return [note] if load > _MAX_LOAD else []


def note_shares(rows: Sequence[Row]) -> list[str]:
    """Say whose CPU time was not that of one thread with a core to itself.

    Args:
        rows: Of the run.

    Returns:
        A note for each row with more than one thread, and one for all that had less than a core.
    """
    least, most = _FAIR_SHARES
    shares = {row.place: row.cpu_share for row in rows if row.cpu_share is not None}
    notes = [
        f"{name} used {share:.2f} s of CPU a second: that is more than one thread."
        for name, share in shares.items()
        if share > most
    ]
    short = {name: share for name, share in shares.items() if share < least}
    if short:
        worst = min(short, key=lambda name: short[name])
        notes.append(
            f"Other processes had the core meanwhile in {len(short)} of {len(shares)} measurements; the worst off, "
            f"{worst}, had it for {short[worst]:.0%} of its time. Run it again on a quiet machine."
        )
    return notes
