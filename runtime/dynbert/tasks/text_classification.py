"""Text classification: the label of a text and the score of every label.

Which function turns logits into scores follows the checkpoint's ``problem_type``, as in Hugging Face's models: softmax
for one label out of several, a sigmoid each for several labels at once, and the bare value for regression. Where a
checkpoint states none, one output means regression and several mean softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import BundleError
from dynbert.tasks.base import as_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from dynbert.tasks.base import TaskContext

__all__ = ["Classification", "classify"]

_TEXTS_PER_BATCH = 32
_SINGLE_LABEL = "single_label_classification"
_MULTI_LABEL = "multi_label_classification"
_REGRESSION = "regression"


@dataclass(frozen=True)
class Classification:
    """What a text was classified as."""

    label: str
    """The label of the highest score."""
    score: float
    """Its score."""
    scores: Mapping[str, float]
    """Score of every label, in the model's order: probabilities in [0, 1], or bare values for regression."""


def classify(
    task: TaskContext, texts: str | Sequence[str], *, truncate: bool = False
) -> Classification | list[Classification]:
    """Classify one or several texts.

    Args:
        task: The bundle's side of the call.
        texts: A text, or a list of them.
        truncate: Whether to cut what is longer than the model's maximum length.

    Returns:
        A classification, or a list of them in the texts' order.

    Raises:
        InputError: If a text has no token, or is too long and may not be cut.
    """
    items, is_single = as_texts(texts)
    results: list[Classification] = []
    for batch in task.run_batches(task.tokenizer.encode(items, truncate=truncate), _TEXTS_PER_BATCH):
        logits = batch.output("logits")
        labels = _labels(task.model.labels, logits.shape[-1])
        results += [_classification(labels, row) for row in _scores(logits, task.model.problem_type)]
    return results[0] if is_single else results


def _classification(labels: Sequence[str], scores: NDArray[np.float64]) -> Classification:
    by_label = {label: float(score) for label, score in zip(labels, scores, strict=True)}
    best = int(scores.argmax())
    return Classification(labels[best], float(scores[best]), by_label)


def _scores(logits: NDArray[Any], problem_type: str | None) -> NDArray[np.float64]:
    """Return scores from logits, both [batch, labels]."""
    values = logits.astype(np.float64)
    kind = problem_type or (_REGRESSION if logits.shape[-1] == 1 else _SINGLE_LABEL)
    if kind == _REGRESSION:
        return values
    if kind == _MULTI_LABEL:
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))  # the sigmoid, without overflow
    if kind == _SINGLE_LABEL:
        weights = np.exp(values - values.max(axis=-1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=-1, keepdims=True))
    known = ", ".join((_SINGLE_LABEL, _MULTI_LABEL, _REGRESSION))
    raise BundleError(f"problem_type must be one of {known}, got {kind!r}. Export the bundle again.")


def _labels(names: Sequence[str], count: int) -> Sequence[str]:
    labels = names or [f"LABEL_{index}" for index in range(count)]
    if len(labels) != count:
        raise BundleError(f"The graph must have one logit for each of {len(labels)} labels, got {count}.")
    return labels
