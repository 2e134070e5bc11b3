"""Calibration texts: from a file to samples, and from samples to the arrays that a graph is fed with.

Formats, by the ending of the file; all UTF-8, with or without a byte order mark; empty lines and rows are skipped:

- ``.txt``: a text a line.
- ``.csv``, ``.tsv``: columns named as in ``_TEXT_KEYS`` and ``_PAIR_KEYS``. Without such a header every row is data:
  the text is in the column of the first row's longest cell (labels are short); for question answering the first cell is
  the question and the second the context. Quotes mean something in .csv only.
- ``.jsonl``: on each line a text, or an object with such keys.
- ``.json``: SQuAD's ``data``/``paragraphs``/``qas``, or a list of what a line of .jsonl may hold.

The texts in ``data`` ship with the exporter; they were written for this and are given away under CC0.

Question answering needs pairs. For feature extraction the two halves of a pair are two samples, because embeddings are
made of single texts. Next-sentence prediction, pretraining and multiple choice have two texts too, but any two do: a
file of pairs is taken as it is, single texts (the ones that ship, too) are paired with their successors, the last with
the first. A text is then the first half of one pair and the second half of another.

Models that foretell masked tokens see masks as they did in training: about 15 % of the tokens of every input, chosen by
the seed, become the mask token.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dynbert.errors import InputError
from dynbert.inputs import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from dynbert_export.errors import CalibrationError
from dynbert_export.tasks import HEADS, Pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

    from dynbert.manifest import Task

__all__ = [
    "CalibrationTexts",
    "Sample",
    "choose_samples",
    "encode_packed",
    "encode_padded",
    "load_texts",
    "mask_tokens",
]

_TEXT_KEYS = ("text", "sentence", "sentence1", "question", "premise", "query")
_PAIR_KEYS = ("text_pair", "sentence2", "context", "hypothesis", "passage")
_MAX_FILE_BYTES = 256 << 20
_MASKED_SHARE = 0.15
_BUILT_IN_FOLDER = Path(__file__).parent / "built_in"


class Sample(NamedTuple):
    """One input of a model."""

    text: str
    """The text, or the question."""
    pair: str | None = None
    """The context of a question, or the second text of a pair."""


@dataclass(frozen=True)
class CalibrationTexts:
    """Samples, and where they come from."""

    samples: tuple[Sample, ...]
    """At least one."""
    name: str
    """The file's name; ``built-in`` for the texts that ship with the exporter."""
    notice: str | None
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
        notice = (
            "Calibrated on general English texts that ship with the exporter. For the best INT8 accuracy pass texts of "
            "your own: --calibration FILE."
        )
        return CalibrationTexts(samples, name="built-in", notice=notice)
    return CalibrationTexts(_read_samples(path, task), name=path.name, notice=None)


def choose_samples(samples: Sequence[Sample], count: int, *, seed: int) -> tuple[Sample, ...]:
    """Return a random part of the samples, in their order.

    Args:
        samples: To choose from.
        count: How many; all where there are no more.
        seed: Equal seeds choose equal parts.

    Returns:
        The samples chosen.
    """
    if count >= len(samples):
        return tuple(samples)
    chosen = np.random.default_rng(seed).choice(len(samples), size=count, replace=False)
    return tuple(samples[index] for index in sorted(chosen))


def encode_padded(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerFast, *, max_length: int, batch_size: int
) -> list[dict[str, NDArray[np.int64]]]:
    """Turn samples into batches, each padded to its longest sample.

    Args:
        samples: In the order in which they are batched.
        tokenizer: Its own truncation and padding are not used.
        max_length: Longer samples are truncated to this many tokens, special tokens included.
        batch_size: Samples in a batch; the last batch may have fewer.

    Returns:
        A mapping a batch: ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 ``[batch, tokens]``.
    """
    backend = _copy_backend(tokenizer)
    backend.enable_truncation(max_length)
    backend.enable_padding(pad_id=tokenizer.pad_token_id or 0, pad_token=tokenizer.pad_token or "[PAD]")
    batches = []
    for start in range(0, len(samples), batch_size):
        batch = samples[start : start + batch_size]
        batches.append(_stack(backend.encode_batch([_to_input(sample) for sample in batch])))
    return batches


