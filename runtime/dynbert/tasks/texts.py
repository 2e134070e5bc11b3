"""The texts of a call: one or several, alone or in pairs, as lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynbert.errors import InputError
from dynbert.tokenization import item_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynbert.tasks.base import Given
    from dynbert.tokenization import PairNames

__all__ = ["as_pairs", "as_texts", "pair_names", "text_records"]


def as_texts(texts: str | Sequence[str]) -> tuple[list[str], bool]:
    """Return one or several texts as a list.

    Args:
        texts: A string, or a list or tuple of strings.

    Returns:
        The list, and whether a single string was given.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(texts, str):
        return [texts], True
    if not isinstance(texts, (list, tuple)):
        raise InputError(f"Texts must be a string or a list of strings, got {type(texts).__name__}.")
    return list(texts), False


def as_pairs(
    names: PairNames, first: str | Sequence[str], second: str | Sequence[str]
) -> tuple[list[tuple[str, str]], bool]:
    """Return one or several pairs of texts as a list.

    Args:
        names: The arguments' names, for the message.
        first: A string, or a list of them.
        second: A string, or a list of as many.

    Returns:
        The pairs, and whether a single one was given.

    Raises:
        InputError: If they are neither, or differ in length.
    """
    firsts, is_single = as_texts(first)
    seconds, is_single_second = as_texts(second)
    if is_single != is_single_second or len(firsts) != len(seconds):
        raise InputError(
            f"{names[0]} and {names[1]} must be two strings or two lists of one length, "
            f"got {_describe(first)} and {_describe(second)}."
        )
    return list(zip(firsts, seconds, strict=True)), is_single


def _describe(texts: str | Sequence[str]) -> str:
    return "a string" if isinstance(texts, str) else f"a list of {len(texts)}"


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
