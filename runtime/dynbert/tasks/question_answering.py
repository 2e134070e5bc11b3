"""Extractive question answering: the span of the context that answers the question.

Scores follow Hugging Face's pipeline: softmax over the context's tokens and CLS, apart for starts and for ends; a
span's probability is their product; a span grows to whole words, and spans that grow to the same words are one answer
with the sum of their probabilities. Here as there the sum is over the most probable spans only. Unlike there,
overlapping windows do not add up (the best window counts), nor do equal words at different places: so a score stays
within [0, 1].
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.manifest import Task
from dynbert.tasks.base import TaskSpec, regroup
from dynbert.tasks.texts import as_pairs
from dynbert.tokenization import after_marks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from dynbert.manifest import ModelInfo
    from dynbert.tasks.arguments import Texts
    from dynbert.tasks.base import Given, Row, Shapes, TaskContext
    from dynbert.tokenization import Window

__all__ = ["SPEC", "Answer", "answer_questions"]

_QUESTIONS_TOGETHER = 64
"""Questions whose windows are cut, sorted and run together; more would hold more encodings, 250 bytes a token."""
_SPANS_PER_WINDOW = 12
"""Most probable token spans that are grown to words and summed; what the pipeline takes for one answer."""


@dataclass(frozen=True)
class Answer:
    """The best answer to a question."""

    text: str
    """``context[start:end]``, exactly."""
    score: float
    """Probability of the span in its window of the context, in [0, 1]."""
    start: int
    """First character in the context, as Python counts them (code points)."""
    end: int
    """Character after the last one."""


def answer_questions(
    task: TaskContext,
    question: Texts,
    context: Texts,
    *,
    stride: int | None,
    max_answer_tokens: int,
    batch_size: int,
) -> Answer | list[Answer]:
    """Answer one question, or several, each from its own context.

    Args:
        task: The bundle's side of the call.
        question: A question, or a list of them.
        context: The text to answer from, or a list of as many.
        stride: Tokens that neighbouring windows of a long context share, at least 0. None: 128, or half a window if
            less.
        max_answer_tokens: Longest answer in tokens, at least 1, before it grows to whole words.
        batch_size: Most windows to run together, at least 1.

    Returns:
        The best answer, or a list of them in the questions' order.

    Raises:
        InputError: If a text has no token, a question leaves no room for its context, the stride is not shorter than
            that room, or the lists differ in length.
    """
    pairs, is_single = as_pairs(("question", "context"), question, context)
    answers: list[Answer] = []
    for first in range(0, len(pairs), _QUESTIONS_TOGETHER):
        some = pairs[first : first + _QUESTIONS_TOGETHER]
        windows = [task.tokenizer.windows(*pair, stride=stride) for pair in some]
        scores = _score_windows(task, windows, max_answer_tokens=max_answer_tokens, batch_size=batch_size)
        answers += [_best_answer(text, of_text) for (_, text), of_text in zip(some, scores, strict=True)]
    return answers[0] if is_single else answers


def _score_windows(
    task: TaskContext, windows_of_pairs: Sequence[Sequence[Window]], *, max_answer_tokens: int, batch_size: int
) -> Iterator[Sequence[Mapping[tuple[int, int], float]]]:
    """Return for each pair what ``_score_words`` returns for each of its windows."""
    windows = [window for of_pair in windows_of_pairs for window in of_pair]

    def read(row: Row) -> dict[tuple[int, int], float]:
        starts, ends = row.output("start_logits"), row.output("end_logits")
        return _score_words(windows[row.index], starts, ends, max_answer_tokens)

    scores = task.map_rows([window.encoding for window in windows], batch_size, read)
    return regroup(scores, map(len, windows_of_pairs))


def _best_answer(context: str, scores: Sequence[Mapping[tuple[int, int], float]]) -> Answer:
    """Return the best answer, from the probability of each likely one in every window of the context."""
    best: dict[tuple[int, int], float] = {}
    for of_window in scores:
        for words, score in of_window.items():
            best[words] = max(score, best.get(words, 0.0))
    start, end = max(best, key=lambda words: best[words])  # the first of equals
    score = min(best[start, end], 1.0)  # a sum of products may round to more
    end = after_marks(context, end)
    return Answer(context[start:end], score, start, end)


def _score_words(
    window: Window, starts: NDArray[Any], ends: NDArray[Any], max_answer_tokens: int
) -> dict[tuple[int, int], float]:
    """Return the probability of each likely answer of a window, by its characters in the context.

    ``starts`` and ``ends`` are the row's logits, float [tokens], padding included.
    """
    spans = np.outer(_probabilities(window, starts), _probabilities(window, ends))
    tokens = np.arange(len(spans))
    answer_tokens = tokens[None, :] - tokens[:, None] + 1
    spans[(answer_tokens < 1) | (answer_tokens > max_answer_tokens)] = -1.0
    flat = spans.ravel()
    # All ties at the cut count, so that the result does not depend on how numpy orders equals.
    cut = np.partition(flat, -_SPANS_PER_WINDOW)[-_SPANS_PER_WINDOW] if len(flat) > _SPANS_PER_WINDOW else 0.0
    words: dict[tuple[int, int], float] = {}
    for index in np.flatnonzero(flat >= max(cut, 0.0)):
        first, last = divmod(int(index), len(spans))
        key = (window.words[first][0], window.words[last][1])
        words[key] = words.get(key, 0.0) + float(flat[index])
    return words


def _probabilities(window: Window, logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return the softmax over the window's context tokens and CLS, of the context tokens only, [context tokens]."""
    context = logits[window.first : window.stop].astype(np.float64)
    cls = logits[:1].astype(np.float64) if window.has_cls else np.empty(0)
    highest = max(context.max(), cls.max(initial=-np.inf))
    weights = np.exp(context - highest)
    return np.asarray(weights / (weights.sum() + np.exp(cls - highest).sum()))


def _output_shapes(_model: ModelInfo, rows: int, tokens: int) -> Shapes:
    return {"start_logits": (rows, tokens), "end_logits": (rows, tokens)}


def _to_json(_given: Given, answer: Answer) -> dict[str, Any]:
    return asdict(answer)


def _to_text(_given: Given, answer: Answer) -> str:
    return f"{answer.text}\n(score {answer.score:.4f}, characters {answer.start} to {answer.end})"


SPEC = TaskSpec(
    Task.QUESTION_ANSWERING,
    call="model(question=..., context=...)",
    needed=frozenset({"question", "context"}),
    optional=frozenset({"stride", "max_answer_tokens", "batch_size"}),
    answer=answer_questions,
    output_shapes=_output_shapes,
    to_json=_to_json,
    to_text=_to_text,
    main_text="context",
)
