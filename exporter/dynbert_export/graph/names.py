"""Names that every graph of this package has, from the traced one on."""

from __future__ import annotations

from dynbert.inputs import LENGTH_CONFIG

__all__ = ["LENGTH_INPUT", "kept_positions_name"]

LENGTH_INPUT = LENGTH_CONFIG
"""int64 ``[layers]``: tokens kept after each layer; an input of the anytime graph."""


def kept_positions_name(layer: int) -> str:
    """Return the name of the value that holds the original positions left after a layer, int64 ``[batch, kept]``.

    Args:
        layer: Index of the layer.

    Returns:
        The name.
    """
    return f"kept_positions.{layer}"
