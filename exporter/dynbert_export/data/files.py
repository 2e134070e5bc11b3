"""Calibration texts: from a file to samples.

Formats, by the ending of the file; all UTF-8, with or without a byte order mark; empty lines and rows are skipped:

- ``.txt``: a text a line.
- ``.csv``, ``.tsv``: columns named as in ``_TEXT_KEYS`` and ``_PAIR_KEYS``. Without such a header every row is data:
  the text is in the column of the first row's longest cell (labels are short); for question answering the first cell is
  the question and the second the context. Quotes mean something in .csv only.
- ``.jsonl``: on each line a text, or an object with such keys.
- ``.json``: SQuAD's ``data``/``paragraphs``/``qas``, or a list of what a line of .jsonl may hold.

The texts in ``data/built_in`` ship with the exporter; they were written for this and are given away under CC0.

Question answering needs pairs. For feature extraction the two halves of a pair are two samples, because embeddings are
made of single texts. Next-sentence prediction, pretraining and multiple choice have two texts too, but any two do: a
file of pairs is taken as it is, single texts (the ones that ship, too) are paired with their successors, the last with
the first. A text is then the first half of one pair and the second half of another.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynbert_export.data.samples import Sample
from dynbert_export.errors import CalibrationError
from dynbert_export.tasks import HEADS, Pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dynbert.manifest import Task

__all__ = ["CalibrationTexts", "load_texts"]

_TEXT_KEYS = ("text", "sentence", "sentence1", "question", "premise", "query")
_PAIR_KEYS = ("text_pair", "sentence2", "context", "hypothesis", "passage")
_MAX_FILE_BYTES = 256 << 20
_BUILT_IN_FOLDER = Path(__file__).parent / "built_in"


@dataclass(frozen=True)
class CalibrationTexts:
    """Samples, and where they come from."""

    samples: tuple[Sample, ...]
    """At least one."""
    name: str
    """The file's name; ``built-in`` for the texts that ship with the exporter."""
    note: str | None
    """What the caller should be told; None for a file of the caller's own."""


def load_texts(path: Path | None, task: Task) -> CalibrationTexts:
    """Read a calibration file.

    Args:
        path: The file; None for the texts that ship with the exporter.
        task: Decides whether samples are texts or pairs.

    Returns:
        All usable samples, in the file's order, each once; pairs where the task needs them.

    Raises:
        CalibrationError: If the file is missing, unreadable, too large, of an unknown ending, no UTF-8 text, broken,
            or has no usable sample.
    """
    if path is None:
        name = "calibration_qa.jsonl" if HEADS[task].pairs is Pairs.QUESTIONS else "calibration.txt"
        samples = _read_samples(_BUILT_IN_FOLDER / name, task)
        note = (
            "Calibrated on general English texts that ship with the exporter. For the best INT8 accuracy pass texts of "
            "your own: --calibration FILE."
        )
        return CalibrationTexts(samples, name="built-in", note=note)
    return CalibrationTexts(_read_samples(path, task), name=path.name, note=None)


def _read_samples(path: Path, task: Task) -> tuple[Sample, ...]:
    """Return the usable samples of a file, each once; the rows of the file are checked against the task."""
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise CalibrationError(
            f"Calibration file must end in {', '.join(_READERS)}, got {path}. Rename or convert the file."
        )
    samples: dict[Sample, None] = {}  # a set that keeps the order; SQuAD asks many questions about one context
    pairs = HEADS[task].pairs
    needs_pairs = pairs is Pairs.QUESTIONS
    try:
        for where, sample in read(_read_text(path), needs_pairs):
            text, pair = sample.text.strip(), (sample.pair or "").strip()
            if needs_pairs and text and not pair:
                raise _RowError(where, "pairs of question and context for question-answering")  # noqa: TRY301  (joins the reader's own)
            if pairs is Pairs.SPLIT:
                samples.update((Sample(half), None) for half in (text, pair) if half)
            elif text:
                samples[Sample(text, pair or None)] = None
    except _RowError as err:
        raise CalibrationError(
            f"Calibration file must hold {err.rule}, got something else at {err.where} of {path}."
        ) from err
    if len({sample.pair is None for sample in samples}) > 1:
        raise CalibrationError(f"Calibration file must hold only single texts or only pairs, got both in {path}.")
    if not samples:
        raise CalibrationError(f"Calibration file must have at least one text, got none in {path}.")
    return _pair_with_successors(tuple(samples)) if pairs is Pairs.SENTENCES else tuple(samples)


