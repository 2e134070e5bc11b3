"""Filling masks: the tokens that a text may have where it has the mask token.

Scores are the softmax over all of a position's logits, as in Hugging Face's pipeline. A table of embeddings may be
padded to more rows than the vocabulary has tokens: those take their share of the probability there and here, but only
what the tokenizer can name is a candidate.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import BundleError, InputError
from dynbert.manifest import Task
from dynbert.tables import format_table, shorten
from dynbert.tasks.base import TaskSpec, softmax
from dynbert.tasks.texts import as_texts, text_records
from dynbert.tokenization import item_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from dynbert.manifest import ModelInfo
    from dynbert.tasks.arguments import Texts
    from dynbert.tasks.base import Given, Row, Shapes, TaskContext

__all__ = [
    "SPEC",
    "Candidate",
    "MaskedToken",
    "candidates_table",
    "check_mask_token",
    "count_masks",
    "fill_masks",
    "fill_row",
]

_CONTINUES = "##"


@dataclass(frozen=True)
class Candidate:
    """One token in a mask's place."""

    token: str
    """As the vocabulary spells it: a piece that continues a word starts with ``##``."""
    token_id: int
    score: float
    """Probability among all tokens, in [0, 1]."""
    text: str
    """The whole text with this mask, and no other, replaced by the token; a piece loses its ``##``."""


@dataclass(frozen=True)
class MaskedToken:
    """One mask of a text."""

    start: int
    """The mask's first character in its text, as Python counts them (code points)."""
    end: int
    """Character after the last one."""
    candidates: tuple[Candidate, ...]
    """The most probable tokens, best first; of equals the lower id."""
    sequence: int = 0
    """Which text it is in: 0 the text, 1 the ``text_pair`` (pretraining only)."""


def fill_masks(
    task: TaskContext,
    texts: Texts,
    *,
    top_k: int,
    batch_size: int,
) -> tuple[MaskedToken, ...] | list[tuple[MaskedToken, ...]]:
    """Fill the masks of one or several texts.

    Args:
        task: The bundle's side of the call.
        texts: A text with at least one mask token, or a list of them.
        top_k: How many candidates a mask gets, at least 1; no more than the vocabulary has.
        batch_size: Most texts to run together, at least 1.

    Returns:
        The text's masks in order, or a list of them in the texts' order.

    Raises:
        InputError: If a text has no mask or is too long.
        BundleError: If the bundle names no mask token.
    """
    items, is_single = as_texts(texts)
    mask = check_mask_token(task)
    encodings = task.tokenizer.encode(items, truncate=None)
    for index, (text, encoding) in enumerate(zip(items, encodings, strict=True)):
        if not count_masks(task, encoding):
            name = item_name("text", index, len(items))
            raise InputError(f"{name} must have the mask token {mask} at least once, got {text[:40]!r}.")

    def read(row: Row) -> tuple[MaskedToken, ...]:
        return fill_row(task, encodings[row.index], (items[row.index],), row.output("logits"), top_k)

    results = task.map_rows(encodings, batch_size, read)
    return results[0] if is_single else results


def check_mask_token(task: TaskContext) -> str:
    """Return how a text asks for a token.

    Args:
        task: The bundle's side of the call.

    Returns:
        The mask token.

    Raises:
        BundleError: If the bundle states none, or its tokenizer has no such id.
    """
    token_id = task.model.mask_token_id
    token = None if token_id is None else task.tokenizer.token(token_id)
    if token is None:
        raise BundleError(f"mask_token_id must be an id of the bundle's tokenizer, got {token_id}. Export it again.")
    return token


def count_masks(task: TaskContext, encoding: Encoding) -> int:
    """Return how many masks a row has.

    Args:
        task: The bundle's side of the call.
        encoding: The row.

    Returns:
        Their number.
    """
    return len(_positions(task, encoding))


def fill_row(
    task: TaskContext, encoding: Encoding, texts: tuple[str, ...], logits: NDArray[Any], top_k: int
) -> tuple[MaskedToken, ...]:
    """Fill the masks of one row.

    Args:
        task: The bundle's side of the call.
        encoding: The row.
        texts: Its text, or its two texts.
        logits: Float [tokens, vocabulary], padding included.
        top_k: How many candidates a mask gets.

    Returns:
        The masks in the row's order.
    """
    masks = []
    for position in _positions(task, encoding):
        sequence = encoding.sequence_ids[position] or 0
        text = texts[sequence]
        start, end = _without_spaces(text, *encoding.offsets[position])
        found = tuple(
            Candidate(token, token_id, score, text[:start] + token.removeprefix(_CONTINUES) + text[end:])
            for token, token_id, score in _best_tokens(task, logits[position], top_k)
        )
        masks.append(MaskedToken(start, end, found, sequence))
    return tuple(masks)


def _positions(task: TaskContext, encoding: Encoding) -> list[int]:
    return [position for position, token_id in enumerate(encoding.ids) if token_id == task.model.mask_token_id]


def _without_spaces(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a mask's own characters: some tokenizers count the space before it in."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), end - len(piece) + len(piece.rstrip())


def _best_tokens(task: TaskContext, logits: NDArray[Any], top_k: int) -> Iterator[tuple[str, int, float]]:
    """Yield token, id and probability of the best tokens that have a name; ``logits`` is float [vocabulary]."""
    probabilities = softmax(logits)
    for token_id in np.argsort(-logits, kind="stable").tolist():
        if top_k == 0:
            return
        token = task.tokenizer.token(token_id)
        if token is not None:
            yield token, token_id, float(probabilities[token_id])
            top_k -= 1


def candidates_table(records: Sequence[dict[str, Any]], results: Sequence[Sequence[MaskedToken]]) -> str:
    """Return candidates as a table for people.

    Args:
        records: What was asked, from ``text_records``.
        results: For each record its masks.

    Returns:
        Lines of text, one a candidate.
    """
    rows = [
        (
            shorten(list(record.values())[mask.sequence]),
            f"{mask.start} to {mask.end}",
            candidate.token,
            f"{candidate.score:.4f}",
            shorten(candidate.text),
        )
        for record, masks in zip(records, results, strict=True)
        for mask in masks
        for candidate in mask.candidates
    ]
    return format_table(rows, ["text", "characters", "token", "score", "filled"])


def _output_shapes(model: ModelInfo, rows: int, tokens: int) -> Shapes:
    return {"logits": (rows, tokens, model.vocab_size)}


def _to_json(given: Given, results: Sequence[Sequence[MaskedToken]]) -> list[dict[str, Any]]:
    return [
        record | {"masks": [asdict(mask) for mask in masks]}
        for record, masks in zip(text_records(given), results, strict=True)
    ]


def _to_text(given: Given, results: Sequence[Sequence[MaskedToken]]) -> str:
    return candidates_table(text_records(given), results)


SPEC = TaskSpec(
    Task.FILL_MASK,
    call="model(texts)",
    needed=frozenset({"texts"}),
    optional=frozenset({"top_k", "batch_size"}),
    answer=fill_masks,
    output_shapes=_output_shapes,
    to_json=_to_json,
    to_text=_to_text,
)
