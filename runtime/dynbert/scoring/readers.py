"""From the rows of a file to examples of a task; every fault is found before an example is given away."""

from __future__ import annotations

import re
import string
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from dynbert.manifest import Task
from dynbert.scoring.columns import CHOICES, CHOSEN, LABEL, PAIR, SCORE, TAGS, TEXT, WORDS, text_at, value_at
from dynbert.scoring.examples import (
    ChoiceExample,
    PlainExample,
    ProblemType,
    TextExample,
    WordsExample,
)
from dynbert.scoring.labels import (
    ClassNames,
    guess_problem,
    number_of,
    read_class,
    read_classes,
    sorted_names,
)
from dynbert.scoring.questions import read_questions
from dynbert.scoring.records import DataError, RowFault
from dynbert.scoring.rows import Labelled, Rows, collect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dynbert.scoring.columns import ColumnFinder
    from dynbert.scoring.examples import Columns
    from dynbert.scoring.labels import RawLabel
    from dynbert.scoring.records import Record

__all__ = ["READERS"]

_FEWEST_TO_JUDGE = 20
"""Rows from which on so many labels, or one that the first row alone has, are no chance."""
_INDEX = re.compile(r"[0-9]{1,3}")
_LETTERS = string.ascii_uppercase
_SWAG = ("sent1", "sent2", "ending0")
"""Columns that tell a file of SWAG: a sentence, the start of the next, and its endings."""


class _Raw(NamedTuple):
    """A row whose label is still as the file has it."""

    where: str
    text: str
    pair: str | None
    label: Any


def _read_texts(rows: Rows) -> Labelled:
    finder, records = rows.open()
    columns = rows.columns
    text = finder.require(TEXT, columns.text)
    pair = _pair_column(finder, columns)
    [label] = finder.require(LABEL, columns.label)

    def read(record: Record) -> _Raw:
        value = value_at(record, label)
        if label.lower() == "gold_label" and value == "-":  # SNLI's sign for a text that its readers disagreed on
            raise RowFault(record.where, "have a label in every row", got="'-'", remedy="Leave the row out.")
        return _Raw(record.where, text_at(record, text), text_at(record, pair) if pair else None, value)

    raw = collect(records, read, rows.source)
    problem = rows.problem_type or guess_problem((row.label for row in raw), names=rows.names_of(label))
    match problem:
        case ProblemType.SINGLE_LABEL:
            return _single_labels(raw, rows, label)
        case ProblemType.MULTI_LABEL:
            return _several_labels(raw, rows, label)
        case _:
            is_bounded = rows.for_training and problem is ProblemType.RANKING
            examples = collect(raw, lambda row: _numbered(row, is_bounded=is_bounded), rows.source)
            return Labelled(examples, rows.label_names, problem)


def _numbered(row: _Raw, *, is_bounded: bool) -> TextExample:
    """Return a text whose label is a number, a share where it is bounded."""
    number = number_of(row.where, row.label)
    if is_bounded and not 0.0 <= number <= 1.0:
        remedy = "Scale the labels, or train it as a regression with --problem-type regression."
        raise RowFault(row.where, "have labels from 0 to 1 to train a ranking on", got=f"{number:g}", remedy=remedy)
    return TextExample(row.text, row.pair, number)


def _pair_column(finder: ColumnFinder, columns: Columns) -> tuple[str, ...]:
    """Return the columns of second texts; they are guessed only where the first ones are."""
    return () if columns.text is not None and columns.pair is None else finder.find(PAIR, columns.pair)


def _single_labels(raw: Sequence[_Raw], rows: Rows, label: str) -> Labelled:
    classes = collect(raw, lambda row: read_class(row.where, row.label), rows.source)
    names = rows.names_of(label) or sorted_names(classes)
    if len(names) < 2:
        raise DataError(
            f"Labelled data must have at least two different labels, got {names[0]!r} alone in {rows.source}."
        )
    if not rows.names_of(label) and len(raw) >= _FEWEST_TO_JUDGE:
        _check_sanity(raw, classes, rows, has_header=not label.isdigit())
    known = ClassNames(names)

    def make(row: tuple[_Raw, RawLabel]) -> TextExample:
        return TextExample(row[0].text, row[0].pair, known.index(row[0].where, row[1]))

    examples = collect(zip(raw, classes, strict=True), make, rows.source)
    return Labelled(examples, names, ProblemType.SINGLE_LABEL)


