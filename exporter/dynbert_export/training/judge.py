"""How good a model is on the evaluation data while it trains: from logits to answers, from answers to a metric.

The metrics are those of ``dynbert.scoring``, by which bundles are judged too. Answers to questions are read from logits
as in transformers' examples: the span with the highest sum of start and end, over all windows of a context; no answer
where data has unanswerable questions and CLS scores higher.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.manifest import Task
from dynbert.scoring.examples import PlainExample
from dynbert.scoring.metrics import (
    are_entities,
    score_choices,
    score_classes,
    score_label_sets,
    score_numbers,
    score_words,
)
from dynbert.scoring.squad import best_exact, best_f1
from dynbert_export.tasks import ProblemType
from dynbert_export.training.features import list_questions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from dynbert.scoring.examples import LabelledData, QuestionExample
    from dynbert.scoring.metrics import ScoredMetric
    from dynbert_export.training.features import Features

__all__ = ["Judge", "find_training_metric"]

_IGNORED = -100
_MAX_ANSWER_TOKENS = 30
"""Longest answer; as in transformers' examples."""
_TEXTS_AT_ONCE = 1024
"""Similarities of so many texts to all partners are in memory at a time."""
_BEST_ENDS = 20
"""So many of the likeliest starts and ends are combined; as in transformers' examples."""


def find_training_metric(data: LabelledData) -> str:
    """Return the metric by which a model is judged.

    Args:
        data: The evaluation data.

    Returns:
        Its key in what ``Judge`` returns.
    """
    if data.task is Task.TEXT_CLASSIFICATION:
        return _METRICS_OF_PROBLEMS[ProblemType(data.problem_type or ProblemType.SINGLE_LABEL)]
    if data.task is Task.TOKEN_CLASSIFICATION:
        return "entity_f1" if are_entities(data.label_names) else "word_accuracy"
    return _METRICS_OF_TASKS[data.task]


_METRICS_OF_PROBLEMS = {
    ProblemType.SINGLE_LABEL: "accuracy",
    ProblemType.MULTI_LABEL: "micro_f1",
    ProblemType.REGRESSION: "spearman",
    ProblemType.RANKING: "spearman",
}
_METRICS_OF_TASKS = {
    Task.QUESTION_ANSWERING: "f1",
    Task.MULTIPLE_CHOICE: "accuracy",
    Task.FEATURE_EXTRACTION: "cosine",
}


@dataclass(frozen=True)
class Judge:
    """Judges predictions on one set of data; transformers' Trainer calls it as ``compute_metrics``."""

    data: LabelledData
    features: Features

    @property
    def metric(self) -> str:
        """The number that decides."""
        return find_training_metric(self.data)

    def __call__(self, prediction: Any) -> dict[str, float]:
        """Return all metrics.

        Args:
            prediction: transformers' ``EvalPrediction``: logits, and labels, of all rows in the order of ``features``.

        Returns:
            Name -> number.
        """
        predicted, labels = prediction.predictions, prediction.label_ids
        return _JUDGES[self.data.task](self, predicted, labels)

    def pick(self, found: Mapping[str, float], *, prefix: str) -> dict[str, float]:
        """Return the deciding number of each profile, from what ``LengthDropTrainer.evaluate`` returns.

        Args:
            found: ``PREFIX_PROFILE_METRIC`` -> number.
            prefix: As ``evaluate`` was given it.

        Returns:
            Profile -> number.
        """
        suffix = f"_{self.metric}"
        return {
            key.removeprefix(f"{prefix}_").removesuffix(suffix): value
            for key, value in found.items()
            if key.endswith(suffix)
        }


