"""What a checkpoint was trained to bear, as its ``config.json`` has it under ``length_training``.

``dynbert-train`` writes it, and an export reads it: a profile that drops more than the model ever saw dropped is a
profile whose quality nobody knows. transformers keeps keys that it does not know, so that the record stays in the
config through ``save_pretrained``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dynbert.errors import LengthConfigError
from dynbert.lengths import LengthConfig
from dynbert_export.checkpoint.file_names import CONFIG_FILE
from dynbert_export.checkpoint.json_files import read_json_object
from dynbert_export.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from dynbert_export.options.profiles import NamedLengths

__all__ = ["TRAINING_KEY", "TrainingRecord", "explain_excess", "is_trained_checkpoint"]

TRAINING_KEY = "length_training"
_ROUNDING = 5e-3
"""Shares are written with two or three digits; that much less is no other profile."""


@dataclass(frozen=True)
class TrainingRecord:
    """What a checkpoint was trained for."""

    lengths: LengthConfig
    """Fractions of the input's length, one a layer: the least that was kept in training."""
    data: str
    """Name of what it was trained on."""
    evaluation: str = ""
    """Name of what it was judged by."""
    metric: str = ""
    """What ``scores`` are."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Profile -> how good the trained model is."""
    before: Mapping[str, float] = field(default_factory=dict)
    """The same before training."""

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values.

        Returns:
            What stands under ``TRAINING_KEY``.
        """
        return {
            "lengths": list(self.lengths.lengths),
            "data": self.data,
            "evaluation": self.evaluation,
            "metric": self.metric,
            "scores": dict(self.scores),
            "before": dict(self.before),
        }

    @classmethod
    def from_json(cls, value: object, num_layers: int, path: Path) -> TrainingRecord | None:
        """Read a record.

        Args:
            value: What stands under ``TRAINING_KEY``; None where nothing does.
            num_layers: Hidden layers of the model.
            path: The file, for the message.

        Returns:
            The record, of which only lengths and data are read; None without one.

        Raises:
            CheckpointError: If it has another form.
        """
        if value is None:
            return None
        try:
            return cls(*_parse(value, num_layers))
        except LengthConfigError as err:
            raise CheckpointError(
                f"{TRAINING_KEY} in {path} must have data and the lengths of {num_layers} layers as fractions, got: "
                f"{err} Take it out of the file."
            ) from err

    def find_excess(
        self, lengths: LengthConfig, max_length: int, *, layers: tuple[int, ...] | None = None
    ) -> int | None:
        """Return the first layer after which a profile keeps less than the model was trained to bear.

        Args:
            lengths: The profile's.
            max_length: Longest input, of which counts are the smallest share.
            layers: Indices of the layers that run; None for all. The lengths of the others say nothing.

        Returns:
            The layer's index; None where there is none.
        """
        total = 1.0 if lengths.is_fractional else max_length
        shares = [min(length / total, 1.0) for length in lengths.lengths]
        running = range(len(shares)) if layers is None else layers
        return next((layer for layer in running if shares[layer] < self.lengths.lengths[layer] - _ROUNDING), None)


def _parse(value: object, num_layers: int) -> tuple[LengthConfig, str]:
    """Return lengths and data of a record."""
    if not isinstance(value, Mapping) or not isinstance(value.get("data"), str):
        raise LengthConfigError("no lengths and data.")
    lengths = LengthConfig.of(value.get("lengths", ()))
    lengths.check_layers(num_layers)
    if not lengths.is_fractional:
        raise LengthConfigError(f"counts: {lengths}.")
    return lengths, value["data"]


def explain_excess(profiles: Iterable[NamedLengths], record: TrainingRecord, max_length: int) -> tuple[str, ...]:
    """Return a sentence about each profile that drops more than a model was trained to bear.

    Args:
        profiles: Those that are to be exported.
        record: What the model was trained for.
        max_length: Longest input in tokens.

    Returns:
        The sentences.
    """
    notes = []
    for name, lengths, layers in ((profile.name, profile.lengths, profile.layers) for profile in profiles):
        layer = None if lengths is None else record.find_excess(lengths, max_length, layers=layers)
        if lengths is not None and layer is not None:
            notes.append(
                f"The profile {name} keeps {lengths.lengths[layer]:g} after layer {layer + 1}; the checkpoint was "
                f"trained to bear {record.lengths.lengths[layer]:.3g} of the input there, and no less. Measure its "
                "quality, or train with a higher --ratio-bound or lower --least-lengths."
            )
    return tuple(notes)


def is_trained_checkpoint(folder: Path) -> bool:
    """Return whether a training left this folder.

    Args:
        folder: Any folder.

    Returns:
        Whether its ``config.json`` has a record.
    """
    path = folder / CONFIG_FILE
    if not path.is_file():
        return False
    try:
        return TRAINING_KEY in read_json_object(path)
    except CheckpointError:
        return False
