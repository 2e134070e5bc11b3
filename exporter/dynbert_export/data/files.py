"""Calibration texts: from a file to samples.

The formats are those of ``dynbert.scoring.records``, but for .parquet, which needs a package that an export does not.
Columns and keys are named as in ``_TEXT_KEYS`` and ``_PAIR_KEYS``. A .csv or .tsv without such a header is all data:
the text is in the column of the first row's longest cell (labels are short); for question answering the first cell is
the question and the second the context.

The texts in ``data/built_in`` ship with the exporter; they were written for this and are given away under CC0.

Question answering needs pairs. For feature extraction the two halves of a pair are two samples, because embeddings are
made of single texts. Next-sentence prediction, pretraining and multiple choice have two texts too, but any two do: a
file of pairs is taken as it is, single texts (the ones that ship, too) are paired with their successors, the last with
the first. A text is then the first half of one pair and the second half of another.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynbert.scoring.records import FileRules, RowFault, read_items
from dynbert_export.data.samples import Sample
from dynbert_export.errors import CalibrationError
from dynbert_export.tasks import HEADS, Pairs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dynbert.manifest import Task

__all__ = ["CalibrationTexts", "load_texts"]

_TEXT_KEYS = ("text", "sentence", "sentence1", "question", "premise", "query")
_PAIR_KEYS = ("text_pair", "sentence2", "context", "hypothesis", "passage")
_ENDINGS = (".txt", ".csv", ".tsv", ".jsonl", ".json")
_JSON_RULE = "JSON texts, or objects with text or with question and context"
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
    samples: dict[Sample, None] = {}  # a set that keeps the order; SQuAD asks many questions about one context
    pairs = HEADS[task].pairs
    needs_pairs = pairs is Pairs.QUESTIONS
    try:
        for where, sample in _read_rows(path, needs_pairs=needs_pairs):
            text, pair = sample.text.strip(), (sample.pair or "").strip()
            if needs_pairs and text and not pair:
                raise RowFault(where, "hold pairs of question and context for question-answering")  # noqa: TRY301  (joins the reader's own)
            if pairs is Pairs.SPLIT:
                samples.update((Sample(half), None) for half in (text, pair) if half)
            elif text:
                samples[Sample(text, pair or None)] = None
    except RowFault as err:
        raise CalibrationError(f"Calibration file must {err.rule}, got {err.got} at {err.where} of {path}.") from err
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


def _rules() -> FileRules:
    return FileRules(
        subject="Calibration file",
        endings=_ENDINGS,
        max_bytes=_MAX_FILE_BYTES,
        smaller="A few hundred texts are enough.",
        json_rule=_JSON_RULE,
        error=CalibrationError,
    )


def _read_rows(path: Path, *, needs_pairs: bool) -> Iterator[tuple[str, Sample]]:
    """Yield where each sample stands in its file, and the sample."""
    columns: tuple[int, int | None] | None = None
    for where, value in read_items(path, _rules()):
        if isinstance(value, str):
            yield where, Sample(value)
        elif isinstance(value, list):
            if columns is None:
                columns = _find_columns(value)
                if columns is not None:
                    continue
                columns = (0, 1) if needs_pairs else (value.index(max(value, key=len)), None)
            yield where, _sample_of_row(where, value, *columns)
        else:
            yield where, _sample_of_object(where, value)


def _find_columns(header: list[str]) -> tuple[int, int | None] | None:
    """Return the numbers of the columns with the text and its pair; None where the row is no header."""
    names = [cell.strip().lower() for cell in header]
    text = next((names.index(key) for key in _TEXT_KEYS if key in names), None)
    pair = next((names.index(key) for key in _PAIR_KEYS if key in names), None)
    return (text, pair) if text is not None else None


def _sample_of_row(where: str, row: list[str], text: int, pair: int | None) -> Sample:
    """Return the sample of a row of cells, by the numbers of its columns."""
    needed = max(text, pair or 0) + 1
    if len(row) < needed:
        raise RowFault(where, f"hold rows of at least {needed} cells")
    return Sample(row[text], None if pair is None else row[pair])


def _sample_of_object(where: str, fields: Mapping[str, Any]) -> Sample:
    """Return the sample of a JSON object: a text and maybe its pair."""
    text = next((fields[key] for key in _TEXT_KEYS if isinstance(fields.get(key), str)), None)
    pair = next((fields[key] for key in _PAIR_KEYS if isinstance(fields.get(key), str)), None)
    if text is None:
        raise RowFault(where, f"hold {_JSON_RULE}")
    return Sample(text, pair)