def _check_sanity(raw: Sequence[_Raw], classes: Sequence[RawLabel], rows: Rows, *, has_header: bool) -> None:
    """Refuse what a wrong column and an unseen header give: a class for nearly every row, or for the first alone."""
    count = len(set(classes))
    if count > len(raw) // 2:
        raise DataError(
            f"Labelled data must have labels that rows share, got {count} different ones in the {len(raw)} rows of "
            f"{rows.source}. Name another column with {LABEL.option}."
        )
    if not has_header and classes.count(classes[0]) == 1:
        raise DataError(
            f"Labelled data must have no header where columns go by number, got the label {classes[0]!r} at "
            f"{raw[0].where} of {rows.source} and nowhere else. If that row is a header, name columns as it does."
        )


def _several_labels(raw: Sequence[_Raw], rows: Rows, label: str) -> Labelled:
    classes = collect(raw, lambda row: read_classes(row.where, row.label), rows.source)
    names = rows.names_of(label) or sorted_names(chain.from_iterable(classes))
    if not names:
        raise DataError(f"Labelled data must have at least one label, got none in {rows.source}.")
    known = ClassNames(names)

    def make(row: tuple[_Raw, tuple[RawLabel, ...]]) -> TextExample:
        has = {known.index(row[0].where, label) for label in row[1]}
        return TextExample(row[0].text, row[0].pair, tuple(float(place in has) for place in range(len(names))))

    examples = collect(zip(raw, classes, strict=True), make, rows.source)
    return Labelled(examples, names, ProblemType.MULTI_LABEL)


def _read_words(rows: Rows) -> Labelled:
    finder, records = rows.open()
    [words] = finder.require(WORDS, rows.columns.text)
    [tags] = finder.require(TAGS, rows.columns.label)

    def read(record: Record) -> tuple[str, tuple[str, ...], tuple[RawLabel, ...]]:
        of_words, of_tags = _list_at(record, words), _list_at(record, tags)
        if len(of_words) != len(of_tags):
            got = f"{len(of_words)} and {len(of_tags)}"
            raise RowFault(record.where, "have as many labels as words", got=got)
        if not of_words:
            raise RowFault(record.where, "have at least one word", got="none", remedy="Leave the row out.")
        for word in of_words:
            if not isinstance(word, str) or not word.strip():
                raise RowFault(record.where, "have words that are texts", got=repr(word))
        return record.where, tuple(of_words), tuple(read_class(record.where, tag) for tag in of_tags)

    raw = collect(records, read, rows.source)
    names = rows.names_of(tags) or sorted_names(chain.from_iterable(labels for _, _, labels in raw))
    if len(names) < 2:
        raise DataError(
            f"Labelled data must have at least two different labels, got {names[0]!r} alone in {rows.source}."
        )
    known = ClassNames(names)

    def make(row: tuple[str, tuple[str, ...], tuple[RawLabel, ...]]) -> WordsExample:
        where, of_words, labels = row
        return WordsExample(of_words, tuple(known.index(where, label) for label in labels))

    return Labelled(collect(raw, make, rows.source), names)


def _list_at(record: Record, name: str) -> list[Any]:
    value = value_at(record, name)
    if not isinstance(value, list):
        raise RowFault(record.where, f"have lists as {name!r}", got=f"a value of type {type(value).__name__}")
    return value


