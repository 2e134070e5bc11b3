"""How alike two graphs answer: one measure a metric, the same for every precision and profile.

Answers are compared rather than numbers, because answers are what a user gets; each measure is 1 where all answers are
equal. A choice (a label, the ends of a span) that differs counts by how likely the reference finds it next to its own:
next to nothing where the reference was sure, nearly 1 where both were all but equally likely and which one is chosen
says nothing about quality.

Multiple choice is judged by inputs that stand next to each other: each is scored alone, so any four can compete.
Rankings are judged by Spearman's rank correlation of the scores of all texts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dynbert.errors import InputError
from dynbert.inputs import ATTENTION_MASK, INPUT_IDS
from dynbert.manifest import Pooling, Task
from dynbert.outputs import LAST_HIDDEN_STATE, SENTENCE_EMBEDDING
from dynbert.tasks.feature_extraction import pool
from dynbert_export.tasks import HEADS, Metric, ProblemType, find_metric

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynbert_export.data.feeds import Feed

__all__ = ["AnswerMeasure", "Outputs"]

Outputs = Mapping[str, NDArray[Any]]
"""A graph's outputs by name."""

_CHOICES = 4
"""Inputs of multiple choice that compete."""
_ROUNDING = 1e-6
"""Part of a score that rounding in fp32 may change."""


@dataclass(frozen=True)
class AnswerMeasure:
    """Compares the answers of two graphs of one checkpoint."""

    task: Task
    """What the graphs compute."""
    problem_type: str | None = None
    """Text classification: decides what a label is."""
    pooling: Pooling | None = None
    """Feature extraction: how embeddings are made of token states, where graphs give those."""
    mask_token_id: int | None = None
    """The id that asks for a token; None for the tasks that foretell none."""

    @property
    def metric(self) -> Metric:
        """What ``agreement`` is called."""
        return find_metric(self.task, self.problem_type)

    def compared_part(self, outputs: Outputs, feed: Feed) -> Outputs:
        """Return of a graph's outputs what is compared, a copy: scores of a whole vocabulary are too many to keep.

        Args:
            outputs: Of the graph.
            feed: What it ran on.

        Returns:
            The outputs. Scores of the vocabulary are those at masks alone, ``[masks, vocabulary]``.
        """
        if not HEADS[self.task].has_vocabulary:
            return outputs
        is_masked = feed[INPUT_IDS] == self.mask_token_id
        has_positions = {name: array.ndim > is_masked.ndim for name, array in outputs.items()}
        return {name: array[is_masked] if has_positions[name] else array for name, array in outputs.items()}

    def agreement(self, reference: Sequence[Outputs], outputs: Sequence[Outputs], feeds: Sequence[Feed]) -> float:
        """Return the mean agreement of a graph's outputs with the reference's.

        Args:
            reference: Outputs of the reference for each feed, as from ``compared_part``.
            outputs: Outputs of the graph for each feed, as from ``compared_part``.
            feeds: What both ran on.

        Returns:
            The mean cosine of embeddings, the rank correlation of scores, or the mean agreement of labels, of numbers,
            of answer spans, of the labels of tokens, of the tokens behind masks, of choices, or of both heads of
            pretraining; at most 1. NaN, which no gate lets pass, where the graph gave numbers that are not finite: the
            highest of them would be taken for a choice.

        Raises:
            InputError: If token states are to be compared and there is no pooling.
        """
        if not all(np.isfinite(array).all() for item in outputs for array in item.values()):
            return math.nan
        compared = _Compared(self, reference, outputs, feeds)
        return float(_MEASURES[self.metric](compared).astype(np.float64).mean())

    def error(self, reference: Sequence[Outputs], outputs: Iterable[Outputs], feeds: Sequence[Feed]) -> float:
        """Return how far a graph's outputs are from the reference's; unlike agreement, it never jumps.

        Args:
            reference: The outputs that are wanted for each feed, all of them.
            outputs: Those of the graph.
            feeds: What both ran on, without padding.

        Returns:
            Feature extraction: 1 - the mean cosine of embeddings. Other tasks: the squared error of the outputs next to
            their squares. Infinite where an output is not finite.
        """
        names = [name for name, array in reference[0].items() if np.issubdtype(array.dtype, np.floating)]
        wanted, got = ([{name: each[name] for name in names} for each in items] for items in (reference, outputs))
        if self.task is Task.FEATURE_EXTRACTION:
            agreement = self.agreement(wanted, got, feeds)
            return math.inf if math.isnan(agreement) else 1.0 - agreement
        size = sum(float(np.square(each[name], dtype=np.float64).sum()) for each in wanted for name in names)
        error = sum(
            float(np.square(each[name] - other[name], dtype=np.float64).sum())
            for each, other in zip(wanted, got, strict=True)
            for name in names
        )
        return error / size if math.isfinite(error) and size > 0 else math.inf


