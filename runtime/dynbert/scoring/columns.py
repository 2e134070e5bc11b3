"""Which columns of a file mean what: as the caller says, or by names that are plain.

Names are guessed only where exactly one column has a known one: a file that could be read in two ways is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.scoring.records import DataError, RowFault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynbert.scoring.examples import Columns
    from dynbert.scoring.records import Record

__all__ = [
    "ANSWERS",
    "CHOICES",
    "CHOSEN",
    "CONTEXT",
    "LABEL",
    "PAIR",
    "QUESTION",
    "SCORE",
    "TAGS",
    "TEXT",
    "WORDS",
    "ColumnFinder",
    "Role",
    "are_numbers",
    "is_header",
    "text_at",
    "value_at",
]

_MOST_SHOWN = 12
"""Names of columns in a message."""
_SHOWN_CHARACTERS = 40
"""Characters of a name or value in a message."""
_NUMBER = re.compile(r"[1-9][0-9]{0,5}")
_NUMBERS = re.compile(rf"{_NUMBER.pattern}(\s*,\s*{_NUMBER.pattern})*")


@dataclass(frozen=True)
class Role:
    """What a column is for."""

    what: str
    """What messages call its values."""
    option: str
    """The option that names it."""
    known: tuple[str, ...]
    """The names, lower case, that it goes by where the caller says none."""
    may_join: bool = False
    """Whether several columns may be joined to one text."""


TEXT = Role("texts", "--text-column", ("text", "sentence", "sentence1", "question", "premise", "query"), may_join=True)
PAIR = Role(
    "second texts",
    "--pair-column",
    ("text_pair", "sentence2", "context", "hypothesis", "passage", "answer"),
    may_join=True,
)
LABEL = Role("labels", "--label-column", ("label", "labels", "class", "target", "score", "gold_label"))
WORDS = Role("lists of words", "--text-column", ("words", "tokens"))
TAGS = Role("lists of labels", "--label-column", ("labels", "ner_tags", "tags"))
SCORE = Role("scores", "--label-column", ("score", "similarity", "label"))
QUESTION = Role("questions", "--text-column", ("question",))
CONTEXT = Role("contexts", "--pair-column", ("context",))
ANSWERS = Role("answers", "--label-column", ("answers",))
CHOICES = Role("choices", "--choice-column", ("choices", "options"))
CHOSEN = Role("labels", "--label-column", ("label", "gold_label", "target", "answerkey"))

_KNOWN = {name for role in (TEXT, PAIR, LABEL, SCORE, CHOSEN) for name in role.known}


def are_numbers(columns: Columns) -> bool:
    """Return whether columns go by their numbers.

    Args:
        columns: What the caller says of them.

    Returns:
        Whether at least one is said, and all that are said are numbers.
    """
    given = [name for name in (columns.text, columns.pair, columns.label, *columns.choices) if name is not None]
    return bool(given) and all(_NUMBERS.fullmatch(name.strip()) for name in given)


def is_header(row: Sequence[str], columns: Columns) -> bool:
    """Return whether the first row of a table has the names of its columns.

    Args:
        row: Its cells.
        columns: What the caller says of the columns.

    Returns:
        True where they go by name; where they go by number, whether those of the row are known names.
    """
    if not are_numbers(columns):
        return True
    given = [name for name in (columns.text, columns.pair, columns.label, *columns.choices) if name is not None]
    places = [int(number) - 1 for name in given for number in name.split(",")]
    return all(place < len(row) and row[place].strip().lower() in _KNOWN for place in places)


@dataclass(frozen=True)
class ColumnFinder:
    """The columns that a file has."""

    names: tuple[str, ...]
    """As the first row has them."""
    source: str
    """What messages call the file."""
    numbered: bool
    """Whether a column may go by its number."""

    def find(self, role: Role, given: str | None) -> tuple[str, ...]:
        """Return the columns of a role.

        Args:
            role: What for.
            given: As the caller names them; None to guess.

        Returns:
            Their names; none where nothing is given and no name is known.

        Raises:
            DataError: If what is given is not there, or several columns have known names.
        """
        if given is not None:
            whole = self._match(given)
            is_list = whole is None and role.may_join
            parts = tuple(self._match(part) for part in given.split(",")) if is_list else (whole,)
            found = tuple(part for part in parts if part is not None)
            if len(found) < len(parts):
                raise self._fault(f"have the column {given!r}", role)
            return found
        guessed = tuple(name for name in self.names if name.strip().lower() in role.known)
        if len(guessed) > 1:
            raise DataError(
                f"Labelled data must have one plain column of {role.what}, got {' and '.join(guessed)} in "
                f"{self.source}. Name one with {role.option}."
            )
        return guessed

    def require(self, role: Role, given: str | None) -> tuple[str, ...]:
        """Return the columns of a role, as ``find`` does, at least one.

        Args:
            role: What for.
            given: As the caller names them; None to guess.

        Returns:
            Their names.

        Raises:
            DataError: As ``find`` does, or if there is none.
        """
        found = self.find(role, given)
        if not found:
            raise self._fault(f"have a column of {role.what} ({', '.join(role.known)})", role)
        return found

    def _match(self, given: str) -> str | None:
        """Return the column that a name or number means; None for none."""
        wanted = given.strip()
        if wanted in self.names:
            return wanted
        alike = [name for name in self.names if name.strip().lower() == wanted.lower()]
        if len(alike) == 1:
            return alike[0]
        if self.numbered and _NUMBER.fullmatch(wanted) and int(wanted) <= len(self.names):
            return self.names[int(wanted) - 1]
        return None

    def _fault(self, rule: str, role: Role) -> DataError:
        shown = [repr(name[:_SHOWN_CHARACTERS]) for name in self.names[:_MOST_SHOWN]]
        more = ", ..." if len(self.names) > _MOST_SHOWN else ""
        remedy = f"Name one with {role.option}"
        if self.numbered:
            remedy += f"; where the first row is no header, name all by number, as in {role.option} 1"
        return DataError(
            f"Labelled data must {rule}, got the columns {', '.join(shown)}{more} in {self.source}. {remedy}."
        )


def value_at(record: Record, name: str) -> Any:
    """Return a value of a row.

    Args:
        record: The row.
        name: The column.

    Returns:
        The value, not None.

    Raises:
        RowFault: If it has none.
    """
    value = record.values.get(name)
    if value is None:
        raise RowFault(record.where, f"have {name!r} in every row", got="none")
    return value


def text_at(record: Record, names: Sequence[str]) -> str:
    """Return a text of a row.

    Args:
        record: The row.
        names: The columns; the texts of several are joined by blanks.

    Returns:
        The text, with something in it.

    Raises:
        RowFault: If one is missing or no text, or all are empty.
    """
    values = [value_at(record, name) for name in names]
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, str):
            raise RowFault(record.where, f"have texts as {name!r}", got=f"a value of type {type(value).__name__}")
    text = values[0] if len(values) == 1 else " ".join(value.strip() for value in values if value.strip())
    if not text.strip():
        raise RowFault(
            record.where, f"have a text as {' or '.join(map(repr, names))}", got="none", remedy="Leave the row out."
        )
    return str(text)