def _read_choices(rows: Rows) -> Labelled:
    finder, records = rows.open()
    columns = rows.columns
    [label] = finder.require(CHOSEN, columns.label)
    is_swag = set(_SWAG) <= set(finder.names) and columns.text is None
    text = ("sent1",) if is_swag else finder.require(TEXT, columns.text)
    start = "sent2" if is_swag and not columns.choices else None
    choices = _choice_columns(finder, columns)
    counts: list[int] = []

    def read(record: Record) -> ChoiceExample:
        texts, keys = _choices_at(record, choices)
        counts.append(len(texts))
        if rows.for_training and counts[-1] != counts[0]:
            got, rule = f"{counts[-1]} and not {counts[0]}", "have as many choices in every row to train on"
            raise RowFault(record.where, rule, got=got, remedy="Leave the row out.")
        if start is not None:
            before = text_at(record, [start])
            texts = [f"{before} {choice}" for choice in texts]
        right = _chosen(record.where, value_at(record, label), keys, len(texts))
        return ChoiceExample(text_at(record, text), tuple(texts), right)

    return Labelled(collect(records, read, rows.source))


def _choice_columns(finder: ColumnFinder, columns: Columns) -> tuple[str, ...]:
    """Return the column of all choices, or the column of each."""
    if columns.choices:
        return tuple(name for given in columns.choices for name in finder.find(CHOICES, given))
    endings = tuple(name for name in (f"ending{number}" for number in range(len(finder.names))) if name in finder.names)
    return endings or finder.require(CHOICES, None)


def _choices_at(record: Record, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the choices of a row, and what a label may call them beside their letters and indices."""
    keys: Any = []
    if len(names) == 1:
        value: Any = value_at(record, names[0])
        if isinstance(value, dict):  # as the hub's sets have them: two lists
            value, keys = value.get("text"), value.get("label")
        if not isinstance(value, list):
            raise RowFault(record.where, f"have lists as {names[0]!r}", got="something else")
        texts = value
    else:
        texts = [value_at(record, name) for name in names]
    if len(texts) < 2 or not all(isinstance(text, str) and text.strip() for text in texts):
        raise RowFault(record.where, "have at least two choices, texts with something in them", got=repr(texts)[:80])
    has_keys = isinstance(keys, list) and len(keys) == len(texts) and all(isinstance(key, str) for key in keys)
    return texts, keys if has_keys else []


def _chosen(where: str, value: Any, keys: Sequence[str], count: int) -> int:
    """Return which choice a label means: by its key, its index from 0, or its letter."""
    label = read_class(where, value)
    if label in keys:
        return keys.index(str(label))
    text = str(label)
    place = int(text) if _INDEX.fullmatch(text) else _LETTERS.find(text.upper()) if len(text) == 1 else -1
    if not 0 <= place < count:
        known = ", ".join(keys) if keys else f"0 to {count - 1}, or A to {_LETTERS[count - 1]}"
        raise RowFault(where, f"have labels that name a choice ({known})", got=repr(label))
    return place


def _read_plain(rows: Rows) -> Labelled:
    finder, records = rows.open()
    columns = rows.columns
    text = finder.require(TEXT, columns.text)
    pair = _pair_column(finder, columns)
    score = finder.find(SCORE, columns.label) if pair or columns.label is not None else ()
    if score and not pair:
        raise DataError(
            f"Labelled data must have second texts to have scores, got none in {rows.source}. "
            f"Name their column with {PAIR.option}."
        )

    def read(record: Record) -> PlainExample:
        number = number_of(record.where, value_at(record, score[0])) if score else None
        return PlainExample(text_at(record, text), text_at(record, pair) if pair else None, number)

    return Labelled(collect(records, read, rows.source))


_Reader: TypeAlias = "Callable[[Rows], Labelled]"

READERS: Mapping[Task, _Reader] = {
    Task.TEXT_CLASSIFICATION: _read_texts,
    Task.QUESTION_ANSWERING: read_questions,
    Task.TOKEN_CLASSIFICATION: _read_words,
    Task.MULTIPLE_CHOICE: _read_choices,
    Task.FEATURE_EXTRACTION: _read_plain,
}
"""The tasks that there is labelled data for."""
