"""Rows on their way to examples: where they come from, and how their faults are gathered and told."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from dynbert.scoring.columns import ColumnFinder
from dynbert.scoring.records import DataError, RowFault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from dynbert.scoring.examples import Columns, Example, ProblemType
    from dynbert.scoring.records import Record

__all__ = ["Labelled", "Rows", "collect"]

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Rows:
    """What a file or a set holds, and how to take it."""

    records: Iterator[Record]
    source: str
    """What messages call the file."""
    columns: Columns
    label_names: tuple[str, ...]
    """Known names of the classes; empty where the data is to say."""
    problem_type: ProblemType | None
    """None to guess."""
    numbered: bool = False
    """Whether a column may go by its number."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> names of its classes by index, where the set says so itself."""
    for_training: bool = False
    """Whether a model is to be trained on the rows, which asks more of them."""

    def names_of(self, column: str) -> tuple[str, ...]:
        """Return the known names of the classes that a column has; empty where the data is to say."""
        return self.label_names or self.class_names.get(column, ())

    def open(self) -> tuple[ColumnFinder, Iterator[Record]]:
        """Return the columns, which are those of the first row, and the rows."""
        try:
            first = next(self.records, None)
        except RowFault as err:
            raise _data_error(err, self.source) from err
        if first is None:
            raise DataError(f"Labelled data must have at least one example, got none in {self.source}.")
        return ColumnFinder(tuple(first.values), self.source, numbered=self.numbered), chain([first], self.records)


class Labelled(NamedTuple):
    """What a reader gives."""

    examples: Sequence[Example]
    label_names: tuple[str, ...] = ()
    problem_type: ProblemType | None = None


def collect(items: Iterable[T], make: Callable[[T], U], source: str) -> list[U]:
    """Make something of every item.

    Args:
        items: The items.
        make: Gives something, or a ``RowFault``.
        source: What messages call the file.

    Returns:
        What was made of each.

    Raises:
        DataError: If there was a fault: the first one, with how many more broke the same rule.
    """
    made: list[U] = []
    faults: list[RowFault] = []
    try:
        for item in items:
            try:
                made.append(make(item))
            except RowFault as err:
                faults.append(err)
    except RowFault as err:  # the file itself is broken here: there is no next row
        faults.append(err)
    if faults:
        more = sum(fault.rule == faults[0].rule for fault in faults) - 1
        raise _data_error(faults[0], source, more=more) from faults[0]
    return made


def _data_error(fault: RowFault, source: str, *, more: int = 0) -> DataError:
    others = f" and {more} more of its rows" if more else ""
    remedy = f" {fault.remedy}" if fault.remedy else ""
    return DataError(f"Labelled data must {fault.rule}, got {fault.got} at {fault.where} of {source}{others}.{remedy}")
