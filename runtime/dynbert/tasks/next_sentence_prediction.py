"""Next sentence prediction: whether a second text follows the first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dynbert.manifest import Task
from dynbert.tables import format_table, shorten
from dynbert.tasks.base import TaskSpec, softmax
from dynbert.tasks.texts import as_pairs, pair_names, text_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from dynbert.manifest import ModelInfo
    from dynbert.tasks.arguments import Texts
    from dynbert.tasks.base import Given, Shapes, TaskContext

__all__ = ["SPEC", "NextSentence", "as_next_sentence", "next_sentence_table", "predict_next_sentences"]

_IS_NEXT = 0
"""The index of the logit that says that the second text follows, as in transformers."""


@dataclass(frozen=True)
class NextSentence:
    """Whether a second text follows the first."""

    is_next: bool
    """Whether that is the more probable of the two."""
    score: float
    """Probability that it follows, in [0, 1]."""


def predict_next_sentences(
    task: TaskContext,
    texts: Texts,
    text_pair: Texts,
    *,
    truncate: bool,
    batch_size: int,
) -> NextSentence | list[NextSentence]:
    """Say of one or several pairs whether the second text follows the first.

    Args:
        task: The bundle's side of the call.
        texts: The first text, or a list of them.
        text_pair: The second text, or a list of as many.
        truncate: Whether to cut the longer text of a pair that is longer than the model's maximum length.
        batch_size: Most pairs to run together, at least 1.

    Returns:
        A prediction, or a list of them in the pairs' order.

    Raises:
        InputError: If a text has no token, a pair is too long and may not be cut, or the lists differ in length.
    """
    pairs, is_single = as_pairs(("texts", "text_pair"), texts, text_pair)
    encodings = task.tokenizer.encode_pairs(pairs, pair_names(len(pairs)), truncate=truncate)
    results = task.map_rows(encodings, batch_size, lambda row: as_next_sentence(row.output("logits")))
    return results[0] if is_single else results


def as_next_sentence(logits: NDArray[Any]) -> NextSentence:
    """Return what a pair's logits say.

    Args:
        logits: Float [2].

    Returns:
        The prediction.
    """
    return NextSentence(int(logits.argmax()) == _IS_NEXT, float(softmax(logits)[_IS_NEXT]))


def next_sentence_table(records: Sequence[dict[str, Any]], results: Sequence[NextSentence]) -> str:
    """Return predictions as a table for people.

    Args:
        records: The pairs, from ``text_records``.
        results: One a pair.

    Returns:
        Lines of text, one a pair.
    """
    rows = [
        (
            shorten(record["text"]),
            shorten(record["text_pair"]),
            "yes" if result.is_next else "no",
            f"{result.score:.4f}",
        )
        for record, result in zip(records, results, strict=True)
    ]
    return format_table(rows, ["text", "text_pair", "is next", "score"])


def _output_shapes(_model: ModelInfo, rows: int, _tokens: int) -> Shapes:
    return {"logits": (rows, 2)}


def _to_json(given: Given, results: Sequence[NextSentence]) -> list[dict[str, Any]]:
    return [record | asdict(result) for record, result in zip(text_records(given), results, strict=True)]


def _to_text(given: Given, results: Sequence[NextSentence]) -> str:
    return next_sentence_table(text_records(given), results)


SPEC = TaskSpec(
    Task.NEXT_SENTENCE_PREDICTION,
    call="model(texts, text_pair=...)",
    needed=frozenset({"texts", "text_pair"}),
    optional=frozenset({"truncate", "batch_size"}),
    answer=predict_next_sentences,
    output_shapes=_output_shapes,
    to_json=_to_json,
    to_text=_to_text,
)
