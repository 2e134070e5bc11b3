"""Names that every graph of this package has, from the traced one on.

The inputs' names are the runtime's, which feeds them: ``dynbert.inputs``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["MICROSOFT_DOMAIN", "is_kept_positions", "kept_positions_layer", "kept_positions_name", "names_in_layers"]

MICROSOFT_DOMAIN = "com.microsoft"
"""Domain of the operators that onnxruntime has beside ONNX's own."""

_KEPT_POSITIONS = "kept_positions."
_LAYER = re.compile(r"/encoder/layer\.(\d+)/")


def kept_positions_name(layer: int) -> str:
    """Return the name of the value that holds the original positions left after a layer, int64 ``[batch, kept]``.

    Args:
        layer: Index of the layer.

    Returns:
        The name.
    """
    return f"{_KEPT_POSITIONS}{layer}"


def is_kept_positions(name: str | None) -> bool:
    """Return whether a value of this name holds the positions left after a layer.

    Args:
        name: Any value's name.

    Returns:
        Whether ``kept_positions_name`` gives it for a layer.
    """
    return kept_positions_layer(name) is not None


def kept_positions_layer(name: str | None) -> int | None:
    """Return the layer after which the positions that a value of this name holds are left.

    Args:
        name: Any value's name.

    Returns:
        The layer's index; None for other names.
    """
    layer = (name or "").removeprefix(_KEPT_POSITIONS)
    return int(layer) if layer != name and layer.isdecimal() else None


def names_in_layers(names: Iterable[str], layers: Sequence[int] | None) -> tuple[str, ...]:
    """Return the names of the nodes that are parts of these layers.

    Args:
        names: Of nodes in layers; such a name carries its module's.
        layers: Indices of the layers; None for all.

    Returns:
        The names, in their order.
    """
    return tuple(
        name for name in names if layers is None or ((found := _LAYER.search(name)) and int(found[1]) in layers)
    )
