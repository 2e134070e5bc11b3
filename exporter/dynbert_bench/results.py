"""The result of a run as it is written to ``results.json``: the schema, and reading and writing it.

Everything else (``report.md``, the plot, what the terminal shows) is made from this file alone. Times are milliseconds
of one call with the whole batch; ``null`` stands for what was not measured, and never for zero.

The file says ``candidate`` and ``targets``, and so do the report and the messages; in dynbert's code a candidate is a
word for a mask and a target an instruction set, so the benchmark's own are ``competitor`` and ``goals`` here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, field

from dynbert_bench.options import Cell, Shape  # noqa: TC001  (msgspec reads the annotations at run time)
from dynbert_export.errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "RESULTS_VERSION",
    "Environment",
    "FloorInfo",
    "ProductRate",
    "Results",
    "Row",
    "GoalResult",
    "Trial",
    "Verdict",
    "read_results",
    "write_results",
]

RESULTS_VERSION = 1


class Verdict(StrEnum):
    """What became of a goal."""

    MET = "met"
    NOT_MET = "not met"
    NOT_MEASURED = "not measured"
    SMOKE_RUN = "smoke run"
    """A ratio of tiny models says nothing."""


class _Record(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base: immutable, strict about unknown keys."""


class Trial(_Record, frozen=True, kw_only=True):
    """One of the settings that were tried for a competitor."""

    settings: str
    median_ms: float | None = None
    """Of a few bursts; None where there was nothing to choose, or it failed."""
    cosine: float | None = None
    max_abs_difference: float | None = None
    failure: str | None = None
    is_chosen: bool = False


class Row(_Record, frozen=True, kw_only=True):
    """One competitor in one cell."""

    competitor: str = field(name="candidate")
    label: str
    is_ours: bool
    cell: Cell
    trials: tuple[Trial, ...]
    """The settings tried; one is chosen, unless it failed."""
    median_ms: float | None
    """Median over rounds of each burst's median; None where it failed."""
    rounds_ms: tuple[float, ...]
    """Each burst's median, by round: the same index was measured at the same time for all rows of a cell."""
    runs: int
    """Counted calls."""
    cpu_share: float | None
    """CPU time by wall time: above 1 for more than one thread, below 1 where another process had the core."""
    load_seconds: float | None
    """From nothing to ready, imports included."""
    pss_bytes: int | None
    """Proportional set size of the process after the last burst."""
    cosine: float | None
    """Of the outputs with PyTorch's fp32 outputs on the same inputs, of the same lengths."""
    max_abs_difference: float | None
    failure: str | None

    @property
    def place(self) -> str:
        """What messages call it: its label, task and size of input."""
        return f"{self.label} ({self.cell.task}, {self.cell.size})"


class ProductRate(_Record, frozen=True, kw_only=True):
    """How fast one matrix product was."""

    name: str
    precision: str
    macs: int
    """Multiply-accumulate operations of one run."""
    median_ms: float | None
    gmacs_per_second: float | None
    failure: str | None


class FloorInfo(_Record, frozen=True, kw_only=True):
    """The least time of a profile, batch 1."""

    profile: str
    tokens: int
    int8_macs: int
    fp32_macs: int
    ms: float
    int8_scores_ms: float
    """With the product of queries and keys, half of the fp32 operations, at the INT8 peak."""


class GoalResult(_Record, frozen=True, kw_only=True):
    """A goal, and what was measured of it."""

    name: str
    rule: str
    """Such as ``>= 28``."""
    ratio: float | None
    """Of the two medians."""
    lowest: float | None
    """Of the ratios of single rounds."""
    highest: float | None
    verdict: Verdict


class Environment(_Record, frozen=True, kw_only=True):
    """Where and when."""

    date: str
    """UTC, ISO 8601."""
    cpu: str
    target: str | None
    """The best INT8 instruction set."""
    features: tuple[str, ...]
    """Of the processor: those of vector and matrix instructions."""
    cores: int
    core: int | None
    """That all competitors were bound to."""
    threads: int
    governor: str | None
    system: str
    python: str
    load_average: tuple[float, ...]
    """Of 1, 5 and 15 minutes, before anything was done."""
    versions: dict[str, str]
    code: str
    """Hash of dynbert's source."""


class Results(_Record, frozen=True, kw_only=True):
    """A whole run."""

    schema_version: int
    is_quick: bool
    model: Shape
    """What all competitors but the base line ran."""
    base_line: Shape
    lengths: dict[str, str]
    """Profile -> length config."""
    rounds: int
    burst_seconds: float
    environment: Environment
    rows: tuple[Row, ...]
    products: tuple[ProductRate, ...]
    floors: tuple[FloorInfo, ...]
    goals: tuple[GoalResult, ...] = field(name="targets")
    left_out: tuple[str, ...]
    """Groups that the caller left out."""
    notes: tuple[str, ...]

    @property
    def failures(self) -> tuple[str, ...]:
        """What could not be measured, and why."""
        rows = [f"{row.place}: {row.failure}" for row in self.rows if row.failure]
        return (*rows, *(f"{item.name}: {item.failure}" for item in self.products if item.failure))


def write_results(path: Path, results: Results) -> None:
    """Write results as indented JSON.

    Args:
        path: The file.
        results: What to write.
    """
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")


def read_results(path: Path) -> Results:
    """Read what ``write_results`` wrote.

    Args:
        path: The file.

    Returns:
        The results.

    Raises:
        ExportError: If it cannot be read, or follows another schema.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Results)
    except OSError as err:
        raise ExportError(f"Results must be a readable file, got {path} ({err.strerror}).") from err
    except msgspec.DecodeError as err:
        raise ExportError(f"{path} must hold results of schema {RESULTS_VERSION}, got: {err}. Run it again.") from err
