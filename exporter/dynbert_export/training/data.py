"""What a training reads: the data to learn from, and the data to be judged by."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dynbert.errors import InputError
from dynbert.scoring.examples import Columns, QuestionExample
from dynbert.scoring.labelled import load_data

if TYPE_CHECKING:
    from dynbert.scoring.examples import LabelledData
    from dynbert_export.options.training import TrainingConfig
    from dynbert_export.training.model import Start

__all__ = ["read_data"]

_MAX_HELD_OUT = 1000


def read_data(config: TrainingConfig, start: Start) -> tuple[LabelledData, LabelledData]:
    """Read and check all data.

    Args:
        config: The options.
        start: What is trained.

    Returns:
        The examples to train on, and those to judge by; where there is no ``eval_data``, a part of the same file.

    Raises:
        DataError: If a row cannot be used, or there are too few.
        InputError: If there is nothing to hold out, or no such problem type.
    """
    columns = Columns(config.text_column, config.pair_column, config.label_column, config.choice_columns)
    asked = config.problem_type or start.problem_type

    def read(name: str, split: str, labels: tuple[str, ...], problem_type: str | None) -> LabelledData:
        return load_data(
            name,
            start.task,
            split=split,
            columns=columns,
            label_names=labels,
            problem_type=problem_type,
            for_training=True,
        )

    training = read(config.data, config.split, start.labels, asked)
    if config.eval_data is not None:
        labels = start.labels or training.label_names
        return training, read(config.eval_data, config.eval_split, labels, training.problem_type)
    return _hold_out(training, config.eval_share, config.seed)


def _hold_out(data: LabelledData, share: float, seed: int) -> tuple[LabelledData, LabelledData]:
    """Split data at random; questions about one context stay together."""
    groups: dict[object, list[int]] = {}
    for index, example in enumerate(data.examples):
        key = example.context if isinstance(example, QuestionExample) else index
        groups.setdefault(key, []).append(index)
    wanted = min(max(round(share * len(data.examples)), 1), _MAX_HELD_OUT)
    if len(groups) < 2:
        raise InputError(
            f"Data must have rows to train on and rows to judge by, got {len(groups)} in {data.name}. "
            "Pass --eval-data FILE."
        )
    order = np.random.default_rng(seed).permutation(len(groups))
    held_out: set[int] = set()
    keys = list(groups)
    for number in order[:-1]:
        if len(held_out) >= wanted:
            break
        held_out.update(groups[keys[number]])
    kept = tuple(example for index, example in enumerate(data.examples) if index not in held_out)
    apart = tuple(example for index, example in enumerate(data.examples) if index in held_out)
    return replace(data, examples=kept), replace(data, examples=apart, name=f"{data.name}, {len(apart)} held out")
