"""The traced form of attention, which several rewrites look for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert_export.graph.editing import constant_array, only_consumer, producer_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Scores", "Side", "match_scores", "match_value"]

_BY_HEAD = (0, 2, 1, 3)
"""The permutation from ``[batch, tokens, heads, size]`` to ``[batch, heads, tokens, size]``."""
_KEY_BY_HEAD = (0, 2, 3, 1)


@dataclass(frozen=True)
class Side:
    """A projection, cut into heads."""

    projection: ir.Value
    """``[batch, tokens, heads * size]``."""
    split: ir.Node
    """The Reshape to ``[batch, tokens, heads, size]``."""
    transpose: ir.Node
    """Puts the heads before the tokens, and a key's tokens last."""
    heads: int
    size: int


@dataclass(frozen=True)
class Scores:
    """Queries times keys."""

    query: Side
    key: Side
    product: ir.Node
    """The MatMul; gives ``[batch, heads, tokens, tokens]``."""
    scale: ir.Node
    """The Div behind it."""
    divisor: float
    """The square root of a head's size in every BERT."""


def match_scores(product: ir.Node | None) -> Scores | None:
    """Return what is around the product of queries and keys.

    Args:
        product: A node of a graph with constant shapes (``reshapes.py``).

    Returns:
        Its parts; None for other nodes and forms, such as that of relative positions, which are added before the Div.
    """
    scale = only_consumer(product.outputs[0], "Div") if product is not None and product.op_type == "MatMul" else None
    if product is None or scale is None or scale.inputs[0] is not product.outputs[0]:
        return None
    divisor = constant_array(scale.inputs[1])
    query, key = _match_side(product.inputs[0], _BY_HEAD), _match_side(product.inputs[1], _KEY_BY_HEAD)
    if query is None or key is None or divisor is None or divisor.size != 1:
        return None
    return Scores(query, key, product, scale, float(divisor.item()))


def match_value(value: ir.Value | None) -> Side | None:
    """Return where the values that probabilities are multiplied with come from.

    Args:
        value: ``[batch, heads, tokens, size]``.

    Returns:
        The projection; None for other forms.
    """
    return _match_side(value, _BY_HEAD)


def _match_side(value: ir.Value | None, permutation: tuple[int, ...]) -> Side | None:
    transpose = producer_of(value, "Transpose")
    split = None if transpose is None else producer_of(transpose.inputs[0], "Reshape")
    shape = None if split is None else constant_array(split.inputs[1])
    if transpose is None or split is None or shape is None or shape.size != len(permutation):
        return None
    if tuple(transpose.attributes.get_ints("perm", ())) != permutation or split.inputs[0] is None:
        return None
    return Side(split.inputs[0], split, transpose, int(shape[2]), int(shape[3]))
