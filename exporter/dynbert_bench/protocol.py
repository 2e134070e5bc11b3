"""What the benchmark and its child processes say to each other: JSON, a line each way.

A child is a process of its own because a measurement must not share a heap, a thread pool or a library's global state
with another, and because a peer that crashes must not take the run with it. A child writes answers to the standard
output that it was started with; whatever the packages in it print goes to the log.
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct

__all__ = ["Burst", "BurstRequest", "MakeSpec", "MeasureSpec", "Ready"]


class MakeSpec(Struct, frozen=True, kw_only=True):
    """Make one artifact."""

    kind: str
    settings: dict[str, Any]
    sources: dict[str, str]
    """Name -> folder of the artifacts that it is made from."""
    folder: str
    """Where to write; exists and is empty."""


class MeasureSpec(Struct, frozen=True, kw_only=True):
    """Load one competitor, then answer bursts."""

    engine: str
    artifact: str
    """Folder of what it loads."""
    options: dict[str, Any]
    inputs: str
    """A ``.npz`` of feeds, see ``arrays.py``."""
    outputs: str
    """Where to write the outputs for these feeds, in the same form."""
    warm_up_seconds: float
    """Of runs before it is ready."""
    core: int | None
    """The only core that the process may use; None where the system has no such thing."""


class Ready(Struct, frozen=True, kw_only=True):
    """A competitor is loaded and has answered every feed once."""

    load_seconds: float
    pss_bytes: int | None
    """Proportional set size after the first answers; None where the system does not say."""


class BurstRequest(Struct, frozen=True, kw_only=True):
    """Run for about so long."""

    seconds: float


class Burst(Struct, frozen=True, kw_only=True):
    """Some runs in a row."""

    seconds: tuple[float, ...]
    """Of each run."""
    cpu_seconds: float
    """CPU time of all threads of the process over all runs: more than the runs' sum means more than one thread, less
    means that another process had the core."""
    pss_bytes: int | None
