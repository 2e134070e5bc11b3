"""The card of a trained checkpoint: what it was trained from, on what, to bear what, and how good it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert.lengths import LengthConfig
from dynbert.manifest import FULL

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dynbert_export.checkpoint.training_record import TrainingRecord
    from dynbert_export.options.training import TrainingConfig
    from dynbert_export.training.model import Start

__all__ = ["write_card"]


def write_card(path: Path, start: Start, record: TrainingRecord, config: TrainingConfig) -> None:
    """Write the card.

    Args:
        path: Where to.
        start: What was trained.
        record: What for.
        config: How.
    """
    path.write_text("\n".join(_lines(start, record, config)) + "\n", encoding="utf-8")


def _lines(start: Start, record: TrainingRecord, config: TrainingConfig) -> Iterator[str]:
    least = LengthConfig(tuple(round(float(length), 3) for length in record.lengths.lengths))
    yield f"# {config.output.name}"
    yield ""
    yield (
        f"A length-adaptive BERT for {start.task.value}, trained by `dynbert-train` from {start.source.name} on "
        f"{record.data}: it bears a layer dropping up to {config.ratio_bound:.0%} of the tokens that enter it."
    )
    yield ""
    yield f"| profile | {record.metric} before | {record.metric} after |"
    yield "|---|---|---|"
    for name, score in record.scores.items():
        before = record.before.get(name)
        yield f"| {name} | {'' if before is None else f'{before:.4f}'} | {score:.4f} |"
    yield ""
    shown = {profile.name: profile.lengths for profile in config.profiles} or {"smallest": least}
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
        f"{config.epochs:g} epochs, batches of {config.batch_size * config.gradient_accumulation}, learning rate "
        f"{config.learning_rate:g}, seed {config.seed}. The curve is in `training.png`, its numbers in `metrics.jsonl`."
    )
