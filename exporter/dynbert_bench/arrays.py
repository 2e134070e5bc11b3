"""Feeds and outputs on disk: an ``.npz`` whose arrays are named ``INDEX/NAME``; and how alike two of them are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Arrays", "compare", "read_arrays", "write_arrays"]

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
"""Name -> array."""


def write_arrays(path: Path, items: Sequence[Arrays]) -> None:
    """Write several sets of named arrays to one file.

    Args:
        path: The ``.npz`` file.
        items: The sets.
    """
    named = {f"{index}/{name}": array for index, item in enumerate(items) for name, array in item.items()}
    np.savez(path, **named)


def read_arrays(path: Path) -> list[dict[str, NDArray[Any]]]:
    """Read what ``write_arrays`` wrote.

    Args:
        path: The file.

    Returns:
        The sets, in their order.
    """
    items: dict[int, dict[str, NDArray[Any]]] = {}
    with np.load(path, allow_pickle=False) as stored:
        for key in stored.files:
            index, name = key.split("/", 1)
            items.setdefault(int(index), {})[name] = stored[key]
    return [items[index] for index in sorted(items)]


def compare(wanted: Sequence[Arrays], got: Sequence[Arrays]) -> tuple[float, float]:
    """Return how alike two lists of outputs are.

    Args:
        wanted: Outputs of the reference for each feed.
        got: Outputs of a competitor for the same feeds, under the same names.

    Returns:
        The cosine of all numbers as one vector, and their largest absolute difference. Both are NaN where the
        competitor's outputs have other names or shapes, or are not finite.
    """
    is_same_form = len(wanted) == len(got) and all(
        first.keys() == second.keys() and all(first[name].shape == second[name].shape for name in first)
        for first, second in zip(wanted, got, strict=True)
    )
    if not is_same_form:
        return float("nan"), float("nan")
    left, right = (
        np.concatenate([item[name].ravel().astype(np.float64) for item in items for name in sorted(item)])
        for items in (wanted, got)
    )
    if not np.isfinite(right).all():
        return float("nan"), float("nan")
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    cosine = float(left @ right) / norm if norm else float("nan")
    return cosine, float(np.abs(left - right).max())