def _pair_with_successors(samples: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """Return single texts as pairs; pairs stay as they are."""
    if samples[0].pair is not None:
        return samples
    return tuple(
        Sample(sample.text, successor.text)
        for sample, successor in zip(samples, (*samples[1:], samples[0]), strict=True)
    )


def _read_text(path: Path) -> str:
    """Return the text of a file, whatever ends its lines and with no byte order mark."""
    try:
        if not path.is_file():
            got = "something else" if path.exists() else "none"
            raise CalibrationError(f"Calibration file must be an existing file, got {got} at {path}.")
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise CalibrationError(
                f"Calibration file must be at most {_MAX_FILE_BYTES >> 20} MiB, got {path.stat().st_size >> 20} MiB in "
                f"{path}. A few hundred texts are enough."
            )
        raw = path.read_bytes()
    except OSError as err:
        raise CalibrationError(f"Calibration file must be readable, got {path} ({err.strerror}).") from err
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = raw.count(b"\n", 0, err.start) + 1
        raise CalibrationError(
            f"Calibration file must be UTF-8 text, got other bytes on line {line} of {path}. Convert the file."
        ) from err
    if "\0" in text:
        raise CalibrationError(f"Calibration file must be text, got zero bytes in {path}. Convert the file.")
    return text


class _RowError(Exception):
    """A row that is not what the format asks for; ``_read_samples`` adds the file's name."""

    def __init__(self, where: str, rule: str) -> None:
        super().__init__(where, rule)
        self.where = where
        self.rule = rule


_Row = tuple[str, Sample]
"""Where a sample stands in its file, and the sample."""


def _read_txt(text: str, needs_pairs: bool) -> Iterator[_Row]:  # noqa: ARG001, FBT001  (the readers' signature)
    for number, line in enumerate(text.split("\n"), start=1):
        yield f"line {number}", Sample(line)


def _read_csv(text: str, needs_pairs: bool) -> Iterator[_Row]:  # noqa: FBT001  (the readers' signature)
    return _read_table(csv.reader(io.StringIO(text, newline=""), strict=True), needs_pairs=needs_pairs)


def _read_tsv(text: str, needs_pairs: bool) -> Iterator[_Row]:  # noqa: FBT001  (the readers' signature)
    lines = (line.removesuffix("\r").split("\t") for line in text.split("\n"))
    return _read_table(lines, needs_pairs=needs_pairs)


def _read_table(rows: Iterable[list[str]], *, needs_pairs: bool) -> Iterator[_Row]:
    """Yield the samples of rows of cells, with a header or without."""
    columns: tuple[int, int | None] | None = None
    number = 0
    try:
        for number, row in enumerate(rows, start=1):
            where = f"row {number}"
            if not any(cell.strip() for cell in row):
                continue
            if columns is None:
                columns = _find_columns(row)
                if columns is not None:
                    continue
                columns = (0, 1) if needs_pairs else (max(range(len(row)), key=lambda index: len(row[index])), None)
            text, pair = columns
            if len(row) <= max(text, pair or 0):
                raise _RowError(where, f"rows of at least {max(text, pair or 0) + 1} cells")
            yield where, Sample(row[text], None if pair is None else row[pair])
    except csv.Error as err:
        raise _RowError(f"row {number + 1}", f"rows of cells ({err})") from err


def _find_columns(header: list[str]) -> tuple[int, int | None] | None:
    """Return the numbers of the columns with the text and its pair; None where the row is no header."""
    names = [cell.strip().lower() for cell in header]
    text = next((names.index(key) for key in _TEXT_KEYS if key in names), None)
    pair = next((names.index(key) for key in _PAIR_KEYS if key in names), None)
    return (text, pair) if text is not None else None


def _read_jsonl(text: str, needs_pairs: bool) -> Iterator[_Row]:  # noqa: ARG001, FBT001  (the readers' signature)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _read_value(f"line {number}", _decode(line))


def _read_json(text: str, needs_pairs: bool) -> Iterator[_Row]:  # noqa: ARG001, FBT001  (the readers' signature)
    value = _decode(text)
    rows = value.get("data") if isinstance(value, dict) else value
    if not isinstance(rows, list):
        raise _RowError("its top", "SQuAD json, or a list of texts or objects")
    for number, row in enumerate(rows, start=1):
        if isinstance(row, dict) and "paragraphs" in row:
            yield from _read_article(f"article {number}", row["paragraphs"])
        else:
            yield _read_value(f"item {number}", row)


def _decode(text: str) -> Any:
    """Return the value of a JSON text; None, which is no sample, where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _read_value(where: str, value: Any) -> _Row:
    """Return the sample of a JSON value: a text, or an object with a text and maybe its pair."""
    if isinstance(value, str):
        return where, Sample(value)
    fields = value if isinstance(value, dict) else {}
    text = next((fields[key] for key in _TEXT_KEYS if isinstance(fields.get(key), str)), None)
    pair = next((fields[key] for key in _PAIR_KEYS if isinstance(fields.get(key), str)), None)
    if text is None:
        raise _RowError(where, "JSON texts, or objects with text or with question and context")
    return where, Sample(text, pair)


def _read_article(where: str, paragraphs: Any) -> Iterator[_Row]:
    """Yield the samples of one article of SQuAD."""
    try:
        for paragraph in paragraphs:
            for item in paragraph["qas"]:
                yield where, Sample(_require_text(item["question"]), _require_text(paragraph["context"]))
    except (KeyError, TypeError) as err:
        rule = "SQuAD paragraphs, with a context and with qas that have a question"
        raise _RowError(where, rule) from err


def _require_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, got {type(value).__name__}")
    return value


_READERS: dict[str, Callable[[str, bool], Iterator[_Row]]] = {
    ".txt": _read_txt,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".json": _read_json,
}
