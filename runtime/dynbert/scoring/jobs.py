"""What evaluating a bundle on data takes, task by task: what to ask it, and how to score the answers.

A job is made, and so the data checked against the bundle, before anything runs. Which class of the data is which of the
bundle's, their names tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.scoring.examples import PlainExample, ProblemType
from dynbert.scoring.labels import ClassNames
from dynbert.scoring.metrics import (
    score_choices,
    score_classes,
    score_label_sets,
    score_numbers,
    score_similarities,
    score_words,
)
from dynbert.scoring.records import RowFault
from dynbert.scoring.retrieval import score_order, score_retrieval
from dynbert.scoring.squad import score_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dynbert.manifest import ModelInfo
    from dynbert.scoring.examples import LabelledData
    from dynbert.scoring.metrics import ScoredMetric
    from dynbert.tasks.token_classification import Word

__all__ = ["Job", "labels_of_words", "make_job"]

_OUTSIDE = "O"
_NUMBERS = {ProblemType.REGRESSION, ProblemType.RANKING}
"""Problem types whose answers are one number."""
_LEAST_PROBABLE = 0.5
"""Probability from which on one of several labels is an answer."""

_Metrics: TypeAlias = "tuple[ScoredMetric, ...]"


@dataclass(frozen=True)
class Job:
    """One evaluation."""

    inputs: Sequence[Any]
    """What the bundle is asked about, one answer each."""
    arguments: Callable[[Sequence[Any]], dict[str, Any]]
    """The arguments of a call about some of them, or of ``queries``."""
    score: Callable[[Sequence[Any]], _Metrics]
    """The metrics of the answers to all queries and then to all inputs, the main one first."""
    queries: Sequence[Any] = ()
    """What is asked of another profile, which is the same whatever profile is judged."""


def make_job(model: ModelInfo, data: LabelledData, *, has_own_queries: bool = False) -> Job:
    """Check that data suits a bundle, and plan its evaluation.

    Args:
        model: The bundle's.
        data: What to evaluate on.
        has_own_queries: For retrieval: whether queries are embedded by another profile than the passages.

    Returns:
        The job.

    Raises:
        InputError: If the data is for another task, of another kind or of other labels, there is no metric, or no
            queries.
    """
    make = _JOBS.get(model.task)
    if make is None:
        known = ", ".join(task.value for task in _JOBS)
        raise InputError(f"A bundle must be for one of {known} to be evaluated, got one for {model.task.value}.")
    is_retrieval = (model.task, data.task) == (Task.FEATURE_EXTRACTION, Task.QUESTION_ANSWERING)
    if data.task is not model.task and not is_retrieval:
        raise InputError(
            f"Labelled data must be for {model.task.value} as the bundle, got {data.task.value} in {data.name}."
        )
    job = make(model, data)
    if not has_own_queries:
        return job
    if model.task is not Task.FEATURE_EXTRACTION or any(example.score is not None for example in _as_pairs(data)):
        raise InputError(
            f"A profile for queries must be for data with queries and passages, got {data.name}. Leave it out."
        )
    return _retrieval_job(data)


def _text_job(model: ModelInfo, data: LabelledData) -> Job:
    kind = _problem_of(model)
    asked = ProblemType(data.problem_type or ProblemType.SINGLE_LABEL)
    if kind is not asked and not {kind, asked} <= _NUMBERS:
        raise InputError(
            f"Labelled data must be for {kind.value} as the bundle, got {asked.value} in {data.name}. "
            f"Load it with problem_type {kind.value}."
        )
    examples: Sequence[Any] = data.examples
    gold = [example.label for example in examples]
    classes = [] if kind in _NUMBERS else _classes_of(model, data)
    has_pairs = examples[0].pair is not None

    def arguments(some: Sequence[Any]) -> dict[str, Any]:
        texts = {"texts": [example.text for example in some]}
        return texts | ({"text_pair": [example.pair for example in some]} if has_pairs else {})

    def score(answers: Sequence[Any]) -> _Metrics:
        if kind in _NUMBERS:
            numbers = [answer.score for answer in answers]
            is_ranking = kind is ProblemType.RANKING and has_pairs
            order = score_order([example.text for example in examples], gold, numbers) if is_ranking else ()
            return (*order, *score_numbers(gold, numbers))
        scores = np.array([list(answer.scores.values()) for answer in answers])  # [examples, labels]
        if kind is ProblemType.SINGLE_LABEL:
            return score_classes([classes[label] for label in gold], scores.argmax(axis=1), classes=scores.shape[1])
        right = np.zeros(scores.shape, np.int64)
        right[:, classes] = np.array(gold)
        return score_label_sets(right, scores >= _LEAST_PROBABLE)

    return Job(examples, arguments, score)


def _problem_of(model: ModelInfo) -> ProblemType:
    """Return what a classifier's answers are, as ``tasks.text_classification`` takes it."""
    if model.problem_type is not None:
        return ProblemType(model.problem_type)
    return ProblemType.REGRESSION if len(model.labels) == 1 else ProblemType.SINGLE_LABEL


