"""How alike two graphs answer: one measure a task, the same for every precision and profile.

Answers are compared rather than numbers, because answers are what a user gets; each measure is 1 where all answers are
equal. A choice (a label, the ends of a span) that differs counts by how likely the reference finds it next to its own:
next to nothing where the reference was sure, nearly 1 where both were all but equally likely and which one is chosen
says nothing about quality.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynbert.inputs import ATTENTION_MASK
from dynbert.manifest import Pooling, Task
from dynbert.tasks.feature_extraction import pool

if TYPE_CHECKING:
    from dynbert_export.feeds import Feed

__all__ = ["METRICS", "Outputs", "measure_agreement"]

Outputs = Mapping[str, NDArray[Any]]
"""A graph's outputs by name."""

METRICS = {
    Task.QUESTION_ANSWERING: "span_agreement",
    Task.TEXT_CLASSIFICATION: "label_agreement",
    Task.FEATURE_EXTRACTION: "cosine",
}
"""Task -> what is measured."""


def measure_agreement(
    task: Task,
    reference: Sequence[Outputs],
    outputs: Sequence[Outputs],
    feeds: Sequence[Feed],
    *,
    pooling: Pooling | None = None,
    problem_type: str | None = None,
) -> float:
    """Return the mean agreement of a graph's outputs with the reference's.

    Args:
        task: What the graphs compute.
        reference: Outputs of the reference for each feed.
        outputs: Outputs of the graph for each feed.
        feeds: What both ran on.
        pooling: Feature extraction: how embeddings are made.
        problem_type: Text classification: decides what a label is.

    Returns:
        The mean cosine of embeddings, or the mean agreement of labels or answer spans, in [0, 1]. NaN, which no gate
        lets pass, where the graph gave numbers that are not finite: the highest of them would be taken for a choice.
    """
    if not all(np.isfinite(array).all() for item in outputs for array in item.values()):
        return float("nan")
    if task is Task.FEATURE_EXTRACTION and pooling is not None:
        scores = [
            _cosines(
                pool(wanted["last_hidden_state"], feed[ATTENTION_MASK], pooling),
                pool(got["last_hidden_state"], feed[ATTENTION_MASK], pooling),
            )
            for wanted, got, feed in zip(reference, outputs, feeds, strict=True)
        ]
    elif task is Task.QUESTION_ANSWERING:
        scores = [
            _relative_likelihood(wanted["start_logits"], got["start_logits"], feed[ATTENTION_MASK])
            * _relative_likelihood(wanted["end_logits"], got["end_logits"], feed[ATTENTION_MASK])
            for wanted, got, feed in zip(reference, outputs, feeds, strict=True)
        ]
    else:
        wanted = np.concatenate([item["logits"] for item in reference])
        got = np.concatenate([item["logits"] for item in outputs])
        scores = [_LABEL_MEASURES[problem_type or "single_label_classification"](wanted, got)]
    return float(np.concatenate(scores).astype(np.float64).mean())


def _cosines(wanted: NDArray[np.float32], got: NDArray[np.float32]) -> NDArray[Any]:
    """Return the cosine of each row, float ``[batch]``."""
    norms = np.linalg.norm(wanted, axis=1) * np.linalg.norm(got, axis=1)
    cosines: NDArray[Any] = (wanted * got).sum(axis=1) / np.maximum(norms, np.finfo(np.float32).tiny)
    return cosines


def _relative_likelihood(
    wanted: NDArray[Any], got: NDArray[Any], mask: NDArray[np.int64] | None = None
) -> NDArray[Any]:
    """Return how likely the reference finds each row's highest entry of ``got``, next to its own highest."""
    if mask is not None:
        wanted, got = (np.where(mask == 1, logits, -np.inf) for logits in (wanted, got))
    rows = np.arange(len(wanted))
    ratio: NDArray[Any] = np.exp(wanted[rows, got.argmax(axis=1)] - wanted.max(axis=1))
    return ratio


def _label_set_likelihood(wanted: NDArray[Any], got: NDArray[Any]) -> NDArray[Any]:
    """Return the same for sets of labels: a label that differs counts by its odds, ``exp(-abs(logit))``."""
    differs = (wanted > 0) != (got > 0)
    likelihood: NDArray[Any] = np.exp(-np.where(differs, np.abs(wanted), 0.0).sum(axis=1))
    return likelihood


def _closeness(wanted: NDArray[Any], got: NDArray[Any]) -> NDArray[Any]:
    """Return how close each row's numbers are, next to their standard deviation over the rows, or else their size."""
    spread = wanted.std(axis=0)
    spread = np.where(spread > 0, spread, np.maximum(np.abs(wanted).mean(axis=0), np.finfo(np.float32).tiny))
    closeness: NDArray[Any] = np.clip(1.0 - np.abs(wanted - got) / spread, 0.0, 1.0).mean(axis=1)
    return closeness


_LABEL_MEASURES: dict[str, Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]] = {
    "single_label_classification": _relative_likelihood,
    "multi_label_classification": _label_set_likelihood,
    "regression": _closeness,
}
