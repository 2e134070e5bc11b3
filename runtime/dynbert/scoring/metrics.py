"""How good answers are: one function a kind of answer, each gives its metrics, the main one first.

A metric comes with what an interval needs (``intervals``): a value for each example where the metric is their mean, and
else a way to compute it anew from some of the examples. All values are fractions, 1 is best. SQuAD's metrics are in
``squad``, those of retrieval in ``retrieval``.

An interval computes a metric thousands of times. F1 and Matthews' correlation are therefore read off counts that numpy
adds up: scikit-learn, to which the tests hold them, takes 7 ms a time, 15 s an interval.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dynbert.errors import InputError
from dynbert.packages import import_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from dynbert.manifest import Task

    Recompute: TypeAlias = "Callable[[NDArray[np.int64]], float]"

__all__ = [
    "ScoredMetric",
    "Scores",
    "are_entities",
    "mean_metric",
    "score_choices",
    "score_classes",
    "score_label_sets",
    "score_numbers",
    "score_similarities",
    "score_words",
]

_OUTSIDE = "O"
_ENTITY_PREFIXES = ("B-", "I-", "E-", "S-")


@dataclass(frozen=True)
class ScoredMetric:
    """One metric of the answers to some data."""

    name: str
    value: float
    """1 is best; 0 where it is not defined, such as a correlation with equal numbers."""
    per_example: tuple[float, ...] | None = None
    """Where the metric is the mean of its examples' values: those. None where it is none."""
    recompute: Recompute | None = field(default=None, repr=False, compare=False)
    """Where it is no mean: the metric over examples by index, [examples], any of them any number of times."""
    examples: int = 0
    """What it is computed over, and resampled by."""
    unit: str = "examples"
    """What one of them is: ``examples``, or ``queries`` that have several each."""

    def over(self, indices: NDArray[np.int64]) -> float:
        """Return the metric over some of the examples.

        Args:
            indices: Which ones, int64 [examples]; each counts as often as it stands there.

        Returns:
            The metric.
        """
        if self.recompute is not None:
            return self.recompute(indices)
        return float(self._values[indices].mean())

    @property
    def _values(self) -> NDArray[np.float64]:
        return np.asarray(self.per_example, np.float64)


@dataclass(frozen=True)
class Scores:
    """How well one graph of a bundle answers some data."""

    data: str
    """The data's name."""
    task: Task
    profile: str
    """The profile's name, or the length config."""
    examples: int
    """How many were answered."""
    metrics: tuple[ScoredMetric, ...]
    """The main one first."""

    def metric(self, name: str) -> ScoredMetric:
        """Return a metric.

        Args:
            name: Its name.

        Returns:
            The metric.

        Raises:
            InputError: If there is none of this name.
        """
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise InputError(f"metric must be one of {', '.join(item.name for item in self.metrics)}, got {name!r}.")


def mean_metric(name: str, values: Iterable[float], *, unit: str = "examples") -> ScoredMetric:
    """Return a metric that is the mean of its examples' values.

    Args:
        name: Its name.
        values: A value for each example, at least one.
        unit: What one of them is.

    Returns:
        The metric.
    """
    per_example = tuple(float(value) for value in values)
    return ScoredMetric(name, float(np.mean(per_example)), per_example, examples=len(per_example), unit=unit)


def _recomputed(name: str, recompute: Recompute, examples: int) -> ScoredMetric:
    """Return a metric that is no mean."""
    return ScoredMetric(name, recompute(np.arange(examples)), recompute=recompute, examples=examples)


