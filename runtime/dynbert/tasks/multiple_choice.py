"""Multiple choice: which of several texts goes best with a first one.

Each choice is a row of its own, the pair of text and choice, and its logit does not depend on the others: the rows run
like those of any other task, so that choices need not be padded to each other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.tables import format_table, shorten
from dynbert.tasks.base import TaskSpec, regroup, softmax
from dynbert.tasks.texts import as_items, as_texts, check_strings, text_records
from dynbert.tokenization import item_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dynbert.manifest import ModelInfo
    from dynbert.tasks.arguments import Texts
    from dynbert.tasks.base import Given, Shapes, TaskContext

__all__ = ["SPEC", "Choice", "choose"]


@dataclass(frozen=True)
class Choice:
    """The best of several choices."""

    index: int
    """Its place among the choices; the first of equals."""
    text: str
    """The choice itself."""
    score: float
    """Its probability among the choices, in [0, 1]."""
    scores: tuple[float, ...]
    """Probability of every choice, in their order."""


def choose(
    task: TaskContext,
    texts: Texts,
    choices: Iterable[str] | Iterable[Iterable[str]],
    *,
    truncate: bool,
    batch_size: int,
) -> Choice | list[Choice]:
    """Choose for one or several texts.

    Args:
        task: The bundle's side of the call.
        texts: A text, or a list of them.
        choices: The choices, at least one; for several texts as many lists of them, which may differ in length.
        truncate: Whether to cut the longer of text and choice where both are longer than the model's maximum length.
        batch_size: Most pairs of text and choice to run together, at least 1.

    Returns:
        The best choice, or a list of them in the texts' order.

    Raises:
        InputError: If there is no choice, a text or choice has no token, both are too long and may not be cut, or the
            lists differ in length.
    """
    items, is_single = as_texts(texts)
    choices_of_texts = _as_choices(choices, None if is_single else len(items))
    pairs, names = [], []
    for index, (text, of_text) in enumerate(zip(items, choices_of_texts, strict=True)):
        name = item_name("text", index, len(items))
        of_name = "" if len(items) == 1 else f" of {name}"
        choice_names = [f"choice {number}{of_name}" for number in range(len(of_text))]
        check_strings(of_text, choice_names)
        pairs += [(text, choice) for choice in of_text]
        names += [(name, choice_name) for choice_name in choice_names]
    encodings = task.tokenizer.encode_pairs(pairs, names, truncate=truncate)
    logits = task.map_rows(encodings, batch_size, lambda row: float(row.output("logits")[0]))
    logits_of_texts = regroup(logits, map(len, choices_of_texts))
    results = [_choice(*of_text) for of_text in zip(choices_of_texts, logits_of_texts, strict=True)]
    return results[0] if is_single else results


def _as_choices(choices: object, texts: int | None) -> list[list[Any]]:
    """Return the choices of each text, still unchecked; ``texts`` is None where a single one was given."""
    items = as_items(choices)
    if items is None:
        raise InputError(f"choices must be a list of strings, got {type(choices).__name__}.")
    per_text = [items] if texts is None else items
    if texts is not None and len(per_text) != texts:
        raise InputError(f"choices must be a list of {texts} lists, one a text, got {len(per_text)}.")
    choices_of_texts = []
    for of_text in per_text:
        choices_of_text = as_items(of_text)
        if choices_of_text is None:
            raise InputError(
                f"choices must be a list of lists for a list of texts, got {type(of_text).__name__} in it."
            )
        if not choices_of_text:
            raise InputError("choices must have at least one choice for each text, got none.")
        choices_of_texts.append(choices_of_text)
    return choices_of_texts


def _choice(choices: Sequence[str], logits: Sequence[float]) -> Choice:
    scores = tuple(softmax(np.array(logits)).tolist())
    best = int(np.argmax(logits))
    return Choice(best, choices[best], scores[best], scores)


def _output_shapes(_model: ModelInfo, rows: int, _tokens: int) -> Shapes:
    return {"logits": (rows, 1)}


def _to_json(given: Given, results: Sequence[Choice]) -> list[dict[str, Any]]:
    return [
        record | {"choices": list(choices), "choice": asdict(result)}
        for record, choices, result in zip(text_records(given), given["choices"], results, strict=True)
    ]


def _to_text(given: Given, results: Sequence[Choice]) -> str:
    rows = [
        (shorten(text), shorten(choice), f"{score:.4f}", "best" if index == result.index else "")
        for text, choices, result in zip(given["texts"], given["choices"], results, strict=True)
        for index, (choice, score) in enumerate(zip(choices, result.scores, strict=True))
    ]
    return format_table(rows, ["text", "choice", "score", ""])


SPEC = TaskSpec(
    Task.MULTIPLE_CHOICE,
    call="model(texts, choices=[...])",
    needed=frozenset({"texts", "choices"}),
    optional=frozenset({"truncate", "batch_size"}),
    answer=choose,
    output_shapes=_output_shapes,
    to_json=_to_json,
    to_text=_to_text,
)
