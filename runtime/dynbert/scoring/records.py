"""Rows of data files, whatever the format: the one home of it for calibration, training and evaluation.

Formats, by the ending of the file; text is UTF-8, with or without a byte order mark; empty lines and rows are skipped:

- ``.csv``, ``.tsv``: columns. Quotes mean something in .csv only. Places are rows, the header counted.
- ``.jsonl``: on each line an object, or a text.
- ``.json``: SQuAD's ``data``/``paragraphs``/``qas``, one row a question, or a list of what a line of .jsonl may hold.
- ``.parquet``: columns; places are rows, counted from 1. Needs pyarrow, from the extra ``data``.
- ``.txt``: a text a line.

``read_items`` gives what a file holds, as it is; ``read_records`` gives it as named values. Who reads a file says by
``FileRules`` which formats do and how faults are told.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from dynbert.errors import DynbertError
from dynbert.packages import import_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = [
    "LABELLED",
    "DataError",
    "FileRules",
    "Item",
    "Record",
    "RowFault",
    "is_any_header",
    "read_items",
    "read_records",
    "read_text",
]

_PARQUET = ".parquet"
_TOP = "its top"
"""The place of what is wrong with a file of JSON as a whole."""
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ROWS_AT_ONCE = 4096
"""Rows of a .parquet that are in memory as Python's objects at a time."""


class DataError(DynbertError):
    """Labelled data cannot be found, read or used."""


class RowFault(Exception):  # noqa: N818  (no error yet: who reads the file makes one of it)
    """A row that is not what it must be.

    Args:
        where: The row's place in its file.
        rule: What it must do, to follow "must".
        got: What it does instead.
        remedy: What to do, a sentence; empty where that is plain.
    """

    def __init__(self, where: str, rule: str, *, got: str = "something else", remedy: str = "") -> None:
        super().__init__(where, rule)
        self.where = where
        self.rule = rule
        self.got = got
        self.remedy = remedy


@dataclass(frozen=True)
class FileRules:
    """What a file must be, and how its faults are told."""

    subject: str
    """What messages call the file."""
    endings: tuple[str, ...]
    """Its formats."""
    max_bytes: int
    """Largest size."""
    smaller: str
    """How to have a smaller one, a sentence."""
    json_rule: str
    """What a JSON value must be that is no question of SQuAD's, to follow "must hold"."""
    error: type[DynbertError] = DataError
    """Raised for a file that cannot be read."""


LABELLED = FileRules(
    subject="Labelled data",
    endings=(".csv", ".tsv", ".jsonl", ".json", _PARQUET),
    max_bytes=1 << 30,
    smaller="Split the file.",
    json_rule="JSON objects",
)
"""For training and evaluation."""


class Item(NamedTuple):
    """One entry of a file, as it is there."""

    where: str
    """``row 12``, ``line 3``, ``item 4`` or ``article 2, question 7``."""
    value: Any
    """The cells of a row of .csv or .tsv, a list of texts; a text; or a mapping: a JSON object, a row of .parquet, or a
    question of SQuAD's with its ``context`` beside."""


@dataclass(frozen=True)
class Record:
    """One row of a file, by the names of its columns."""

    where: str
    """As in ``Item``."""
    values: Mapping[str, Any]
    """Column's name -> value: texts in .csv and .tsv; ``text`` alone for a bare text. Columns without names are
    ``"1"``, ``"2"`` and so on."""


def is_any_header(_row: Sequence[str]) -> bool:
    """Take the first row of a table for its header, whatever it says.

    Args:
        _row: The row's cells.

    Returns:
        True.
    """
    return True


def read_records(
    path: str | Path,
    *,
    rules: FileRules = LABELLED,
    is_header: Callable[[Sequence[str]], bool] = is_any_header,
) -> Iterator[Record]:
    """Read a file row by row.

    Args:
        path: The file.
        rules: What it must be.
        is_header: For .csv and .tsv: whether the first row has the columns' names.

    Yields:
        Each row, in order. A row of a table has as many values as its first row.

    Raises:
        RowFault: If a row is broken, or no object.
        DynbertError: As ``rules`` say, if the file is missing, unreadable, too large, of an unknown ending or no UTF-8.
        MissingPackageError: If pyarrow is needed and not installed.
    """
    names: list[str] | None = None
    for where, value in read_items(path, rules):
        if not isinstance(value, list):
            yield Record(where, {"text": value} if isinstance(value, str) else value)
            continue
        if names is None and is_header(value):
            names = _column_names(where, value)
            continue
        names = names or [str(number) for number in range(1, len(value) + 1)]
        if len(value) != len(names):
            raise RowFault(where, f"hold rows of {len(names)} cells as the first one is", got=f"{len(value)} cells")
        yield Record(where, dict(zip(names, value, strict=True)))