def score_classes(gold: ArrayLike, predicted: ArrayLike, *, classes: int) -> tuple[ScoredMetric, ...]:
    """Score answers that are one class each.

    Args:
        gold: The right classes by index, [examples].
        predicted: The answers, [examples].
        classes: How many classes there are.

    Returns:
        ``accuracy``; ``f1`` of class 1 where there are two classes, else ``macro_f1``, the mean F1 of every class
        that is right or answered; and ``matthews``, Matthews' correlation.
    """
    right, answered = np.asarray(gold, np.int64), np.asarray(predicted, np.int64)
    cells = right * classes + answered

    def count(indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return how often each class was answered for each right one, [right, answered]."""
        return np.bincount(cells[indices], minlength=classes * classes).reshape(classes, classes)

    def f1(indices: NDArray[np.int64]) -> float:
        table = count(indices)
        hits, sizes = table.diagonal(), table.sum(axis=0) + table.sum(axis=1)
        return _f1(hits[1], sizes[1]) if classes == 2 else _macro_f1(hits, sizes)

    return (
        mean_metric("accuracy", right == answered),
        _recomputed("f1" if classes == 2 else "macro_f1", f1, len(right)),
        _recomputed("matthews", lambda indices: _matthews(count(indices)), len(right)),
    )


def _f1(hits: Any, sizes: Any) -> float:
    """Return the F1 of so many hits among so many right and answered ones together; 0 where there are none."""
    return float(2 * hits / sizes) if sizes else 0.0


def _macro_f1(hits: NDArray[np.int64], sizes: NDArray[np.int64]) -> float:
    """Return the mean F1 of the classes that occur; both are [classes]."""
    occurs = sizes > 0
    return float((2 * hits[occurs] / sizes[occurs]).mean()) if occurs.any() else 0.0


def _matthews(table: NDArray[np.int64]) -> float:
    """Return Matthews' correlation for any number of classes (Gorodkin 2004), from a table [right, answered]."""
    counts = table.astype(np.float64)
    right, answered, total = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    spread = (total**2 - right @ right) * (total**2 - answered @ answered)
    return float((counts.trace() * total - right @ answered) / np.sqrt(spread)) if spread > 0 else 0.0


def score_label_sets(gold: ArrayLike, predicted: ArrayLike) -> tuple[ScoredMetric, ...]:
    """Score answers that may have several labels each.

    Args:
        gold: 1 for each label that is right, else 0, [examples, labels].
        predicted: The same of the answers.

    Returns:
        ``micro_f1``, over all labels of all examples; ``macro_f1``, the mean of the F1 of every label that is right or
        answered; and ``exact_match``, the share of examples with exactly the right labels.
    """
    right, answered = np.asarray(gold, np.int64), np.asarray(predicted, np.int64)
    hits, sizes = right * answered, right + answered

    def micro(indices: NDArray[np.int64]) -> float:
        return _f1(hits[indices].sum(), sizes[indices].sum())

    def macro(indices: NDArray[np.int64]) -> float:
        return _macro_f1(hits[indices].sum(axis=0), sizes[indices].sum(axis=0))

    return (
        _recomputed("micro_f1", micro, len(right)),
        _recomputed("macro_f1", macro, len(right)),
        mean_metric("exact_match", (right == answered).all(axis=1)),
    )


def score_numbers(gold: ArrayLike, predicted: ArrayLike) -> tuple[ScoredMetric, ...]:
    """Score answers that are numbers.

    Args:
        gold: The right numbers, [examples].
        predicted: The answers, [examples].

    Returns:
        ``spearman`` and ``pearson``, correlations in [-1, 1]; 0 where all numbers of a side are equal.

    Raises:
        MissingPackageError: If scipy is not installed.
    """
    stats = import_extra("scipy.stats", extra="eval", purpose="compute correlations")
    right, answered = np.asarray(gold, np.float64), np.asarray(predicted, np.float64)

    def spearman(indices: NDArray[np.int64]) -> float:
        return _correlation(stats.rankdata(right[indices]), stats.rankdata(answered[indices]))

    def pearson(indices: NDArray[np.int64]) -> float:
        return _correlation(right[indices], answered[indices])

    return _recomputed("spearman", spearman, len(right)), _recomputed("pearson", pearson, len(right))


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def score_similarities(gold: ArrayLike, first: ArrayLike, second: ArrayLike) -> tuple[ScoredMetric, ...]:
    """Score embeddings by how their cosines follow what people find similar.

    Args:
        gold: How similar each pair is, on any scale, [pairs].
        first: Embeddings of the first texts, [pairs, hidden].
        second: Embeddings of the second ones, [pairs, hidden].

    Returns:
        ``spearman`` and ``pearson``, as ``score_numbers`` has them.

    Raises:
        MissingPackageError: If scipy is not installed.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return score_numbers(gold, (one * other).sum(axis=1) / np.maximum(norms, np.finfo(np.float64).tiny))


def score_choices(gold: ArrayLike, predicted: ArrayLike) -> tuple[ScoredMetric, ...]:
    """Score answers that choose one of several texts.

    Args:
        gold: The right choice of each example by index, [examples].
        predicted: The answers, [examples].

    Returns:
        ``accuracy``.
    """
    return (mean_metric("accuracy", np.asarray(gold) == np.asarray(predicted)),)


def are_entities(names: Iterable[str]) -> bool:
    """Return whether labels of words make up entities.

    Args:
        names: Of the classes.

    Returns:
        Whether all but ``O`` have a prefix such as ``B-`` or ``I-``.
    """
    inside = [name for name in names if name != _OUTSIDE]
    return bool(inside) and all(name.startswith(_ENTITY_PREFIXES) for name in inside)


def score_words(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> tuple[ScoredMetric, ...]:
    """Score labels of words.

    Args:
        gold: The right label of each word of each sentence.
        predicted: The answers; as many a sentence.

    Returns:
        Where the right labels make up entities: ``entity_f1``, ``entity_precision`` and ``entity_recall`` over the
        entities of all sentences, as CoNLL's script and seqeval count them; and always ``word_accuracy``.

    Raises:
        MissingPackageError: If seqeval is needed and not installed.
    """
    words = np.array([len(sentence) for sentence in gold])
    hits = np.array([sum(map(str.__eq__, *both)) for both in zip(gold, predicted, strict=True)])

    def accuracy(indices: NDArray[np.int64]) -> float:
        return float(hits[indices].sum() / words[indices].sum())

    by_word = _recomputed("word_accuracy", accuracy, len(gold))
    names = {name for sentences in (gold, predicted) for sentence in sentences for name in sentence}
    return (*_score_entities(gold, predicted), by_word) if are_entities(names) else (by_word,)


def _score_entities(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> tuple[ScoredMetric, ...]:
    labeling = import_extra("seqeval.metrics.sequence_labeling", extra="eval", purpose="score entities")
    counts = []
    for both in zip(gold, predicted, strict=True):
        right, answered = (set(labeling.get_entities(list(sentence))) for sentence in both)
        counts.append((len(right & answered), len(right), len(answered)))
    table = np.array(counts)  # [sentences, 3]

    def share(indices: NDArray[np.int64], of_right: float) -> float:
        hits, right, answered = table[indices].sum(axis=0)
        return _f1(hits, 2 * (of_right * right + (1 - of_right) * answered))

    return (
        _recomputed("entity_f1", lambda indices: share(indices, 0.5), len(table)),
        _recomputed("entity_precision", lambda indices: share(indices, 0.0), len(table)),
        _recomputed("entity_recall", lambda indices: share(indices, 1.0), len(table)),
    )
