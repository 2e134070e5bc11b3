"""The texts of a call: one or several, alone or in pairs, as lists.

Several may come as anything that gives one text after the other: a list, an array, a column of a table, a generator.
What would give something else than the caller's texts (the bytes of a string, the keys of a dict) is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dynbert.errors import InputError
from dynbert.tokenization import item_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dynbert.tasks.arguments import Texts
    from dynbert.tasks.base import Given
    from dynbert.tokenization import PairNames

__all__ = ["as_items", "as_pairs", "as_texts", "check_strings", "pair_names", "text_records"]


def as_items(values: object) -> list[Any] | None:
    """Return the items of a list, array, generator or any other iterable.

    Args:
        values: Anything.

    Returns:
        The items in order, those of an array as Python's own objects; None for what is no list of items: a string,
        bytes, a mapping, an array without axes, or what cannot be iterated.
    """
    if isinstance(values, (str, bytes, bytearray, Mapping)):
        return None
    if isinstance(values, np.ndarray):
        return list(values.tolist()) if values.ndim else None
    try:
        items = iter(cast("Iterable[Any]", values))
    except TypeError:
        return None
    return list(items)


def check_strings(items: Iterable[object], names: Iterable[str]) -> None:
    """Check that items are texts.

    Args:
        items: The items.
        names: What messages call each of them.

    Raises:
        InputError: At the first that is no string.
    """
    for item, name in zip(items, names, strict=True):
        if not isinstance(item, str):
            raise InputError(f"{name} must be a string, got {type(item).__name__}.")


def as_texts(texts: Texts, name: str = "text") -> tuple[list[str], bool]:
    """Return one or several texts as a list.

    Args:
        texts: A string, or several of them.
        name: What messages call one of them.

    Returns:
        The list, and whether a single string was given.

    Raises:
        InputError: If it is neither, or an item is no string.
    """
    if isinstance(texts, str):
        return [texts], True
    items = as_items(texts)
    if items is None:
        raise InputError(f"Texts must be a string or a list of strings, got {type(texts).__name__}.")
    check_strings(items, (item_name(name, index, len(items)) for index in range(len(items))))
    return items, False


def as_pairs(names: PairNames, first: Texts, second: Texts) -> tuple[list[tuple[str, str]], bool]:
    """Return one or several pairs of texts as a list.

    Args:
        names: The arguments' names, for messages; one of ``texts`` is called ``text``.
        first: A string, or several of them.
        second: A string, or as many.

    Returns:
        The pairs, and whether a single one was given.

    Raises:
        InputError: If they are neither, differ in number, or an item is no string.
    """
    firsts, is_single = as_texts(first, names[0].removesuffix("s"))
    seconds, is_single_second = as_texts(second, names[1].removesuffix("s"))
    if is_single != is_single_second or len(firsts) != len(seconds):
        raise InputError(
            f"{names[0]} and {names[1]} must be two strings or two lists of one length, "
            f"got {_describe(firsts, is_single=is_single)} and {_describe(seconds, is_single=is_single_second)}."
        )
    return list(zip(firsts, seconds, strict=True)), is_single


def _describe(texts: list[str], *, is_single: bool) -> str:
    return "a string" if is_single else f"a list of {len(texts)}"


def pair_names(count: int) -> list[PairNames]:
    """Return what messages call the texts and second texts of a call.

    Args:
        count: How many pairs.

    Returns:
        Two names a pair.
    """
    return [(item_name("text", index, count), item_name("text_pair", index, count)) for index in range(count)]


def text_records(given: Given) -> list[dict[str, Any]]:
    """Return the texts of a call as plain data for JSON, to put results beside.

    Args:
        given: A call with lists of texts.

    Returns:
        One record a text, with its ``text_pair`` where the call has them.
    """
    records: list[dict[str, Any]] = [{"text": text} for text in given["texts"]]
    for record, second in zip(records, given.get("text_pair", ()), strict=False):
        record["text_pair"] = second
    return records