def _column_names(where: str, header: Sequence[str]) -> list[str]:
    """Return the names in a header; a column without one has its number."""
    names = [cell.strip() or str(number) for number, cell in enumerate(header, start=1)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise RowFault(where, "hold columns of different names", got=f"{', '.join(map(repr, doubled))} more than once")
    return names


def read_items(path: str | Path, rules: FileRules) -> Iterator[Item]:
    """Read a file entry by entry.

    Args:
        path: The file.
        rules: What it must be.

    Yields:
        What it holds, in order, without empty lines and rows.

    Raises:
        RowFault: If an entry is broken, or no JSON object or text.
        DynbertError: As ``rules`` say, if the file is missing, unreadable, too large, of an unknown ending or no UTF-8.
        MissingPackageError: If pyarrow is needed and not installed.
    """
    file = Path(path)
    ending = file.suffix.lower()
    if ending not in rules.endings:
        raise rules.error(
            f"{rules.subject} must end in {', '.join(rules.endings)}, got {file}. Rename or convert the file."
        )
    if ending == _PARQUET:
        _check_file(file, rules)
        yield from _parquet_rows(file, rules)
        return
    text = read_text(file, rules)
    match ending:
        case ".csv":
            yield from _table_rows(csv.reader(io.StringIO(text, newline=""), strict=True))
        case ".tsv":
            yield from _table_rows(line.removesuffix("\r").split("\t") for line in text.split("\n"))
        case ".jsonl":
            yield from _json_lines(text, rules.json_rule)
        case ".json":
            yield from _json_items(text, rules.json_rule)
        case _:
            yield from (Item(where, line) for where, line in _lines(text))


def read_text(path: str | Path, rules: FileRules) -> str:
    """Read a whole file of text.

    Args:
        path: The file.
        rules: How large it may be, and how faults are told.

    Returns:
        Its text, without a byte order mark.

    Raises:
        DynbertError: As ``rules`` say, if the file is missing, unreadable or too large, or no UTF-8 text.
    """
    file = Path(path)
    _check_file(file, rules)
    try:
        raw = file.read_bytes()
    except OSError as err:
        raise rules.error(f"{rules.subject} must be readable, got {file} ({err.strerror}).") from err
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = raw.count(b"\n", 0, err.start) + 1
        raise rules.error(
            f"{rules.subject} must be UTF-8 text, got other bytes on line {line} of {file}. Convert the file."
        ) from err
    if "\0" in text:
        raise rules.error(f"{rules.subject} must be text, got zero bytes in {file}. Convert the file.")
    return text


def _check_file(file: Path, rules: FileRules) -> None:
    """Check that a file is there and not too large."""
    try:
        if not file.is_file():
            got = "something else" if file.exists() else "none"
            raise rules.error(f"{rules.subject} must be an existing file, got {got} at {file}.")
        size = file.stat().st_size
    except OSError as err:
        raise rules.error(f"{rules.subject} must be readable, got {file} ({err.strerror}).") from err
    if size > rules.max_bytes:
        raise rules.error(
            f"{rules.subject} must be at most {rules.max_bytes >> 20} MiB, got {size >> 20} MiB in {file}. "
            f"{rules.smaller}"
        )


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield the lines with something on them, with their places."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line.removesuffix("\r")


def _table_rows(rows: Iterator[list[str]]) -> Iterator[Item]:
    number = 0
    try:
        for number, row in enumerate(rows, start=1):
            if any(cell.strip() for cell in row):
                yield Item(f"row {number}", row)
    except csv.Error as err:
        raise RowFault(f"row {number + 1}", f"hold rows of cells ({err})") from err


def _json_lines(text: str, rule: str) -> Iterator[Item]:
    for where, line in _lines(text):
        yield _json_item(where, _decode(where, line), rule)


def _json_items(text: str, rule: str) -> Iterator[Item]:
    value = _decode(_TOP, text)
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise RowFault(_TOP, "hold SQuAD json, or a list of texts or objects")
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict) and "paragraphs" in row:
            yield from _article_questions(f"article {number}", row["paragraphs"])
        else:
            yield _json_item(f"item {number}", row, rule)


def _decode(where: str, text: str) -> Any:
    """Return the value of a JSON text; None, which is no item, where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if _SURROGATE.search(text):  # an escaped half of a pair: json takes it, tokenizers do not
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as err:
            raise RowFault(where, "hold valid Unicode", got="a lone surrogate") from err
    return value


def _json_item(where: str, value: Any, rule: str) -> Item:
    if not isinstance(value, (str, dict)):
        raise RowFault(where, f"hold {rule}")
    return Item(where, value)


def _article_questions(article: str, paragraphs: Any) -> Iterator[Item]:
    """Yield the questions of one article of SQuAD."""
    number = 0
    where = article
    try:
        for paragraph in paragraphs:
            where = article
            for question in paragraph["qas"]:
                number += 1
                where = f"{article}, question {number}"
                context = _require_text(paragraph["context"])
                _require_text(question["question"])
                yield Item(where, question | {"context": context})
    except (KeyError, TypeError) as err:
        rule = "hold SQuAD paragraphs, with a context and with qas that have a question"
        raise RowFault(where, rule) from err


def _require_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value


def _parquet_rows(file: Path, rules: FileRules) -> Iterator[Item]:
    parquet = import_extra("pyarrow.parquet", extra="data", purpose="read .parquet")
    arrow_error = import_extra("pyarrow", extra="data", purpose="read .parquet").ArrowException
    try:
        with parquet.ParquetFile(file) as opened:
            number = 0
            for batch in opened.iter_batches(batch_size=_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    yield Item(f"row {number}", row)
    except (arrow_error, OSError) as err:
        reason = str(err).partition("\n")[0]
        raise rules.error(f"{rules.subject} must be readable, got {file} ({reason}).") from err