def encode_packed(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerFast, *, sequence_length: int
) -> list[dict[str, NDArray[np.int64]]]:
    """Turn samples into inputs of exactly one length, without padding.

    Single texts are joined and cut into windows. A pair gives one input: its first text, whole where it leaves the
    second at least half of the room, and its second, continued with those of the following samples. Each input has the
    special tokens that the tokenizer puts around one of its own.

    Args:
        samples: All single texts, or all pairs.
        tokenizer: Its own truncation and padding are not used.
        sequence_length: Tokens of each input, special tokens included.

    Returns:
        At least one input: ``input_ids``, ``attention_mask`` (all ones) and ``token_type_ids``, int64
        ``[1, sequence_length]``. Too few texts for one window are repeated.

    Raises:
        InputError: If ``sequence_length`` leaves no room for text.
        CalibrationError: If the samples are of both kinds, or have no tokens.
    """
    if len({sample.pair is None for sample in samples}) != 1:
        raise CalibrationError(
            f"Samples must be all single texts or all pairs, got {len(samples)} of both kinds or none."
        )
    backend = _copy_backend(tokenizer)
    pairs = samples[0].pair is not None
    room = sequence_length - backend.num_special_tokens_to_add(pairs)
    if room < (2 if pairs else 1):
        raise InputError(f"sequence_length must leave room for text between special tokens, got {sequence_length}.")
    pack = _pack_pairs if pairs else _pack_texts
    return [_stack([encoding]) for encoding in pack(samples, backend, room)]


def mask_tokens(
    rows: Mapping[str, NDArray[np.int64]], tokenizer: PreTrainedTokenizerFast, *, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Put the mask token in place of about 15 % of the tokens that are not special, and of one a row at least.

    Args:
        rows: int64 arrays ``[rows, tokens]``; not changed.
        tokenizer: Says which ids are special; must have a mask token.
        seed: Equal seeds mask equal tokens.

    Returns:
        The same arrays, with other ``input_ids``. A row of special tokens alone has one of these masked.
    """
    generator = np.random.default_rng(seed)
    ids = rows[INPUT_IDS].copy()
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for row, mask in zip(ids, rows[ATTENTION_MASK], strict=True):
        valid = np.flatnonzero(mask)
        tokens = valid[~np.isin(row[valid], list(special))]
        candidates = tokens if tokens.size else valid
        count = max(1, round(_MASKED_SHARE * candidates.size))
        row[generator.choice(candidates, size=count, replace=False)] = tokenizer.mask_token_id
    return {**rows, INPUT_IDS: ids}


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


def _copy_backend(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Return a copy of the fast tokenizer's core without truncation and padding; the caller's stays as it is."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


def _to_input(sample: Sample) -> str | tuple[str, str]:
    return sample.text if sample.pair is None else (sample.text, sample.pair)


def _stack(encodings: Sequence[Any]) -> dict[str, NDArray[np.int64]]:
    """Return encodings of one length as arrays."""
    return {
        INPUT_IDS: np.array([encoding.ids for encoding in encodings], dtype=np.int64),
        ATTENTION_MASK: np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
        TOKEN_TYPE_IDS: np.array([encoding.type_ids for encoding in encodings], dtype=np.int64),
    }


def _encode_until(backend: Any, texts: Sequence[str], tokens: int) -> Any:
    """Return the tokens of the joined texts without special tokens, the texts repeated until there are enough."""
    joined = " ".join(texts)
    encoding = backend.encode(joined, add_special_tokens=False)
    if not len(encoding):
        raise CalibrationError("Samples must have tokens, got none from the tokenizer.")
    if len(encoding) < tokens:
        repeats = -(-tokens // len(encoding))
        encoding = backend.encode(" ".join([joined] * repeats), add_special_tokens=False)
    return encoding


def _pack_texts(samples: Sequence[Sample], backend: Any, room: int) -> Iterator[Any]:
    """Yield windows of the joined texts; a rest at the end that fills no window is left out."""
    encoding = _encode_until(backend, [sample.text for sample in samples], room)
    encoding.truncate(room)
    for window in (encoding, *encoding.overflowing):
        if len(window) == room:
            yield backend.post_process(window)


def _pack_pairs(samples: Sequence[Sample], backend: Any, room: int) -> Iterator[Any]:
    """Yield one input a pair."""
    for index, sample in enumerate(samples):
        first = backend.encode(sample.text, add_special_tokens=False)
        first.truncate(max(room // 2, 1))
        rest = room - len(first)
        contexts: list[str] = []
        length = 0
        while length < rest and len(contexts) < len(samples):  # a word gives a token at least
            contexts.append(samples[(index + len(contexts)) % len(samples)].pair or "")
            length += len(contexts[-1].split())
        second = _encode_until(backend, contexts, rest)
        second.truncate(rest)
        yield backend.post_process(first, second)
