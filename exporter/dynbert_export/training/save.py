"""A trained model as a checkpoint: weights, config with what it was trained for, tokenizer, card, log and plot."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from dynbert.manifest import Task
from dynbert_export.bundle.sentence_transformers_files import write_sentence_transformers_files
from dynbert_export.checkpoint.tokenizer import load_tokenizer, save_tokenizer
from dynbert_export.checkpoint.training_record import TRAINING_KEY
from dynbert_export.training.card import write_card
from dynbert_export.training.log import read_log
from dynbert_export.training.plot import plot_training

if TYPE_CHECKING:
    from pathlib import Path

    from dynbert_export.checkpoint.training_record import TrainingRecord
    from dynbert_export.options.training import TrainingConfig
    from dynbert_export.training.model import Start

__all__ = ["save_checkpoint"]


def save_checkpoint(
    folder: Path, model: Any, start: Start, record: TrainingRecord, config: TrainingConfig, *, log: Path
) -> None:
    """Write a checkpoint that transformers and ``export`` read.

    Args:
        folder: Where to write; must exist.
        model: The trained model.
        start: What it was trained from.
        record: What it was trained for.
        config: How.
        log: The metrics.
    """
    setattr(model.config, TRAINING_KEY, record.to_json())
    model.save_pretrained(folder, safe_serialization=True)
    save_tokenizer(load_tokenizer(start), folder, max_length=start.max_length)
    if start.task is Task.FEATURE_EXTRACTION and start.files is not None:
        write_sentence_transformers_files(
            folder,
            start.files.pooling,
            start.files.package,
            dimensions=start.config.hidden_size,
            max_length=start.max_length,
        )
    shutil.copyfile(log, folder / "metrics.jsonl")
    entries = read_log(log)
    plot_training(folder / "training.png", entries, metric=record.metric, before=record.before)
    write_card(folder / "README.md", start, record, config, steps=max((entry["step"] for entry in entries), default=0))
