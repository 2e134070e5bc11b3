"""Layer configs: which layers of a model run, the others left out.

Indices count from 0, as in the names of a checkpoint's weights (``encoder.layer.0``). Layers run in the model's order,
so the order in which they are given says nothing: it becomes ascending.
"""

from __future__ import annotations

import re
import reprlib
from numbers import Integral
from typing import TYPE_CHECKING

from dynbert.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["check_layers", "layers_text", "read_layers"]

_REMEDY = "Name the layers that run, counted from 0, e.g. 0,2,4."
_INDEX = re.compile(r"\d{1,9}")


def read_layers(given: object) -> tuple[int, ...]:
    """Return a layer config, whichever of the accepted forms it has.

    Args:
        given: A text such as ``0,2,4``, in round or square brackets or in none, or an iterable of whole numbers (lists,
            tuples, numpy arrays, tensors of them).

    Returns:
        The indices of the layers that run, ascending.

    Raises:
        InputError: If it is none of these, names no layer, or one twice.
    """
    items = _split(given) if isinstance(given, str) else _list_items(given)
    indices = [_read_index(item) for item in items]
    wrong = [item for item, index in zip(items, indices, strict=True) if index is None]
    if wrong:
        raise InputError(
            f"Layer indices must be whole numbers from 0 on, got {', '.join(map(reprlib.repr, wrong))}. {_REMEDY}"
        )
    layers = sorted(index for index in indices if index is not None)
    if not layers:
        raise InputError(f"A layer config must name at least one layer, got none. {_REMEDY}")
    if len(set(layers)) < len(layers):
        twice = sorted({layer for layer in layers if layers.count(layer) > 1})
        raise InputError(f"A layer config must name each layer once, got {layers_text(twice)} several times. {_REMEDY}")
    return tuple(layers)


def check_layers(layers: Sequence[int], num_layers: int) -> None:
    """Hold a layer config to the model that it is for; more layers than the model has are among those outside.

    Args:
        layers: Indices as from ``read_layers``.
        num_layers: Hidden layers of the model.

    Raises:
        InputError: If the model has no such layer.
    """
    outside = [layer for layer in layers if layer >= num_layers]
    if outside:
        raise InputError(
            f"Layer indices must be from 0 to {num_layers - 1} for a model of {num_layers} layers, "
            f"got {layers_text(outside)}."
        )


def layers_text(layers: Iterable[int]) -> str:
    """Return layers as a caller may write them.

    Args:
        layers: Indices.

    Returns:
        ``0,2,4`` for example.
    """
    return ",".join(map(str, layers))


def _split(text: str) -> list[object]:
    body = text.strip()
    for opening, closing in ("()", "[]"):
        if body.startswith(opening) and body.endswith(closing):
            body = body[1:-1].strip().removesuffix(",")
            break
    return [item.strip() for item in body.split(",")] if body else []


def _list_items(given: object) -> list[object]:
    try:
        return list(given)  # type: ignore[call-overload, no-any-return]  # what cannot be listed is refused here
    except TypeError as err:
        raise InputError(
            f"A layer config must be a list of layer indices, got {reprlib.repr(given)}. {_REMEDY}"
        ) from err


def _read_index(item: object) -> int | None:
    """Return a plain int, from text, Python, numpy or torch scalars; None for anything else."""
    if isinstance(item, str):
        return int(item) if _INDEX.fullmatch(item) else None
    try:
        value = item.item() if hasattr(item, "item") else item
    except (ValueError, RuntimeError):  # numpy's and torch's way to say that there are several
        return None
    if isinstance(value, bool) or not isinstance(value, Integral):
        return None
    return int(value) if int(value) >= 0 else None
