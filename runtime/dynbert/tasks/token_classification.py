"""Token classification: the label of every word, and the entities that neighbouring words make up.

Words are the tokenizer's: what its pre-tokenizer cuts before words become pieces, punctuation included. A word's label
comes from its pieces by one of the aggregation strategies of Hugging Face's pipeline, and words become entities by its
rules. One difference: there a heuristic guesses which pieces belong together, here the tokenizer says so.

A long text is read in overlapping windows. A word is answered by the window that has most of its pieces and, of those,
the one where it lies farthest from an edge; of equals the first. The text's own ends count as edges like any other:
near them the other window's edge is always nearer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dynbert.manifest import Task
from dynbert.tables import format_table, shorten
from dynbert.tasks.arguments import Aggregation
from dynbert.tasks.base import TaskSpec, label_names, regroup, softmax
from dynbert.tasks.texts import as_texts, text_records
from dynbert.tokenization import after_marks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dynbert.manifest import ModelInfo
    from dynbert.tasks.arguments import Texts
    from dynbert.tasks.base import Given, Row, Shapes, TaskContext
    from dynbert.tokenization import Window

__all__ = ["SPEC", "Entity", "TokenLabels", "Word", "label_tokens"]

_OUTSIDE = "O"
_BEGINS, _CONTINUES = "B-", "I-"


@dataclass(frozen=True)
class Word:
    """One word of a text with its label."""

    text: str
    """``source[start:end]``, exactly."""
    label: str
    """As the model names it, prefix included."""
    score: float
    """Probability of the label by the aggregation, in [0, 1]."""
    start: int
    """First character in the text, as Python counts them (code points)."""
    end: int
    """Character after the last one, accents without a token of their own included."""


@dataclass(frozen=True)
class Entity:
    """Neighbouring words of one label."""

    text: str
    """``source[start:end]``, exactly, with what lies between its words."""
    label: str
    """Without a ``B-`` or ``I-`` in front."""
    score: float
    """Mean of its words' scores."""
    start: int
    """First character in the text."""
    end: int
    """Character after the last one."""


@dataclass(frozen=True)
class TokenLabels:
    """The labels of a text's words."""

    words: tuple[Word, ...]
    """Every word in order, also those that are no entity."""
    entities: tuple[Entity, ...]
    """In order. ``B-`` starts one, ``I-`` of its type continues it, another type starts another; words whose labels
    have no prefix belong together where they are neighbours with the same label; ``O`` is none."""


class _Reading(NamedTuple):
    """What one window says of a word."""

    number: int
    """Which of the text's words it is."""
    rank: tuple[int, int]
    """Pieces of the word in the window, and tokens between the word and the nearest edge."""
    start: int
    """The word's first character in the text."""
    end: int
    """Character after its last token."""
    label: str
    score: float


def label_tokens(
    task: TaskContext, texts: Texts, *, aggregation: Aggregation, stride: int | None, batch_size: int
) -> TokenLabels | list[TokenLabels]:
    """Label the words of one or several texts.

    Args:
        task: The bundle's side of the call.
        texts: A text of any length, or a list of them.
        aggregation: How a word's pieces decide on its label.
        stride: Tokens that neighbouring windows of a long text share, at least 0. None: 128, or half a window if less.
        batch_size: Most windows to run together, at least 1.

    Returns:
        The labels, or a list of them in the texts' order.

    Raises:
        InputError: If a text has no token, or the stride is not shorter than a window.
    """
    items, is_single = as_texts(texts)
    windows_of_texts = task.tokenizer.text_windows(items, stride=stride)
    windows = [window for of_text in windows_of_texts for window in of_text]

    def read(row: Row) -> list[_Reading]:
        return list(_read_words(windows[row.index], row.output("logits"), task.model.labels, aggregation))

    readings = task.map_rows([window.encoding for window in windows], batch_size, read)
    results = []
    for text, of_text in zip(items, regroup(readings, map(len, windows_of_texts)), strict=True):
        words = _best_words(text, of_text)
        results.append(TokenLabels(words, _group_words(text, words)))
    return results[0] if is_single else results


