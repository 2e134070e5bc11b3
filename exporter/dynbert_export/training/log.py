"""What a training tells while it runs: metrics as JSON lines, and progress with the time left."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

__all__ = ["MetricsLog", "StepReport", "read_log"]


class MetricsLog(TrainerCallback):
    """Writes every entry of Trainer's log as a line; a resumed training begins with those that it goes on from."""

    def __init__(self, path: Path) -> None:
        """Make a log.

        Args:
            path: The file; replaced when the training begins.
        """
        self._path = path

    def rewrite(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Write all entries that there are, in place of a line that a killed training may have left half-written.

        Args:
            entries: Of Trainer's log.
        """
        self._path.write_text("".join(map(_to_line, entries)), encoding="utf-8")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002, D102
        if state.is_world_process_zero:
            self.rewrite(state.log_history)

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002, D102
        if state.is_world_process_zero:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_to_line(state.log_history[-1]))


class StepReport(TrainerCallback):
    """Tells a listener of steps and losses."""

    def __init__(self, update: Callable[[int, int, str], None]) -> None:
        """Make a callback.

        Args:
            update: Is told of steps done, steps in all, and what there is to say.
        """
        self._update = update
        self._loss = ""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002, D102
        self._update(state.global_step, state.max_steps, self._loss)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002, D102
        self._update(state.global_step, state.max_steps, self._loss)

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002, D102
        loss = state.log_history[-1].get("loss")
        if loss is not None:
            self._loss = f"loss {loss:.4f}"


def read_log(path: Path) -> Sequence[Mapping[str, Any]]:
    """Read a log.

    Args:
        path: As ``MetricsLog`` wrote it.

    Returns:
        Its entries.
    """
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _to_line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry, sort_keys=True) + "\n"
