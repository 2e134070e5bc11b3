"""What data, checkpoint and options must be to one another; all of it is known before anything is exported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.manifest import Embeddings, Task
from dynbert.tasks.multiple_choice import Choice
from dynbert.tasks.question_answering import Answer
from dynbert.tasks.text_classification import Classification
from dynbert.tasks.token_classification import TokenLabels
from dynbert_export.bundle.describe import describe_model
from dynbert_export.options.profiles import check_lengths
from dynbert_export.searching.examination import find_metric, make_examination

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dynbert.manifest import ModelInfo
    from dynbert_export.checkpoint.load import Checkpoint
    from dynbert_export.options.search import SearchConfig
    from dynbert_export.searching.splitting import Part

__all__ = ["check_fit", "check_known", "most_left_out"]

_LEFT_OUT = 3
"""Of so many layers one may be left out, unless asked otherwise."""


def most_left_out(config: SearchConfig, num_layers: int) -> int:
    """Return how many layers a config may leave out.

    Args:
        config: The options.
        num_layers: Hidden layers of the model.

    Returns:
        The count, less than there are layers.
    """
    asked = config.leave_out_layers
    return min(num_layers // _LEFT_OUT if asked is None else asked, num_layers - 1)


def check_known(config: SearchConfig, *, num_layers: int, max_length: int) -> None:
    """Hold the profiles to try first to the model, and to what is searched.

    Args:
        config: The options.
        num_layers: Hidden layers of the model.
        max_length: Longest input in tokens.

    Raises:
        InputError: If a profile does not fit the model, or leaves out more layers than a config may.
    """
    check_lengths(config.known, num_layers=num_layers, max_length=max_length)
    most = most_left_out(config, num_layers)
    for profile in config.known:
        left = 0 if profile.layers is None else num_layers - len(profile.layers)
        if left > most:
            raise InputError(
                f"A profile to try first must leave out at most {most} layers, got {left} of {profile.name}. Pass "
                f"--leave-out-layers {left}."
            )


def check_fit(part: Part, checkpoint: Checkpoint, metric: str | None) -> str:
    """See that data can be scored: a made-up answer to each example is.

    Args:
        part: The examples.
        checkpoint: What is searched for.
        metric: What is to be maximised; None for the main one.

    Returns:
        The metric's name.

    Raises:
        InputError: If the data is of other labels or of another kind, or there is no such metric.
    """
    model = describe_model(
        checkpoint,
        always_keep_cls_token=True,
        embeddings=Embeddings.POOLED if checkpoint.task is Task.FEATURE_EXTRACTION else None,
        mask_token_id=None,
    )
    job = make_examination(model, part, seed=0, embed_queries=None).whole
    answer = _ANSWERS[model.task](model)
    return find_metric(job.score([answer] * len(job.inputs)), metric).name


_ANSWERS: Mapping[Task, Callable[[ModelInfo], Any]] = {
    Task.TEXT_CLASSIFICATION: lambda model: Classification("", 0.0, dict.fromkeys(model.labels or ("",), 0.0)),
    Task.QUESTION_ANSWERING: lambda _: Answer("", 0.0, 0, 0),
    Task.TOKEN_CLASSIFICATION: lambda _: TokenLabels((), ()),
    Task.MULTIPLE_CHOICE: lambda _: Choice(0, "", 0.0, ()),
    Task.FEATURE_EXTRACTION: lambda model: np.zeros(model.hidden_size, np.float32),
}
"""Task -> what no graph would answer."""
