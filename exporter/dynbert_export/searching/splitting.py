"""Which examples a search decides by, and which are kept aside for numbers that it had no part in.

What belongs together stays together: questions about one context, equal texts. For retrieval a query is an example, and
all passages are searched for the queries of both parts, as they are where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.scoring.examples import ChoiceExample, PlainExample, QuestionExample, TextExample, WordsExample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynbert.scoring.examples import Example, LabelledData

__all__ = ["FEWEST_EXAMPLES", "Part", "as_part", "is_retrieval", "split_data"]

FEWEST_EXAMPLES = 16
"""Of each part: below it no interval says anything."""


@dataclass(frozen=True)
class Part:
    """Examples that are asked about together."""

    data: LabelledData
    passages: tuple[str, ...] = ()
    """Retrieval: all that are searched, those that belong to no query of this part too; else none."""


def is_retrieval(data: LabelledData) -> bool:
    """Return whether data is queries that are to find their passages.

    Args:
        data: Any labelled data.

    Returns:
        Whether it has pairs for embeddings, and no scores.
    """
    first = data.examples[0]
    return data.task is Task.FEATURE_EXTRACTION and isinstance(first, PlainExample) and first.score is None


def as_part(data: LabelledData) -> Part:
    """Return all of some data as one part.

    Args:
        data: Labelled data.

    Returns:
        The part.

    Raises:
        InputError: If there are too few examples, or all of them are labelled alike.
    """
    return _make_part(data, data.examples, data.name)


def split_data(data: LabelledData, *, share: float, seed: int) -> tuple[Part, Part]:
    """Split data at random.

    Args:
        data: Labelled data.
        share: Of the examples that is kept aside.
        seed: Equal seeds split alike.

    Returns:
        The part that a search decides by, and the one that is kept aside; both in the data's order.

    Raises:
        InputError: If a part has too few examples, or all of a part are labelled alike.
    """
    groups: dict[object, list[int]] = {}
    for index, example in enumerate(data.examples):
        groups.setdefault(_group_of(example, data), []).append(index)
    keys = list(groups)
    wanted = round(share * len(data.examples))
    apart: set[int] = set()
    for number in np.random.default_rng(seed).permutation(len(keys)):
        if len(apart) >= wanted:
            break
        apart.update(groups[keys[number]])
    searched = [example for index, example in enumerate(data.examples) if index not in apart]
    kept = [example for index, example in enumerate(data.examples) if index in apart]
    smallest = min(_count_units(searched, data), _count_units(kept, data))
    if smallest < FEWEST_EXAMPLES:
        raise InputError(
            f"Data must leave at least {FEWEST_EXAMPLES} examples to search by and as many to keep aside, got "
            f"{_count_units(searched, data)} and {_count_units(kept, data)} of {data.name}. Pass more data, another "
            "held-out share, or --test FILE."
        )
    return (
        _make_part(data, searched, f"{data.name}, {_count_units(searched, data)} searched by"),
        _make_part(data, kept, f"{data.name}, {_count_units(kept, data)} kept aside"),
    )


def _group_of(example: Example, data: LabelledData) -> object:
    """Return what an example has in common with those that it must not be parted from."""
    if isinstance(example, QuestionExample):
        return example.context
    if isinstance(example, PlainExample):
        return example.text if is_retrieval(data) else (example.text, example.pair)
    if isinstance(example, TextExample):
        return example.text, example.pair
    if isinstance(example, ChoiceExample):
        return example.text, example.choices
    return example.words


def _count_units(examples: Sequence[Example], data: LabelledData) -> int:
    """Return how many examples there are, of retrieval how many queries."""
    if not is_retrieval(data):
        return len(examples)
    return len({example.text for example in examples if isinstance(example, PlainExample)})


def _make_part(data: LabelledData, examples: Sequence[Example], name: str) -> Part:
    part = replace(data, examples=tuple(examples), name=name)
    if _count_units(examples, data) < FEWEST_EXAMPLES:
        raise InputError(
            f"Data must have at least {FEWEST_EXAMPLES} examples, got {_count_units(examples, data)} in {data.name}."
        )
    _check_variety(part)
    if not is_retrieval(data):
        return Part(part)
    if any(isinstance(example, PlainExample) and example.pair is None for example in data.examples):
        raise InputError(
            f"Data for embeddings must have pairs of texts, got single texts in {data.name}. "
            "Name the second texts' column with --pair-column."
        )
    passages = dict.fromkeys(example.pair or "" for example in data.examples if isinstance(example, PlainExample))
    return Part(part, tuple(passages))


def _check_variety(data: LabelledData) -> None:
    """Refuse examples that are all labelled alike: every config answers them equally well."""
    kinds: set[object] = set()
    for example in data.examples:
        if isinstance(example, TextExample):
            kinds.add(example.label)
        elif isinstance(example, WordsExample):
            kinds.update(example.labels)
        elif isinstance(example, PlainExample) and example.score is not None:
            kinds.add(example.score)
        else:
            return
    if len(kinds) < 2:
        [only] = kinds
        label = data.label_names[only] if data.label_names and isinstance(only, int) else only
        raise InputError(f"Data must have at least two different labels, got {label!r} alone in {data.name}.")
