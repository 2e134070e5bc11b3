"""Sets of the Hugging Face hub as rows; the only module that knows the package ``datasets``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.packages import import_extra
from dynbert.scoring.records import DataError, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["HubDataset", "open_hub_dataset"]


@dataclass(frozen=True)
class HubDataset:
    """One part of a set."""

    records: Iterator[Record]
    """Its rows, counted from 1."""
    class_names: Mapping[str, tuple[str, ...]]
    """Column -> the names of its classes by index, of the columns that have classes or lists of them."""
    title: str
    """What messages and reports call it."""


def open_hub_dataset(name: str, *, split: str, as_names: bool) -> HubDataset:
    """Load a part of a set.

    Args:
        name: ``owner/set`` or ``set``, with ``:config`` behind where it has several.
        split: Which part.
        as_names: Whether classes are given by name; else by index.

    Returns:
        Its rows.

    Raises:
        DataError: If it cannot be found or loaded.
        MissingPackageError: If the package ``datasets`` is not installed.
    """
    datasets = import_extra("datasets", extra="data", purpose="read sets of the Hugging Face hub")
    own_error = import_extra("datasets.exceptions", extra="data", purpose="read sets of the hub").DatasetsError
    path, _, config = name.partition(":")
    title = f"{name}, {split}"
    try:
        part = datasets.load_dataset(path, config or None, split=split)
    except (OSError, ValueError, RuntimeError, own_error) as err:
        reason = str(err).strip().partition("\n")[0] or type(err).__name__
        raise DataError(f"Labelled data must be a set that can be loaded, got {title} ({reason}).") from err
    features = {column: _names_of(feature) for column, feature in part.features.items()}
    class_names = {column: names for column, names in features.items() if names}
    return HubDataset(_records(part, class_names if as_names else {}), class_names, title)


def _names_of(feature: Any) -> tuple[str, ...]:
    """Return the names of the classes of a column; none where it has no classes."""
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    return tuple(names) if isinstance(names, list) else ()


def _records(rows: Iterable[Mapping[str, Any]], class_names: Mapping[str, tuple[str, ...]]) -> Iterator[Record]:
    for number, row in enumerate(rows, start=1):
        named = {column: _as_names(row[column], names) for column, names in class_names.items()}
        yield Record(f"row {number}", {**row, **named})


def _as_names(value: Any, names: tuple[str, ...]) -> Any:
    """Return the names of classes by index; None for -1, which stands for a label that is kept secret."""
    if isinstance(value, list):
        return [_as_names(item, names) for item in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else None
