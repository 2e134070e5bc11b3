"""The card of a trained checkpoint: what it was trained from, on what, to bear what, and how good it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dynbert.lengths import LengthConfig
from dynbert.manifest import FULL
from dynbert_export.training.length_drop import SMALLEST, make_length_drop, smallest_fractions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dynbert_export.checkpoint.training_record import TrainingRecord
    from dynbert_export.options.training import TrainingConfig
    from dynbert_export.training.model import Start

__all__ = ["write_card"]


def write_card(path: Path, start: Start, record: TrainingRecord, config: TrainingConfig, *, steps: int) -> None:
    """Write the card.

    Args:
        path: Where to.
        start: What was trained.
        record: What for.
        config: How.
        steps: Updates of the weights.
    """
    path.write_text("\n".join(_lines(start, record, config, steps)) + "\n", encoding="utf-8")


def _lines(start: Start, record: TrainingRecord, config: TrainingConfig, steps: int) -> Iterator[str]:
    least = _rounded(record.lengths)
    yield f"# {config.output.name}"
    yield ""
    yield (
        f"A length-adaptive BERT for {start.task.value}, trained by `dynbert-train` from {start.source.name} on "
        f"{record.data}{_bears(record, config)}."
    )
    yield ""
    yield f"| profile | {record.metric} before | {record.metric} after |"
    yield "|---|---|---|"
    for name, score in record.scores.items():
        before = record.before.get(name)
        yield f"| {name} | {'' if before is None else f'{before:.4f}'} | {score:.4f} |"
    yield ""
    smallest = smallest_fractions(len(start.layers), make_length_drop(config))
    shown = {profile.name: profile.lengths for profile in config.profiles} or {SMALLEST: _rounded(smallest)}
    lengths = "; ".join(f"`{name}` keeps {lengths}" for name, lengths in shown.items())
    yield f"Judged on {record.evaluation}. `{FULL}` drops nothing; {lengths}."
    yield ""
    yield f"Least that was kept in training, as shares of the input after each layer: {least}."
    yield ""
    yield "```bash"
    yield f"dynbert-export --model {config.output.name} --length-config small={least} -o bundle"
    yield "```"
    yield ""
    yield (
        f"{steps} steps, batches of {config.batch_size * config.gradient_accumulation}, learning rate "
        f"{config.learning_rate:g}, seed {config.seed}. The curve is in `training.png`, its numbers in `metrics.jsonl`."
    )


def _bears(record: TrainingRecord, config: TrainingConfig) -> str:
    """Return what the model was trained to bear, unless it never dropped a token."""
    if min(record.lengths.lengths) == 1.0:
        return ""
    if config.least_lengths is not None:
        return f": it bears keeping {_rounded(record.lengths)} of the tokens after the layers"
    return f": it bears a layer dropping up to {config.ratio_bound:.0%} of the tokens that enter it"


def _rounded(lengths: LengthConfig) -> LengthConfig:
    """Return shares with few digits that are no smaller: what keeps them was trained for."""
    return LengthConfig(tuple(math.ceil(length * 1000) / 1000 for length in lengths.lengths))
