"""Labels as files have them, and as a model counts them: classes by index, numbers, 0 or 1 for each class.

A label is a text or a whole number. Without known names the classes are what the data has, in sorted order, numeric
where all are whole numbers. With known names (evaluation data for a model) a whole number is a name where any of the
names is one, and else an index; texts must be names, upper or lower case where that is plain.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from dynbert.scoring.examples import ProblemType
from dynbert.scoring.records import RowFault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["ClassNames", "RawLabel", "guess_problem", "number_of", "read_class", "read_classes", "sorted_names"]

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_MOST_SHOWN = 20
"""Names of classes in a message."""
_BETWEEN = "|"
"""Between the labels of a text that has several."""

RawLabel: TypeAlias = "str | int"
"""A class as a file has it."""


def read_class(where: str, value: Any) -> RawLabel:
    """Return the class that a value means.

    Args:
        where: The row's place.
        value: Of a file.

    Returns:
        A text without blanks around it, or a whole number; ``true`` and ``false`` are texts.

    Raises:
        RowFault: If it is neither text nor whole number, or empty.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        if value.strip():
            return value.strip()
        raise RowFault(where, "have a label in every row", got="none", remedy="Leave the row out.")
    raise RowFault(where, "have texts or whole numbers as labels", got=_shown(value))


def read_classes(where: str, value: Any) -> tuple[RawLabel, ...]:
    """Return the classes that a value means where a text may have several.

    Args:
        where: The row's place.
        value: A list of labels, or a text of labels with ``|`` between; empty for none.

    Returns:
        Each class, once.

    Raises:
        RowFault: If it is something else, or has a label twice.
    """
    if isinstance(value, str):
        parts: Sequence[Any] = value.split(_BETWEEN) if value.strip() else ()
    elif isinstance(value, list):
        parts = value
    else:
        raise RowFault(where, f"have lists of labels, or labels with {_BETWEEN} between", got=_shown(value))
    classes = tuple(read_class(where, part) for part in parts)
    if len(set(classes)) < len(classes):
        raise RowFault(where, "have a label once in a list", got=_shown(value))
    return classes


def number_of(where: str, value: Any) -> float:
    """Return the number that a value means.

    Args:
        where: The row's place.
        value: A number, or its text.

    Returns:
        The number, finite.

    Raises:
        RowFault: If it is none.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and _NUMBER.fullmatch(value.strip())):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            return number
    raise RowFault(where, "have finite numbers as labels", got=_shown(value))


def guess_problem(values: Iterable[Any], *, names: Sequence[str]) -> ProblemType:
    """Return what labels are, where nobody says.

    Args:
        values: The labels, as files have them.
        names: Known names of classes.

    Returns:
        Multi-label where there is a list; regression where all are numbers, some not whole, and no two names are
        known; else a single label.
    """
    some_not_whole, all_numbers = False, True
    for value in values:
        if isinstance(value, list):
            return ProblemType.MULTI_LABEL
        text = value.strip() if isinstance(value, str) else ""
        is_whole = (isinstance(value, int) and not isinstance(value, bool)) or bool(_WHOLE.fullmatch(text))
        is_number = is_whole or isinstance(value, float) or bool(_NUMBER.fullmatch(text))
        all_numbers = all_numbers and is_number
        some_not_whole = some_not_whole or (is_number and not is_whole)
    is_regression = all_numbers and some_not_whole and len(names) < 2
    return ProblemType.REGRESSION if is_regression else ProblemType.SINGLE_LABEL


def sorted_names(labels: Iterable[RawLabel]) -> tuple[str, ...]:
    """Return the names of the classes that data has.

    Args:
        labels: The label of every text or word.

    Returns:
        Each name once, sorted; by value where all are whole numbers.
    """
    names = {str(label) for label in labels}
    are_whole = all(_WHOLE.fullmatch(name) for name in names)
    return tuple(sorted(names, key=lambda name: (int(name), name) if are_whole else (0, name)))


@dataclass(frozen=True)
class ClassNames:
    """The names of classes, by index."""

    names: tuple[str, ...]

    @cached_property
    def _are_whole(self) -> bool:
        return any(_WHOLE.fullmatch(name) for name in self.names)

    @cached_property
    def _index(self) -> Mapping[str, int]:
        """Index by name, and by the name in lower case where no other name is the same then."""
        folded = [name.casefold() for name in self.names]
        index = {name: place for place, name in enumerate(folded) if folded.count(name) == 1}
        return index | {name: place for place, name in enumerate(self.names)}

    def index(self, where: str, label: RawLabel) -> int:
        """Return which class a label means.

        Args:
            where: The row's place.
            label: As a file has it.

        Returns:
            The index.

        Raises:
            RowFault: If there is no such class.
        """
        name = str(label)
        found = self._index.get(name, self._index.get(name.casefold()))
        if found is not None:
            return found
        if not self._are_whole and _WHOLE.fullmatch(name):
            if 0 <= int(name) < len(self.names):
                return int(name)
            raise RowFault(
                where, f"have whole numbers from 0 to {len(self.names) - 1} as labels", got=name, remedy=self._known()
            )
        raise RowFault(where, "have known labels only", got=_shown(label), remedy=self._known())

    def _known(self) -> str:
        more = ", ..." if len(self.names) > _MOST_SHOWN else ""
        return f"Known are {', '.join(self.names[:_MOST_SHOWN])}{more}."


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
