"""Text classification: the label of a text, or of a pair of texts, and the score of every label.

Which function turns logits into scores follows the bundle's ``problem_type``, as in Hugging Face's models: softmax for
one label out of several, a sigmoid each for several labels at once, and the bare value for regression. Where a
checkpoint states none, one output means regression and several mean softmax. A reranker, which judges a pair of texts
by one logit, is ``ranking``: the logit itself is the score, because a sigmoid would squeeze the best together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import BundleError
from dynbert.manifest import Task
from dynbert.tables import format_table, shorten
from dynbert.tasks.base import TaskSpec, label_names, softmax
from dynbert.tasks.texts import as_pairs, as_texts, pair_names, text_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from dynbert.manifest import ModelInfo
    from dynbert.tasks.arguments import Texts
    from dynbert.tasks.base import Given, Row, Shapes, TaskContext

__all__ = ["SPEC", "Classification", "classify"]

_SINGLE_LABEL = "single_label_classification"
_MULTI_LABEL = "multi_label_classification"
_REGRESSION = "regression"
_RANKING = "ranking"


@dataclass(frozen=True)
class Classification:
    """What a text was classified as."""

    label: str
    """The label of the highest score."""
    score: float
    """Its score."""
    scores: Mapping[str, float]
    """Score of every label, in the model's order: probabilities in [0, 1], or bare values for regression and ranking.

    Ranking: one label, and a score without bounds that says how well the pair fits together. Compare it with those of
    other pairs, as in ``sorted(results, key=lambda result: result.score, reverse=True)``; results come in the order of
    the texts, whatever their scores.
    """


def classify(
    task: TaskContext,
    texts: Texts,
    text_pair: Texts | None,
    *,
    truncate: bool,
    batch_size: int,
) -> Classification | list[Classification]:
    """Classify one or several texts, or pairs of texts.

    Args:
        task: The bundle's side of the call.
        texts: A text, or a list of them.
        text_pair: For models of pairs (inference, paraphrases): the second text, or a list of as many.
        truncate: Whether to cut what is longer than the model's maximum length; of a pair the longer text.
        batch_size: Most texts to run together, at least 1.

    Returns:
        A classification, or a list of them in the texts' order.

    Raises:
        InputError: If a text has no token, is too long and may not be cut, or the lists differ in length.
    """
    if text_pair is None:
        items, is_single = as_texts(texts)
        encodings = task.tokenizer.encode(items, truncate=truncate)
    else:
        pairs, is_single = as_pairs(("texts", "text_pair"), texts, text_pair)
        encodings = task.tokenizer.encode_pairs(pairs, pair_names(len(pairs)), truncate=truncate)
    results = task.map_rows(encodings, batch_size, lambda row: _read_row(row, task.model))
    return results[0] if is_single else results


def _read_row(row: Row, model: ModelInfo) -> Classification:
    logits = row.output("logits")
    labels = label_names(model.labels, len(logits))
    scores = _scores(logits, model.problem_type)
    by_label = {label: float(score) for label, score in zip(labels, scores, strict=True)}
    best = int(scores.argmax())
    return Classification(labels[best], float(scores[best]), by_label)


def _scores(logits: NDArray[Any], problem_type: str | None) -> NDArray[np.float64]:
    """Return scores from logits, both [labels]."""
    values = logits.astype(np.float64)
    kind = problem_type or (_REGRESSION if len(logits) == 1 else _SINGLE_LABEL)
    if kind in {_REGRESSION, _RANKING}:
        return values
    if kind == _MULTI_LABEL:
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * values)))  # the sigmoid, without overflow
    if kind == _SINGLE_LABEL:
        return softmax(values)
    known = ", ".join((_SINGLE_LABEL, _MULTI_LABEL, _REGRESSION, _RANKING))
    raise BundleError(f"problem_type must be one of {known}, got {kind!r}. Export the bundle again.")


def _output_shapes(model: ModelInfo, rows: int, _tokens: int) -> Shapes:
    return {"logits": (rows, len(model.labels) or None)}


def _to_json(given: Given, results: Sequence[Classification]) -> list[dict[str, Any]]:
    return [
        record | {"label": result.label, "score": result.score, "scores": dict(result.scores)}
        for record, result in zip(text_records(given), results, strict=True)
    ]


def _to_text(given: Given, results: Sequence[Classification]) -> str:
    records = text_records(given)
    rows = [
        (*map(shorten, record.values()), result.label, *(f"{score:.4f}" for score in result.scores.values()))
        for record, result in zip(records, results, strict=True)
    ]
    return format_table(rows, [*records[0], "label", *results[0].scores])


SPEC = TaskSpec(
    Task.TEXT_CLASSIFICATION,
    call="model(texts)",
    needed=frozenset({"texts"}),
    optional=frozenset({"text_pair", "truncate", "batch_size"}),
    answer=classify,
    output_shapes=_output_shapes,
    to_json=_to_json,
    to_text=_to_text,
)
