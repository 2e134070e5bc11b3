"""What the caller asks for, and the plan that follows: another model has another shape, task and limit."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from msgspec import structs

from dynbert.errors import InputError
from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_bench.competitors import Choices
from dynbert_bench.options import FULL_PLAN, Cell, Group, Plan, Shape

if TYPE_CHECKING:
    from pathlib import Path

    from dynbert_export.checkpoint.load import Checkpoint

__all__ = ["Request", "apply_request"]


@dataclass(frozen=True)
class Request:
    """What the caller asks for."""

    output: Path
    """Folder of the files and of the prepared artifacts."""
    plan: Plan = FULL_PLAN
    model: str | None = None
    """Folder or hub id of a checkpoint in place of random weights."""
    lengths: LengthConfig | None = None
    """Lengths of ``fast`` in place of the plan's."""
    calibration: Path | None = None
    without: frozenset[Group] = field(default_factory=frozenset)


def apply_request(request: Request) -> tuple[Plan, Choices]:
    """Return what is measured for a request.

    Args:
        request: The caller's.

    Returns:
        Its plan with what the caller changed, and the other choices.

    Raises:
        InputError: If the lengths do not fit the model, or the model reads less than the shortest input.
        ExportError: If the given checkpoint cannot be used.
    """
    plan = request.plan
    calibration = str(request.calibration.absolute()) if request.calibration is not None else None
    choices = Choices(calibration=calibration, without=request.without)
    if request.model is not None:
        from dynbert_export.checkpoint.load import load_checkpoint

        checkpoint = load_checkpoint(request.model)
        plan = _fit_plan(plan, checkpoint)
        choices = replace(choices, model=str(checkpoint.folder.resolve()), model_digest=_digest(checkpoint.folder))
    lengths = request.lengths or plan.fast
    lengths.check_layers(plan.shape.layers)
    if not lengths.is_fractional and max(lengths.lengths) > plan.max_length:
        lengths = LengthConfig(tuple(min(int(length), plan.max_length) for length in lengths.lengths))
    return replace(plan, fast=lengths), choices


def _fit_plan(plan: Plan, checkpoint: Checkpoint) -> Plan:
    """Return the plan for another model: its shape, its task, and inputs that it can read."""
    config = checkpoint.config
    shape = Shape(
        checkpoint.name,
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size,
        config.vocab_size,
    )
    return replace(
        plan,
        shape=shape,
        base_line=structs.replace(plan.base_line, vocabulary=max(plan.base_line.vocabulary, config.vocab_size)),
        cells=_cells_of_task(plan, checkpoint.task, checkpoint.max_length),
        balanced=_spread(plan.balanced, config.num_hidden_layers),
    )


def _cells_of_task(plan: Plan, task: Task, max_length: int) -> tuple[Cell, ...]:
    cells = [cell for cell in plan.cells if cell.task is Task.QUESTION_ANSWERING and cell.tokens <= max_length]
    if not cells:
        least = min(cell.tokens for cell in plan.cells)
        raise InputError(f"The model must read at least {least} tokens, got a maximum length of {max_length}.")
    return tuple(structs.replace(cell, task=task) for cell in cells)


def _spread(lengths: LengthConfig, layers: int) -> LengthConfig:
    """Return fractions that fall over another number of layers as these do over theirs."""
    given = lengths.lengths
    return LengthConfig(tuple(float(given[index * len(given) // layers]) for index in range(layers)))


def _digest(folder: Path) -> str:
    """Return a hash of a checkpoint's files by name, size and time of change: reading gigabytes would take longer."""
    parts = []
    for path in sorted(folder.iterdir()):
        status = path.stat()
        parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
