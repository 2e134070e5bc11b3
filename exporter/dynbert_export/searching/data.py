"""What a search reads: labelled data for the checkpoint's task, in the part to decide by and the part kept aside."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.scoring.examples import (
    ChoiceExample,
    Columns,
    LabelledData,
    PlainExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from dynbert.scoring.labelled import is_data_file, load_hub_dataset, load_labelled
from dynbert_export.searching.splitting import as_part, split_data

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dynbert.scoring.examples import Example
    from dynbert_export.checkpoint.load import Checkpoint
    from dynbert_export.options.search import SearchConfig
    from dynbert_export.searching.splitting import Part

__all__ = ["digest_data", "read_parts", "write_calibration"]

_CALIBRATED_ON = 512
"""Examples whose texts are written for calibration: more than an export reads."""


def read_parts(config: SearchConfig, checkpoint: Checkpoint) -> tuple[Part, Part]:
    """Read and check all data.

    Args:
        config: The options.
        checkpoint: What is searched for.

    Returns:
        The part to decide by, and the one kept aside.

    Raises:
        DataError: If a row cannot be used.
        InputError: If there are too few examples, or all are labelled alike.
    """
    columns = Columns(config.text_column, config.pair_column, config.label_column, config.choice_columns)
    problem = config.problem_type or checkpoint.problem_type
    data = _read(config.data, config.split, checkpoint, columns, problem)
    if config.test is None:
        return split_data(data, share=config.held_out, seed=config.seed)
    test = _read(config.test, config.test_split, checkpoint, columns, problem)
    return as_part(data), as_part(test)


def digest_data(part: Part) -> str:
    """Return what tells one part from another.

    Args:
        part: The examples.

    Returns:
        SHA-256 of all that they say.
    """
    said = f"{part.data.task} {part.data.label_names} {part.data.problem_type} {part.passages}"
    digest = hashlib.sha256(said.encode())
    for example in part.data.examples:
        digest.update(repr(example).encode())
    return digest.hexdigest()


def write_calibration(part: Part, path: Path, *, seed: int) -> None:
    """Write texts of a part for an export to calibrate on.

    Args:
        part: The part that the search decides by.
        path: A .jsonl file.
        seed: Which examples.
    """
    rows = [row for example in part.data.examples for row in _rows_of(example)]
    order = np.random.default_rng(seed).permutation(len(rows))[:_CALIBRATED_ON]
    lines = [json.dumps(rows[place], ensure_ascii=False) + "\n" for place in sorted(order)]
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text("".join(lines), encoding="utf-8")
    unfinished.replace(path)


def _read(name: str, split: str, checkpoint: Checkpoint, columns: Columns, problem_type: str | None) -> LabelledData:
    questions = checkpoint.task is Task.FEATURE_EXTRACTION and _has_paragraphs(Path(name))
    options: dict[str, Any] = {
        "task": Task.QUESTION_ANSWERING if questions else checkpoint.task,
        "columns": columns,
        "label_names": checkpoint.labels,
        "problem_type": problem_type if checkpoint.task is Task.TEXT_CLASSIFICATION else None,
    }
    data = load_labelled(name, **options) if is_data_file(name) else load_hub_dataset(name, split=split, **options)
    return _as_retrieval(data) if questions else data


def _has_paragraphs(path: Path) -> bool:
    """Return whether a file is SQuAD's: questions, each with the paragraph that it is about."""
    if path.suffix.lower() != ".json":
        return False
    try:
        articles = json.loads(path.read_bytes())["data"]
        return "paragraphs" in articles[0]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False  # whatever it is, its reader says what is wrong with it


def _as_retrieval(data: LabelledData) -> LabelledData:
    """Return questions as queries that are to find the paragraphs which answer them."""
    pairs = tuple(
        PlainExample(example.question, example.context, None)
        for example in data.examples
        if isinstance(example, QuestionExample) and example.answers
    )
    if not pairs:
        raise InputError(f"Data for retrieval must have questions with answers, got none in {data.name}.")
    return replace(data, task=Task.FEATURE_EXTRACTION, examples=pairs)


def _rows_of(example: Example) -> Iterator[dict[str, str]]:
    """Yield an example's texts as a calibration file has them."""
    if isinstance(example, QuestionExample):
        yield {"question": example.question, "context": example.context}
    elif isinstance(example, WordsExample):
        yield {"text": " ".join(example.words)}
    elif isinstance(example, ChoiceExample):
        yield from ({"text": example.text, "text_pair": choice} for choice in example.choices)
    elif isinstance(example, TextExample | PlainExample):
        yield {"text": example.text} | ({} if example.pair is None else {"text_pair": example.pair})
