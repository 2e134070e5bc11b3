"""How alike two graphs answer: one measure a task, the same for every precision and profile.

Answers are compared rather than numbers, because answers are what a user gets; each measure is 1 where all answers are
equal. A choice (a label, the ends of a span) that differs counts by how likely the reference finds it next to its own:
next to nothing where the reference was sure, nearly 1 where both were all but equally likely and which one is chosen
says nothing about quality.

Multiple choice is judged by inputs that stand next to each other: each is scored alone, so any four can compete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynbert.errors import InputError
from dynbert.inputs import ATTENTION_MASK, INPUT_IDS
from dynbert.tasks.feature_extraction import pool
from dynbert_export.tasks import HEADS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynbert.manifest import Pooling, Task
    from dynbert_export.data.feeds import Feed

__all__ = ["Outputs", "compared_part", "measure_agreement"]

Outputs = Mapping[str, NDArray[Any]]
"""A graph's outputs by name."""

_CHOICES = 4
"""Inputs of multiple choice that compete."""


def compared_part(task: Task, outputs: Outputs, feed: Feed, *, mask_token_id: int | None) -> Outputs:
    """Return of a graph's outputs what is compared, a copy: scores of a whole vocabulary are too many to keep.

    Args:
        task: What the graph computes.
        outputs: Of the graph.
        feed: What it ran on.
        mask_token_id: The id that asks for a token; None for the tasks that foretell none.

    Returns:
        The outputs. Scores of the vocabulary are those at masks alone, ``[masks, vocabulary]``.
    """
    if not HEADS[task].has_vocabulary:
        return outputs
    is_masked = feed[INPUT_IDS] == mask_token_id
    has_positions = {name: array.ndim > is_masked.ndim for name, array in outputs.items()}
    return {name: array[is_masked] if has_positions[name] else array for name, array in outputs.items()}


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
        reference: Outputs of the reference for each feed, as from ``compared_part``.
        outputs: Outputs of the graph for each feed, as from ``compared_part``.
        feeds: What both ran on.
        pooling: Feature extraction: how embeddings are made.
        problem_type: Text classification: decides what a label is.

    Returns:
        The mean cosine of embeddings, or the mean agreement of labels, of answer spans, of the labels of tokens, of the
        tokens behind masks, of choices, or of both heads of pretraining; in [0, 1]. NaN, which no gate lets pass,
        where the graph gave numbers that are not finite: the highest of them would be taken for a choice.
    """
    if not all(np.isfinite(array).all() for item in outputs for array in item.values()):
        return float("nan")
    compared = _Compared(reference, outputs, feeds, pooling, problem_type)
    return float(_MEASURES[HEADS[task].metric](compared).astype(np.float64).mean())


@dataclass(frozen=True)
class _Compared:
    """The arguments of ``measure_agreement``."""

    reference: Sequence[Outputs]
    outputs: Sequence[Outputs]
    feeds: Sequence[Feed]
    pooling: Pooling | None
    problem_type: str | None

    def join(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return an output of the reference and of the graph, the rows of all feeds together."""
        wanted = np.concatenate([item[name] for item in self.reference])
        return wanted, np.concatenate([item[name] for item in self.outputs])

    def by_feed(self, name: str) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]]:
        """Yield for each feed an output of the reference, that of the graph, and the attention mask."""
        for wanted, got, feed in zip(self.reference, self.outputs, self.feeds, strict=True):
            yield wanted[name], got[name], feed[ATTENTION_MASK]


def _compare_embeddings(compared: _Compared) -> NDArray[Any]:
    if compared.pooling is None:
        raise InputError("pooling must be given for feature-extraction, got None.")
    pooling = compared.pooling
    return np.concatenate(
        [
            _cosines(pool(wanted, mask, pooling), pool(got, mask, pooling))
            for wanted, got, mask in compared.by_feed("last_hidden_state")
        ]
    )


def _compare_spans(compared: _Compared) -> NDArray[Any]:
    starts, ends = (
        np.concatenate([_relative_likelihood(*item) for item in compared.by_feed(name)])
        for name in ("start_logits", "end_logits")
    )
    agreement: NDArray[Any] = starts * ends
    return agreement


def _compare_labels(compared: _Compared) -> NDArray[Any]:
    return _LABEL_MEASURES[compared.problem_type or "single_label_classification"](*compared.join("logits"))


def _compare_tokens(compared: _Compared) -> NDArray[Any]:
    """Return the agreement of every token's label; padding has none."""
    return np.concatenate(
        [_relative_likelihood(wanted[mask == 1], got[mask == 1]) for wanted, got, mask in compared.by_feed("logits")]
    )


def _compare_choices(compared: _Compared) -> NDArray[Any]:
    """Return the agreement of choices between inputs that follow each other: fours, the last ones up to seven."""
    wanted, got = (scores.reshape(1, -1) for scores in compared.join("logits"))
    rounds = max(wanted.size // _CHOICES, 1)
    starts = [_CHOICES * number for number in range(1, rounds)]
    return np.concatenate(
        [
            _relative_likelihood(*both)
            for both in zip(np.split(wanted, starts, axis=1), np.split(got, starts, axis=1), strict=True)
        ]
    )


def _compare_pretraining(compared: _Compared) -> NDArray[Any]:
    """Return the mean of both heads' agreements, ``[1]``: there are more masks than pairs of sentences."""
    heads = (compared.join(name) for name in ("prediction_logits", "seq_relationship_logits"))
    return np.array([np.mean([_relative_likelihood(*both).mean() for both in heads])])


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

_MEASURES: dict[str, Callable[[_Compared], NDArray[Any]]] = {
    "cosine": _compare_embeddings,
    "span_agreement": _compare_spans,
    "label_agreement": _compare_labels,
    "token_agreement": _compare_tokens,
    "mask_agreement": _compare_labels,
    "choice_agreement": _compare_choices,
    "pretraining_agreement": _compare_pretraining,
}
"""``Head.metric`` -> what measures it."""