def _judge_texts(judge: Judge, logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    problem = judge.data.problem_type
    if problem in {ProblemType.REGRESSION, ProblemType.RANKING}:
        return _by_name(score_numbers(labels.reshape(-1), logits.reshape(-1)))
    if problem == ProblemType.MULTI_LABEL:
        return _by_name(score_label_sets(labels, logits > 0))
    return _by_name(score_classes(labels, logits.argmax(axis=-1), classes=logits.shape[-1]))


def _judge_choices(_judge: Judge, logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    return _by_name(score_choices(labels, logits.argmax(axis=-1)))


def _judge_tokens(judge: Judge, logits: NDArray[Any], labels: NDArray[Any]) -> dict[str, float]:
    """Judge words by their first tokens; padding and further tokens have no label."""
    names = judge.data.label_names
    counted = labels != _IGNORED
    wanted, got = (
        [[names[number] for number in row[mask]] for row, mask in zip(rows, counted, strict=True)]
        for rows in (labels, logits.argmax(axis=-1))
    )
    return _by_name(score_words(wanted, got))


def _judge_answers(judge: Judge, logits: Any, _labels: Any) -> dict[str, float]:
    questions = list_questions(judge.data)
    may_be_none = any(not question.answers for question in questions)
    answers = _read_answers(judge, questions, *logits[:2], may_be_none=may_be_none)
    wanted = [[answer.text for answer in question.answers] for question in questions]
    pairs = list(zip(answers, wanted, strict=True))
    return {
        "exact_match": float(np.mean([best_exact(*pair) for pair in pairs])),
        "f1": float(np.mean([best_f1(*pair) for pair in pairs])),
    }


def _judge_embeddings(judge: Judge, embeddings: Any, wanted: Any) -> dict[str, float]:
    """Judge by the cosine to what the teacher makes and, where there are partners, by finding each text's own."""
    data = judge.data
    got = embeddings if isinstance(embeddings, tuple) else (embeddings,)
    teacher = wanted if isinstance(wanted, tuple) else (wanted,)
    unit, unit_teacher = _as_unit(got[0]), _as_unit(teacher[0])
    found = {"cosine": float((unit * unit_teacher).sum(axis=1).mean())}
    if len(got) > 1 and not any(isinstance(each, PlainExample) and each.score is not None for each in data.examples):
        found["recall_at_1"] = _measure_recall(unit, _as_unit(got[1]))
    return found


def _measure_recall(texts: NDArray[Any], partners: NDArray[Any]) -> float:
    """Return the share of texts that are nearest to their own partner, of all partners."""
    found = 0
    for first in range(0, len(texts), _TEXTS_AT_ONCE):
        nearest = (texts[first : first + _TEXTS_AT_ONCE] @ partners.T).argmax(axis=1)
        found += int((nearest == np.arange(first, first + len(nearest))).sum())
    return found / len(texts)


def _read_answers(
    judge: Judge, questions: Sequence[QuestionExample], starts: NDArray[Any], ends: NDArray[Any], *, may_be_none: bool
) -> list[str]:
    """Return the answer to each question: the best span of all its windows."""
    best = [(-np.inf, "")] * len(questions)
    nulls = [np.inf] * len(questions)
    for window, start, end in zip(judge.features.windows, starts, ends, strict=True):
        number = window.example
        nulls[number] = min(nulls[number], float(start[0] + end[0]))
        score, span = _best_span(window.offsets, start, end)
        if score > best[number][0]:
            best[number] = (score, questions[number].context[span[0] : span[1]])
    return ["" if may_be_none and null > score else text for (score, text), null in zip(best, nulls, strict=True)]


def _best_span(
    offsets: tuple[tuple[int, int] | None, ...], start: NDArray[Any], end: NDArray[Any]
) -> tuple[float, tuple[int, int]]:
    """Return the highest sum of a start and an end in the context, and the characters between them."""
    tokens = np.array([index for index, span in enumerate(offsets) if span is not None])
    best: tuple[float, tuple[int, int]] = (-np.inf, (0, 0))
    if not tokens.size:
        return best
    firsts = tokens[np.argsort(-start[tokens], kind="stable")[:_BEST_ENDS]]
    lasts = tokens[np.argsort(-end[tokens], kind="stable")[:_BEST_ENDS]]
    for first in firsts:
        for last in lasts:
            score = float(start[first] + end[last])
            if first <= last < first + _MAX_ANSWER_TOKENS and score > best[0]:
                best = (score, (offsets[first][0], offsets[last][1]))
    return best


def _by_name(scores: Sequence[ScoredMetric]) -> dict[str, float]:
    return {score.name: score.value for score in scores}


def _as_unit(vectors: NDArray[Any]) -> NDArray[Any]:
    unit: NDArray[Any] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


_JUDGES: Mapping[Task, Callable[[Judge, Any, Any], dict[str, float]]] = {
    Task.TEXT_CLASSIFICATION: _judge_texts,
    Task.TOKEN_CLASSIFICATION: _judge_tokens,
    Task.MULTIPLE_CHOICE: _judge_choices,
    Task.QUESTION_ANSWERING: _judge_answers,
    Task.FEATURE_EXTRACTION: _judge_embeddings,
}