def _classes_of(model: ModelInfo, data: LabelledData) -> list[int]:
    """Return which class of the bundle each class of the data is."""
    if not model.labels or data.label_names == model.labels:
        return list(range(len(data.label_names)))
    known = ClassNames(model.labels)
    try:
        classes = [known.index(data.name, name) for name in data.label_names]
    except RowFault as err:
        raise _labels_fault(model, data) from err
    if len(set(classes)) < len(classes):
        raise _labels_fault(model, data)
    return classes


def _labels_fault(model: ModelInfo, data: LabelledData) -> InputError:
    return InputError(
        f"Labelled data must have the bundle's labels {', '.join(model.labels)}, got {', '.join(data.label_names)} in "
        f"{data.name}. Load it with the bundle's labels as label_names."
    )


def _question_job(_model: ModelInfo, data: LabelledData) -> Job:
    examples: Sequence[Any] = data.examples

    def arguments(some: Sequence[Any]) -> dict[str, Any]:
        return {"question": [example.question for example in some], "context": [example.context for example in some]}

    def score(answers: Sequence[Any]) -> _Metrics:
        right = [[answer.text for answer in example.answers] for example in examples]
        return score_answers([answer.text for answer in answers], right, [answer.score for answer in answers])

    return Job(examples, arguments, score)


def _word_job(model: ModelInfo, data: LabelledData) -> Job:
    examples: Sequence[Any] = data.examples
    names = [model.labels[place] if model.labels else f"LABEL_{place}" for place in _classes_of(model, data)]
    silent = _OUTSIDE if _OUTSIDE in model.labels else names[0]

    def arguments(some: Sequence[Any]) -> dict[str, Any]:
        return {"texts": [" ".join(example.words) for example in some]}

    def score(answers: Sequence[Any]) -> _Metrics:
        gold = [[names[label] for label in example.labels] for example in examples]
        pairs = zip(examples, answers, strict=True)
        return score_words(gold, [labels_of_words(each.words, answer.words, silent=silent) for each, answer in pairs])

    return Job(examples, arguments, score)


def labels_of_words(words: Sequence[str], answered: Sequence[Word], *, silent: str) -> list[str]:
    """Return the label of each given word, from an answer to the words joined by blanks.

    The bundle's words are its tokenizer's, which may cut a given word in several: the first decides, as the first piece
    of a word does in training.

    Args:
        words: As given.
        answered: The bundle's, in order.
        silent: The label of a word that has no token.

    Returns:
        The labels.
    """
    labels = []
    start = place = 0
    for word in words:
        stop = start + len(word)
        while place < len(answered) and answered[place].end <= start:
            place += 1
        has_label = place < len(answered) and answered[place].start < stop
        labels.append(answered[place].label if has_label else silent)
        start = stop + 1
    return labels


