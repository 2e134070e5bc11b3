"""SQuAD's metrics, as the official script of version 2 counts them.

Written here because no package has them alone; the tests hold them to transformers'. Answers are compared without case,
ASCII punctuation, the articles a, an, the, and superfluous blanks. A question without an answer is answered right by an
empty text alone.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from dynbert.scoring.metrics import ScoredMetric, mean_metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["best_exact", "best_f1", "normalize_answer", "score_answers"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalize_answer(text: str) -> str:
    """Return what of an answer is compared.

    Args:
        text: The answer.

    Returns:
        Its words in lower case, without punctuation and articles, one blank between.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _right_texts(answers: Sequence[str]) -> list[str]:
    """Return the answers with something to compare; an empty one where there are none."""
    return [answer for answer in answers if normalize_answer(answer)] or [""]


def best_exact(predicted: str, answers: Sequence[str]) -> float:
    """Return whether an answer is one of the right ones.

    Args:
        predicted: The answer; empty for none.
        answers: The right ones; none where there is no answer.

    Returns:
        1 or 0.
    """
    answer = normalize_answer(predicted)
    return float(any(answer == normalize_answer(right) for right in _right_texts(answers)))


def best_f1(predicted: str, answers: Sequence[str]) -> float:
    """Return how many words an answer shares with a right one, at best.

    Args:
        predicted: The answer; empty for none.
        answers: The right ones; none where there is no answer.

    Returns:
        The best F1 of words, in [0, 1].
    """
    return max(_f1(predicted, right) for right in _right_texts(answers))


def _f1(predicted: str, right: str) -> float:
    answered, wanted = normalize_answer(predicted).split(), normalize_answer(right).split()
    if not answered or not wanted:
        return float(answered == wanted)
    shared = sum((Counter(answered) & Counter(wanted)).values())
    return 2 * shared / (len(answered) + len(wanted))


def score_answers(
    predicted: Sequence[str], answers: Sequence[Sequence[str]], scores: Sequence[float]
) -> tuple[ScoredMetric, ...]:
    """Score answers to questions.

    Args:
        predicted: A text for each question.
        answers: Its right answers; none where there is no answer.
        scores: How sure each answer is; the least sure ones may be none.

    Returns:
        ``f1`` and ``exact_match`` of the answers as they are. Where some questions have no answer also
        ``answerable_f1`` and ``answerable_exact_match``, over those that have one, and ``best_f1`` and
        ``best_exact_match``: as in the official script, with every answer dropped that is less sure than a bound, the
        one that suits these questions best. Unlike there, equally sure answers go or stay together.
    """
    exact = np.array([best_exact(*both) for both in zip(predicted, answers, strict=True)])
    f1 = np.array([best_f1(*both) for both in zip(predicted, answers, strict=True)])
    plain = (mean_metric("f1", f1), mean_metric("exact_match", exact))
    has_answer = np.array([bool(right) for right in answers])
    if has_answer.all():
        return plain
    sure = np.asarray(scores, np.float64)
    with_bound = (
        mean_metric("best_f1", _with_best_bound(f1, sure, has_answer)),
        mean_metric("best_exact_match", _with_best_bound(exact, sure, has_answer)),
    )
    if not has_answer.any():
        return plain + with_bound
    answerable = (
        mean_metric("answerable_f1", f1[has_answer]),
        mean_metric("answerable_exact_match", exact[has_answer]),
    )
    return plain + answerable + with_bound


def _with_best_bound(
    values: NDArray[np.float64], sure: NDArray[np.float64], has_answer: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return each question's value where answers below the best bound are none, all [questions]."""
    order = np.argsort(-sure, kind="stable")
    empty = (~has_answer).astype(np.float64)  # what no answer is worth
    gains = np.concatenate([[0.0], np.cumsum((values - empty)[order])])
    # A bound lies between two different scores, never between equal ones.
    is_between = np.concatenate([[True], np.diff(sure[order]) != 0, [True]])
    kept = int(np.argmax(np.where(is_between, gains, -np.inf)))
    best = empty.copy()
    best[order[:kept]] = values[order[:kept]]
    return best
