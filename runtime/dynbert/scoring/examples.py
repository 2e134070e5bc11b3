"""What labelled data is made of: one record a task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import msgspec

if TYPE_CHECKING:
    from dynbert.manifest import Task

__all__ = [
    "AnswerSpan",
    "ChoiceExample",
    "Columns",
    "Example",
    "LabelledData",
    "PlainExample",
    "ProblemType",
    "QuestionExample",
    "TextExample",
    "WordsExample",
]


class ProblemType(StrEnum):
    """What the logits of a text classifier mean, and so its labels; the first three are transformers' names."""

    SINGLE_LABEL = "single_label_classification"
    MULTI_LABEL = "multi_label_classification"
    REGRESSION = "regression"
    RANKING = "ranking"
    """One logit, by which texts or pairs of texts are put in an order; the label is a number as well."""


@dataclass(frozen=True)
class Columns:
    """Which columns of a file mean what; None: guessed where that is plain.

    A column goes by its name, upper or lower case. In a .csv or .tsv it may also go by its number, ``"1"`` for the
    first: then every row is data, but for a first row that has known names in the columns chosen.
    """

    text: str | None = None
    """The text, or the question; several columns, as in ``"title,description"`` or ``"2,3"``, are joined by a blank.
    Where it is given and ``pair`` is not, there is no pair."""
    pair: str | None = None
    """The second text: a pair's, a question's context, a query's passage. Several columns are joined, too."""
    label: str | None = None
    """The label; of a pair for embeddings its score."""
    choices: tuple[str, ...] = ()
    """Multiple choice: one column with lists, or one column a choice."""


@dataclass(frozen=True)
class TextExample:
    """A text, or a pair of texts, with what it is to be classified as."""

    text: str
    pair: str | None
    label: int | float | tuple[float, ...]
    """By the problem type: the index of a class; a number; 0 or 1 for each class."""


class AnswerSpan(NamedTuple):
    """One right answer to a question."""

    text: str
    """``context[start : start + len(text)]``, exactly."""
    start: int
    """First character in the context, as Python counts them (code points)."""


@dataclass(frozen=True)
class QuestionExample:
    """A question with its right answers."""

    id: str
    question: str
    context: str
    answers: tuple[AnswerSpan, ...]
    """Any of them is right; none: the context does not answer the question."""


@dataclass(frozen=True)
class WordsExample:
    """A sentence, word by word."""

    words: tuple[str, ...]
    labels: tuple[int, ...]
    """The index of each word's class."""


@dataclass(frozen=True)
class ChoiceExample:
    """A text with what may follow it."""

    text: str
    choices: tuple[str, ...]
    """At least two."""
    label: int
    """Which of them is right."""


@dataclass(frozen=True)
class PlainExample:
    """A text for embeddings."""

    text: str
    pair: str | None
    """A text that belongs to it, such as the passage that answers it; None where there is none."""
    score: float | None
    """How similar the pair is, on any scale; None where it is not said."""


Example: TypeAlias = TextExample | QuestionExample | WordsExample | ChoiceExample | PlainExample


@dataclass(frozen=True)
class LabelledData:
    """What a model is trained on or judged by."""

    task: Task
    examples: tuple[Example, ...]
    """At least one, all of the task's kind, in the file's order."""
    label_names: tuple[str, ...]
    """Names of the classes by index; empty where the task or the problem has none."""
    problem_type: str | None
    """A ``ProblemType`` for text classification, else None."""
    name: str
    """What a report calls the data."""

    def sha256(self) -> str:
        """Return what tells this data from other data: the SHA-256 of its examples and labels as JSON.

        Returns:
            64 hexadecimal digits.
        """
        return hashlib.sha256(msgspec.json.encode((self.task, self.examples, self.label_names))).hexdigest()
