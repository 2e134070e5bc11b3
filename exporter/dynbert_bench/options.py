"""What is measured: the models, the inputs, how often. One frozen plan; ``--quick`` is another plan, not other code.

Models and cells are msgspec's structs because ``results.json`` has them as they are, under the names that they have
here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from dynbert.lengths import LengthConfig
from dynbert.manifest import FULL, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BALANCED", "FAST", "FULL_PLAN", "QUICK_PLAN", "Cell", "Group", "Plan", "Shape", "Timing", "longest_cell"]

FAST = "fast"
"""The profile whose lengths the peers get as well."""
BALANCED = "balanced"


class Group(StrEnum):
    """Candidates that can be left out together."""

    TORCH = "torch"
    ONNXRUNTIME = "onnxruntime"
    OPTIMUM = "optimum"
    OPENVINO = "openvino"
    BASE_LINE = "base-line"


class Shape(Struct, frozen=True, forbid_unknown_fields=True):
    """The shape of a BERT."""

    name: str
    layers: int
    hidden: int
    heads: int
    intermediate: int
    vocabulary: int = 30522


class Cell(Struct, frozen=True, forbid_unknown_fields=True):
    """One column of the table: what every competitor runs."""

    task: Task
    tokens: int
    """Of each text, without padding."""
    batch: int = 1
    """Texts at once."""

    def __str__(self) -> str:
        return f"{self.task.value}, {self.tokens} tokens{self._further}"

    @property
    def size(self) -> str:
        """What the tables call the input: its tokens, and the batch where it is more than one text."""
        return f"{self.tokens}{self._further}"

    @property
    def _further(self) -> str:
        return f", batch {self.batch}" if self.batch != 1 else ""


def longest_cell(cells: Iterable[Cell]) -> Cell:
    """Return the cell that stands for all in figures and tables: the longest input of one text.

    Args:
        cells: One of them at least has batch 1.

    Returns:
        The first of the longest.
    """
    return max((cell for cell in cells if cell.batch == 1), key=lambda cell: cell.tokens)


@dataclass(frozen=True)
class Timing:
    """How often and how long."""

    rounds: int
    """Bursts of each competitor in each cell."""
    burst_seconds: float
    warm_up_seconds: float
    """What a process runs before its first burst."""
    trial_bursts: int
    """Bursts by which the best of a competitor's setups is found."""


@dataclass(frozen=True)
class Plan:
    """A whole run."""

    shape: Shape
    """Of the model that all competitors but the base line run."""
    base_line: Shape
    cells: tuple[Cell, ...]
    fast: LengthConfig
    """Lengths of the profile ``fast``, and of the peers' graphs with lengths."""
    balanced: LengthConfig
    timing: Timing
    is_quick: bool = False
    """A smoke run: few competitors, and no verdict on goals."""

    @property
    def max_length(self) -> int:
        """Longest input in tokens; what the graphs are exported for."""
        return max(cell.tokens for cell in self.cells)

    @property
    def lengths(self) -> dict[str, LengthConfig | None]:
        """Profile -> its length config; None drops nothing."""
        return {FULL: None, BALANCED: self.balanced, FAST: self.fast}


FULL_PLAN = Plan(
    shape=Shape("MiniLM-L6-H384", layers=6, hidden=384, heads=12, intermediate=1536),
    base_line=Shape("BERT-base", layers=12, hidden=768, heads=12, intermediate=3072),
    cells=(
        *(Cell(Task.QUESTION_ANSWERING, tokens) for tokens in (16, 32, 64, 128, 256, 384)),
        Cell(Task.QUESTION_ANSWERING, 128, batch=8),
        Cell(Task.TEXT_CLASSIFICATION, 128),
    ),
    fast=LengthConfig((315, 251, 242, 159, 142, 33)),
    balanced=LengthConfig((0.9, 0.8, 0.7, 0.6, 0.5, 0.4)),
    timing=Timing(rounds=9, burst_seconds=0.3, warm_up_seconds=0.3, trial_bursts=3),
)
"""The lengths are those of the published QuaLA-MiniLM; ``balanced`` is the README's example."""

QUICK_PLAN = Plan(
    shape=Shape("tiny", layers=3, hidden=96, heads=4, intermediate=192, vocabulary=1500),
    base_line=Shape("tiny base line", layers=4, hidden=128, heads=4, intermediate=256, vocabulary=1500),
    cells=(Cell(Task.QUESTION_ANSWERING, 64),),
    fast=LengthConfig((40, 24, 6)),
    balanced=LengthConfig((0.9, 0.7, 0.5)),
    timing=Timing(rounds=2, burst_seconds=0.05, warm_up_seconds=0.05, trial_bursts=1),
    is_quick=True,
)
