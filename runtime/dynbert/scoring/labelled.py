"""Labelled data for training and evaluation: from a file or a set of the Hugging Face hub to checked examples.

Files are what ``records`` reads, and by task:

- text classification: a text, maybe a pair, a label. See ``labels`` for what a label may be.
- question answering: SQuAD's json, versions 1 and 2, or rows of its fields (.jsonl, .json, .parquet).
- token classification: lists of words and of labels (.jsonl, .json, .parquet), or CoNLL's form (.conll, .txt).
- multiple choice: a text, a list of choices or a column a choice (``ending0`` and so on, as SWAG has them), and the
  right one: its index from 0, its letter, or its key.
- feature extraction: texts (.txt: one a line), maybe pairs, maybe with scores.

Which columns are which is guessed where exactly one has a known name (``columns``), else the caller says it. A .csv or
.tsv without a header is read where the caller gives the columns' numbers.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.scoring.columns import is_header
from dynbert.scoring.conll import read_sentences
from dynbert.scoring.examples import (
    AnswerSpan,
    ChoiceExample,
    Columns,
    LabelledData,
    PlainExample,
    ProblemType,
    QuestionExample,
    TextExample,
    WordsExample,
)
from dynbert.scoring.hub import open_hub_dataset
from dynbert.scoring.readers import READERS
from dynbert.scoring.records import LABELLED, DataError, read_records, read_text
from dynbert.scoring.rows import Rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dynbert.scoring.records import Record

__all__ = [
    "AnswerSpan",
    "ChoiceExample",
    "Columns",
    "DataError",
    "LabelledData",
    "PlainExample",
    "ProblemType",
    "QuestionExample",
    "TextExample",
    "WordsExample",
    "is_data_file",
    "load_data",
    "load_hub_dataset",
    "load_labelled",
]

_GUESSED = Columns()
_TABLES = (".csv", ".tsv")
_SENTENCES = (".conll", ".txt")
_OBJECTS = (".jsonl", ".json", ".parquet")
_ENDINGS = {
    Task.TEXT_CLASSIFICATION: LABELLED.endings,
    Task.QUESTION_ANSWERING: _OBJECTS,
    Task.TOKEN_CLASSIFICATION: (*_SENTENCES, *_OBJECTS),
    Task.MULTIPLE_CHOICE: LABELLED.endings,
    Task.FEATURE_EXTRACTION: (".txt", *LABELLED.endings),
}
_GENERIC = re.compile(r"LABEL_[0-9]+")
"""The name of a class that nobody named."""


def load_labelled(
    path: str | Path,
    task: Task,
    *,
    columns: Columns = _GUESSED,
    label_names: Sequence[str] = (),
    problem_type: str | None = None,
    for_training: bool = False,
) -> LabelledData:
    """Read a file of labelled data; all of it is checked before this returns.

    Args:
        path: The file.
        task: What the examples are for.
        columns: Which columns are which.
        label_names: The names of the model's classes, by index: another label is a fault then. In the data a whole
            number is a name where any of these is a whole number, else an index. Empty: the classes are those that
            the data has, sorted; of texts and words at least two.
        problem_type: Of text classification, a ``ProblemType``. None: several labels where there are lists, numbers
            where all labels are numbers and some have a point, else one label.
        for_training: Whether a model is to be trained on it: labels of a ranking must then be from 0 to 1, and all rows
            of multiple choice have as many choices as the first one.

    Returns:
        The data.

    Raises:
        DataError: If the file cannot be read, its columns cannot be told, it has no example, or a row breaks a rule.
        InputError: If there is no labelled data for the task, or no such problem type.
        MissingPackageError: If pyarrow is needed and not installed.
    """
    file = Path(path)
    problem = _checked(task, label_names, problem_type)
    rules = replace(LABELLED, endings=_ENDINGS[task])
    ending = file.suffix.lower()
    records: Iterator[Record]
    if task is Task.TOKEN_CLASSIFICATION and ending in _SENTENCES:
        records = read_sentences(read_text(file, rules))
    else:
        records = read_records(file, rules=rules, is_header=partial(is_header, columns=columns))
    is_table = ending in _TABLES
    rows = Rows(records, str(file), columns, tuple(label_names), problem, numbered=is_table, for_training=for_training)
    return _labelled(rows, task, file.name)


def load_hub_dataset(  # noqa: PLR0913  (those of load_labelled, and the split)
    name: str,
    task: Task,
    *,
    split: str = "train",
    columns: Columns = _GUESSED,
    label_names: Sequence[str] = (),
    problem_type: str | None = None,
    for_training: bool = False,
) -> LabelledData:
    """Read a set of the Hugging Face hub, checked as files are. No code of the set is run.

    Args:
        name: ``owner/set`` or ``set``, with ``:config`` behind where it has several.
        split: Which part of it, as the package ``datasets`` spells it: ``validation``, ``train[:1000]``.
        task: What the examples are for.
        columns: Which columns are which.
        label_names: As for ``load_labelled``. Where they are generic (``LABEL_0``), or there are none, classes are
            those of the set, in its order.
        problem_type: As for ``load_labelled``.
        for_training: As for ``load_labelled``.

    Returns:
        The data.

    Raises:
        DataError: If there is no such set or part, its columns cannot be told, it has no example, or a row breaks a
            rule.
        InputError: If there is no labelled data for the task, or no such problem type.
        MissingPackageError: If the package ``datasets`` is not installed.
    """
    problem = _checked(task, label_names, problem_type)
    are_generic = bool(label_names) and all(_GENERIC.fullmatch(label) for label in label_names)
    hub = open_hub_dataset(name, split=split, as_names=not are_generic)
    classes = {} if are_generic else hub.class_names
    rows = Rows(
        hub.records,
        hub.title,
        columns,
        tuple(label_names),
        problem,
        class_names=classes,
        for_training=for_training,
    )
    return _labelled(rows, task, hub.title)


def load_data(  # noqa: PLR0913  (those of load_hub_dataset)
    source: str | Path,
    task: Task,
    *,
    split: str,
    columns: Columns = _GUESSED,
    label_names: Sequence[str] = (),
    problem_type: str | None = None,
    for_training: bool = False,
) -> LabelledData:
    """Read a file or a set of the Hugging Face hub, whichever the source names.

    Args:
        source: A path, or a name as for ``load_hub_dataset``.
        task: What the examples are for.
        split: Which part of a set of the hub.
        columns: As for ``load_labelled``.
        label_names: As for both.
        problem_type: As for ``load_labelled``.
        for_training: As for ``load_labelled``.

    Returns:
        The data.

    Raises:
        DataError: If it cannot be found, read or used.
        InputError: If there is no labelled data for the task, or no such problem type.
        MissingPackageError: If a package of the extra ``data`` is needed and not installed.
    """
    if is_data_file(source):
        return load_labelled(
            source,
            task,
            columns=columns,
            label_names=label_names,
            problem_type=problem_type,
            for_training=for_training,
        )
    return load_hub_dataset(
        str(source),
        task,
        split=split,
        columns=columns,
        label_names=label_names,
        problem_type=problem_type,
        for_training=for_training,
    )


def is_data_file(source: str | Path) -> bool:
    """Return whether a source of data is a file, and no set of the hub.

    Args:
        source: What a caller passed.

    Returns:
        Whether there is such a path, or it ends as files do.
    """
    path = Path(source)
    return path.exists() or path.suffix.lower() in {*LABELLED.endings, *_SENTENCES}


def _checked(task: Task, label_names: Sequence[str], problem_type: str | None) -> ProblemType | None:
    """Return the problem type; what the caller asks for must make sense."""
    if task not in READERS:
        known = ", ".join(item.value for item in READERS)
        raise InputError(f"Labelled data must be for one of {known}, got {task.value}.")
    if len(set(label_names)) < len(label_names):
        raise InputError(f"label_names must differ, got {', '.join(label_names)}.")
    try:
        return None if problem_type is None else ProblemType(problem_type)
    except ValueError as err:
        known = ", ".join(item.value for item in ProblemType)
        raise InputError(f"problem_type must be one of {known}, got {problem_type!r}.") from err


def _labelled(rows: Rows, task: Task, name: str) -> LabelledData:
    read = READERS[task](rows)
    problem = None if read.problem_type is None else read.problem_type.value
    return LabelledData(task, tuple(read.examples), read.label_names, problem, name)
