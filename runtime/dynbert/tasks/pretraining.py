"""Both heads of BERT's pretraining at once: what the masks hide, and whether the second text follows the first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.tasks.base import TaskSpec
from dynbert.tasks.fill_mask import (
    MaskedToken,
    candidates_table,
    check_mask_token,
    count_masks,
    fill_row,
)
from dynbert.tasks.next_sentence_prediction import NextSentence, as_next_sentence, next_sentence_table
from dynbert.tasks.texts import as_pairs, as_texts, pair_names, text_records
from dynbert.tokenization import item_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Encoding

    from dynbert.manifest import ModelInfo
    from dynbert.tasks.arguments import Texts
    from dynbert.tasks.base import Given, Row, Shapes, TaskContext

__all__ = ["SPEC", "Pretraining", "predict_pretraining"]


@dataclass(frozen=True)
class Pretraining:
    """What both heads say of a text, or of a pair."""

    masks: tuple[MaskedToken, ...]
    """The masks of the text, then those of its pair; ``sequence`` says which. May be empty for a pair."""
    next_sentence: NextSentence | None
    """Whether the second text follows the first; None where there is no second."""


def predict_pretraining(
    task: TaskContext,
    texts: Texts,
    text_pair: Texts | None,
    *,
    top_k: int,
    batch_size: int,
) -> Pretraining | list[Pretraining]:
    """Fill masks and judge pairs.

    Args:
        task: The bundle's side of the call.
        texts: A text, or a list of them.
        text_pair: The second text, or a list of as many. Without it each text needs a mask.
        top_k: How many candidates a mask gets, at least 1; no more than the vocabulary has.
        batch_size: Most texts or pairs to run together, at least 1.

    Returns:
        What was found, or a list of that in the texts' order.

    Raises:
        InputError: If a text has neither mask nor pair, has no token or is too long, or the lists differ in length.
        BundleError: If the bundle names no mask token.
    """
    mask = check_mask_token(task)
    texts_of_rows: list[tuple[str, ...]]
    if text_pair is None:
        items, is_single = as_texts(texts)
        texts_of_rows = [(text,) for text in items]
        encodings = task.tokenizer.encode(items, truncate=None)
        _check_masks(task, items, encodings, mask)
    else:
        pairs, is_single = as_pairs(("texts", "text_pair"), texts, text_pair)
        texts_of_rows = [*pairs]
        encodings = task.tokenizer.encode_pairs(pairs, pair_names(len(pairs)), truncate=None)

    def read(row: Row) -> Pretraining:
        tokens, relations = row.output("prediction_logits"), row.output("seq_relationship_logits")
        masks = fill_row(task, encodings[row.index], texts_of_rows[row.index], tokens, top_k)
        return Pretraining(masks, None if text_pair is None else as_next_sentence(relations))

    results = task.map_rows(encodings, batch_size, read)
    return results[0] if is_single else results


def _check_masks(task: TaskContext, texts: Sequence[str], encodings: Sequence[Encoding], mask: str) -> None:
    for index, (text, encoding) in enumerate(zip(texts, encodings, strict=True)):
        if not count_masks(task, encoding):
            raise InputError(
                f"{item_name('text', index, len(texts))} must have the mask token {mask} or a text_pair, "
                f"got {text[:40]!r}."
            )


def _output_shapes(model: ModelInfo, rows: int, tokens: int) -> Shapes:
    return {"prediction_logits": (rows, tokens, model.vocab_size), "seq_relationship_logits": (rows, 2)}


def _to_json(given: Given, results: Sequence[Pretraining]) -> list[dict[str, Any]]:
    return [record | asdict(result) for record, result in zip(text_records(given), results, strict=True)]


def _to_text(given: Given, results: Sequence[Pretraining]) -> str:
    records = text_records(given)
    tables = []
    if any(result.masks for result in results):
        tables.append(candidates_table(records, [result.masks for result in results]))
    following = [result.next_sentence for result in results if result.next_sentence is not None]
    if following:
        tables.append(next_sentence_table(records, following))
    return "\n\n".join(tables)


SPEC = TaskSpec(
    Task.PRETRAINING,
    call="model(texts)",
    needed=frozenset({"texts"}),
    optional=frozenset({"text_pair", "top_k", "batch_size"}),
    answer=predict_pretraining,
    output_shapes=_output_shapes,
    to_json=_to_json,
    to_text=_to_text,
)