@dataclass(frozen=True)
class _Compared:
    """The arguments of ``AnswerMeasure.agreement``."""

    measure: AnswerMeasure
    reference: Sequence[Outputs]
    outputs: Sequence[Outputs]
    feeds: Sequence[Feed]

    def join(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return an output of the reference and of the graph, the rows of all feeds together."""
        wanted = np.concatenate([item[name] for item in self.reference])
        return wanted, np.concatenate([item[name] for item in self.outputs])

    def by_feed(self, name: str) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[np.int64]]]:
        """Yield for each feed an output of the reference, that of the graph, and the attention mask."""
        for wanted, got, feed in zip(self.reference, self.outputs, self.feeds, strict=True):
            yield wanted[name], got[name], feed[ATTENTION_MASK]


def _compare_embeddings(compared: _Compared) -> NDArray[Any]:
    if SENTENCE_EMBEDDING in compared.reference[0]:
        return _cosines(*compared.join(SENTENCE_EMBEDDING))
    pooling = compared.measure.pooling
    if pooling is None:
        raise InputError("pooling must be given for feature-extraction, got None.")
    return np.concatenate(
        [
            _cosines(pool(wanted, mask, pooling), pool(got, mask, pooling))
            for wanted, got, mask in compared.by_feed(LAST_HIDDEN_STATE)
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
    """Return the agreement of every text's label, or of its labels where several may hold."""
    if compared.measure.problem_type == ProblemType.MULTI_LABEL:
        return _label_set_likelihood(*compared.join("logits"))
    return _relative_likelihood(*compared.join("logits"))


def _compare_masked(compared: _Compared) -> NDArray[Any]:
    """Return the agreement of every mask's token."""
    return _relative_likelihood(*compared.join("logits"))


def _compare_numbers(compared: _Compared) -> NDArray[Any]:
    return _closeness(*compared.join("logits"))


def _compare_rankings(compared: _Compared) -> NDArray[Any]:
    """Return Spearman's correlation of all texts' scores, ``[1]``.

    Where the reference ranks nothing, one text alone or scores that are equal but for rounding, their closeness stands
    for it. A graph whose scores are all equal where the reference's are not has a correlation of 0.
    """
    wanted, got = compared.join("logits")
    if np.ptp(wanted) <= _ROUNDING * np.abs(wanted).max():
        return _closeness(wanted, got)
    return np.array([_rank_correlation(wanted.reshape(-1), got.reshape(-1))])


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
    size = np.abs(wanted).mean(axis=0)
    spread = np.where(spread > _ROUNDING * size, spread, np.maximum(size, np.finfo(np.float32).tiny))
    closeness: NDArray[Any] = np.clip(1.0 - np.abs(wanted - got) / spread, 0.0, 1.0).mean(axis=1)
    return closeness


def _rank_correlation(wanted: NDArray[Any], got: NDArray[Any]) -> float:
    """Return Spearman's correlation: that of the ranks; 0 where one of both ranks nothing."""
    deviations = [ranks - ranks.mean() for ranks in (_ranks(wanted), _ranks(got))]
    norm = math.prod(float(np.linalg.norm(each)) for each in deviations)
    return float(deviations[0] @ deviations[1]) / norm if norm else 0.0


def _ranks(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Return each score's rank; equal scores share the mean of theirs."""
    _, group, sizes = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    ranks: NDArray[np.float64] = (ends - (sizes - 1) / 2)[group]
    return ranks


_MEASURES: Mapping[Metric, Callable[[_Compared], NDArray[Any]]] = {
    Metric.COSINE: _compare_embeddings,
    Metric.SPAN_AGREEMENT: _compare_spans,
    Metric.LABEL_AGREEMENT: _compare_labels,
    Metric.CLOSENESS: _compare_numbers,
    Metric.RANK_CORRELATION: _compare_rankings,
    Metric.TOKEN_AGREEMENT: _compare_tokens,
    Metric.MASK_AGREEMENT: _compare_masked,
    Metric.CHOICE_AGREEMENT: _compare_choices,
    Metric.PRETRAINING_AGREEMENT: _compare_pretraining,
}