def _read_words(
    window: Window, logits: NDArray[Any], labels: Sequence[str], aggregation: Aggregation
) -> Iterator[_Reading]:
    """Yield a reading of each word that a window has a piece of; ``logits`` are the row's, [tokens, labels]."""
    numbers = window.encoding.word_ids[window.first : window.stop]
    probabilities = softmax(logits[window.first : window.stop])
    names = label_names(labels, probabilities.shape[-1])
    pieces: dict[int, list[int]] = {}
    for position, number in enumerate(numbers):
        if number is not None:
            pieces.setdefault(number, []).append(position)
    for number, positions in pieces.items():
        margin = min(positions[0], len(numbers) - 1 - positions[-1])
        scores = _aggregate(probabilities[positions], aggregation)
        label = int(scores.argmax())
        yield _Reading(
            number, (len(positions), margin), *window.words[positions[0]], names[label], float(scores[label])
        )


def _best_words(text: str, readings: Sequence[Sequence[_Reading]]) -> tuple[Word, ...]:
    """Return every word of a text, from the readings of each of its windows in order."""
    best: dict[int, _Reading] = {}
    for of_window in readings:
        for reading in of_window:
            if reading.number not in best or reading.rank > best[reading.number].rank:
                best[reading.number] = reading
    words = []
    for _, reading in sorted(best.items()):
        end = after_marks(text, reading.end)
        words.append(Word(text[reading.start : end], reading.label, reading.score, reading.start, end))
    return tuple(words)


def _aggregate(probabilities: NDArray[np.float64], aggregation: Aggregation) -> NDArray[np.float64]:
    """Return a word's score of every label, [labels], from those of its pieces, [pieces, labels]."""
    if aggregation is Aggregation.FIRST:
        return np.asarray(probabilities[0])
    if aggregation is Aggregation.AVERAGE:
        return np.asarray(probabilities.mean(axis=0))
    return np.asarray(probabilities[probabilities.max(axis=1).argmax()])


def _group_words(text: str, words: Sequence[Word]) -> tuple[Entity, ...]:
    groups: list[tuple[str, list[Word]]] = []
    for word in words:
        begins = word.label.startswith(_BEGINS)
        label = word.label.removeprefix(_BEGINS if begins else _CONTINUES)
        if groups and groups[-1][0] == label and not begins:
            groups[-1][1].append(word)
        else:
            groups.append((label, [word]))
    return tuple(_entity(text, label, group) for label, group in groups if label != _OUTSIDE)


def _entity(text: str, label: str, words: Sequence[Word]) -> Entity:
    start, end = words[0].start, words[-1].end
    score = float(np.mean([word.score for word in words]))
    return Entity(text[start:end], label, score, start, end)


def _output_shapes(model: ModelInfo, rows: int, tokens: int) -> Shapes:
    return {"logits": (rows, tokens, len(model.labels) or None)}


def _to_json(given: Given, results: Sequence[TokenLabels]) -> list[dict[str, Any]]:
    return [record | asdict(result) for record, result in zip(text_records(given), results, strict=True)]


def _to_text(given: Given, results: Sequence[TokenLabels]) -> str:
    """Return the entities as a table; what has none gets a row that says so."""
    rows: list[tuple[str, ...]] = []
    for text, result in zip(given["texts"], results, strict=True):
        shown = shorten(text)
        rows += [
            (shown, shorten(entity.text), entity.label, f"{entity.score:.4f}", f"{entity.start} to {entity.end}")
            for entity in result.entities
        ] or [(shown, "no entity", "", "", "")]
    return format_table(rows, ["text", "entity", "label", "score", "characters"])


SPEC = TaskSpec(
    Task.TOKEN_CLASSIFICATION,
    call="model(texts)",
    needed=frozenset({"texts"}),
    optional=frozenset({"aggregation", "stride", "batch_size"}),
    answer=label_tokens,
    output_shapes=_output_shapes,
    to_json=_to_json,
    to_text=_to_text,
)