def _choice_job(_model: ModelInfo, data: LabelledData) -> Job:
    examples: Sequence[Any] = data.examples

    def arguments(some: Sequence[Any]) -> dict[str, Any]:
        return {
            "texts": [example.text for example in some],
            "choices": [list(example.choices) for example in some],
        }

    def score(answers: Sequence[Any]) -> _Metrics:
        return score_choices([example.label for example in examples], [answer.index for answer in answers])

    return Job(examples, arguments, score)


def _embedding_job(_model: ModelInfo, data: LabelledData) -> Job:
    examples = _as_pairs(data)
    if not examples:
        raise InputError(
            f"Labelled data must have pairs of texts to evaluate embeddings, got single texts in {data.name}."
        )
    texts = list(dict.fromkeys(text for example in examples for text in (example.text, example.pair or "")))
    place = {text: number for number, text in enumerate(texts)}

    def score(answers: Sequence[Any]) -> _Metrics:
        vectors = np.stack(answers)  # [texts, hidden]
        if examples[0].score is not None:
            first = vectors[[place[example.text] for example in examples]]
            second = vectors[[place[example.pair or ""] for example in examples]]
            return score_similarities([example.score or 0.0 for example in examples], first, second)
        queries, passages = _queries_and_passages(examples)
        return score_retrieval(_rows(vectors, queries, place), _rows(vectors, passages, place), _relevant(examples))

    return Job(texts, _embedding_arguments, score)


def _retrieval_job(data: LabelledData) -> Job:
    """Return the job whose queries are embedded apart from the passages."""
    examples = _as_pairs(data)
    queries, passages = _queries_and_passages(examples)

    def score(answers: Sequence[Any]) -> _Metrics:
        vectors = np.stack(answers)  # [queries and passages, hidden]
        return score_retrieval(vectors[: len(queries)], vectors[len(queries) :], _relevant(examples))

    return Job(passages, _embedding_arguments, score, queries)


def _embedding_arguments(some: Sequence[str]) -> dict[str, Any]:
    return {"texts": list(some)}


def _queries_and_passages(pairs: Iterable[PlainExample]) -> tuple[list[str], list[str]]:
    """Return the different queries and the different passages, both in order of appearance."""
    queries, passages = zip(*((pair.text, pair.pair or "") for pair in pairs), strict=True)
    return list(dict.fromkeys(queries)), list(dict.fromkeys(passages))


def _as_pairs(data: LabelledData) -> list[PlainExample]:
    """Return the pairs that data for embeddings has, or for question answering: questions with their contexts."""
    examples: Sequence[Any] = data.examples
    if data.task is Task.QUESTION_ANSWERING:
        return [PlainExample(each.question, each.context, None) for each in examples if each.answers]
    return [example for example in examples if example.pair is not None]


def _rows(vectors: np.ndarray[Any, Any], texts: Iterable[str], place: Mapping[str, int]) -> np.ndarray[Any, Any]:
    return vectors[[place[text] for text in texts]]


def _relevant(pairs: Iterable[PlainExample]) -> list[list[int]]:
    """Return for each query, in order of appearance, which passages belong to it, by their order of appearance."""
    passages: dict[str, int] = {}
    relevant: dict[str, dict[int, None]] = {}
    for pair in pairs:
        number = passages.setdefault(pair.pair or "", len(passages))
        relevant.setdefault(pair.text, {})[number] = None
    return [list(numbers) for numbers in relevant.values()]


_JOBS: Mapping[Task, Callable[[ModelInfo, LabelledData], Job]] = {
    Task.TEXT_CLASSIFICATION: _text_job,
    Task.QUESTION_ANSWERING: _question_job,
    Task.TOKEN_CLASSIFICATION: _word_job,
    Task.MULTIPLE_CHOICE: _choice_job,
    Task.FEATURE_EXTRACTION: _embedding_job,
}
"""The tasks that can be evaluated."""
