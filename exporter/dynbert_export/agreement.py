"""How alike two graphs answer: one measure a task, the same for every precision and profile.

Answers are compared rather than numbers, because answers are what a user gets. Where an answer is a choice, a choice
that the reference rates all but as high as its own counts as equal (``NEARLY_AS_LIKELY``): which of two equals is
chosen says nothing about quality.
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

__all__ = ["METRICS", "NEARLY_AS_LIKELY", "Outputs", "measure_agreement"]

Outputs = Mapping[str, NDArray[Any]]
"""A graph's outputs by name."""

NEARLY_AS_LIKELY = 0.9
"""A different choice counts as equal where the reference gives it at least this share of its own choice's
probability."""

METRICS = {
    Task.QUESTION_ANSWERING: "span_agreement",
    Task.TEXT_CLASSIFICATION: "label_agreement",
    Task.FEATURE_EXTRACTION: "cosine",
}
"""Task -> what is measured."""

_REGRESSION_TOLERANCE = 0.1
"""Share of the reference's standard deviation that a regressed number may be off by."""


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
        The mean cosine of embeddings, or the share of equal labels or answer spans.
    """
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
            _same_choice(wanted["start_logits"], got["start_logits"], feed[ATTENTION_MASK])
            & _same_choice(wanted["end_logits"], got["end_logits"], feed[ATTENTION_MASK])
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


def _same_choice(wanted: NDArray[Any], got: NDArray[Any], mask: NDArray[np.int64] | None = None) -> NDArray[Any]:
    """Return whether the highest logit of each row is the same, or nearly as likely to the reference."""
    if mask is not None:
        wanted, got = (np.where(mask == 1, logits, -np.inf) for logits in (wanted, got))
    rows = np.arange(len(wanted))
    ratio = np.exp(wanted[rows, got.argmax(axis=1)] - wanted.max(axis=1))
    same: NDArray[Any] = ratio >= NEARLY_AS_LIKELY
    return same


def _same_labels(wanted: NDArray[Any], got: NDArray[Any]) -> NDArray[Any]:
    """Return whether the same labels are set in each row (logit above 0)."""
    same: NDArray[Any] = ((wanted > 0) == (got > 0)).all(axis=1)
    return same


def _same_number(wanted: NDArray[Any], got: NDArray[Any]) -> NDArray[Any]:
    """Return whether each row's numbers are the reference's, but for a share of their spread."""
    same: NDArray[Any] = (np.abs(wanted - got) <= _REGRESSION_TOLERANCE * wanted.std(axis=0)).all(axis=1)
    return same


_LABEL_MEASURES: dict[str, Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]] = {
    "single_label_classification": _same_choice,
    "multi_label_classification": _same_labels,
    "regression": _same_number,
}
