"""Words with labels in CoNLL's form: a word a line, its label in the last column, an empty line after a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert.scoring.records import Record, RowFault

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["read_sentences"]

_DOCUMENT = "-DOCSTART-"
"""The word of a line that is no sentence but starts a document."""


def read_sentences(text: str) -> Iterator[Record]:
    """Read sentences.

    Args:
        text: Of a file. Columns are separated by tabs where a line has one, else by blanks; the first one is the word.

    Yields:
        A record with ``words`` and ``labels``, lists of texts; its place is the line of its first word.

    Raises:
        RowFault: If a line has not as many columns as the first one, or less than two.
    """
    width: int | None = None
    start = ""
    words: list[str] = []
    labels: list[str] = []
    for number, line in enumerate(text.split("\n"), start=1):
        cells = line.strip().split("\t") if "\t" in line.strip() else line.split()
        if cells and cells[0] != _DOCUMENT:
            where = f"line {number}"
            width = width or max(2, len(cells))
            if len(cells) != width:
                raise RowFault(where, f"hold lines of {width} columns, the last one a label", got=str(len(cells)))
            start = start or where
            words.append(cells[0].strip())
            labels.append(cells[-1].strip())
        elif words:
            yield Record(start, {"words": words, "labels": labels})
            start, words, labels = "", [], []
    if words:
        yield Record(start, {"words": words, "labels": labels})
