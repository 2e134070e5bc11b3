"""The traced form of attention, which several rewrites look for, each some part of it.

::

    query = Transpose(Reshape(x @ weight + bias))        key and value alike
    scores = query @ key / sqrt(size)                    relative positions are added before the Div
    probabilities = Softmax(scores + mask)
    context = Reshape(Transpose(probabilities @ value))  then perhaps a cut, then the output projection
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.inputs import ATTENTION_MASK
from dynbert_export.graph.editing import constant_array, only_consumer, producer_of

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir as ir
    from numpy.typing import NDArray

__all__ = [
    "Attention",
    "Dense",
    "MaskedScores",
    "Mixture",
    "Scores",
    "Side",
    "match_attention",
    "match_dense",
    "match_masked_scores",
    "match_mixture",
    "match_scores",
]

_BY_HEAD = (0, 2, 1, 3)
"""The permutation from ``[batch, tokens, heads, size]`` to ``[batch, heads, tokens, size]``."""
_KEY_BY_HEAD = (0, 2, 3, 1)
_COPIES = frozenset({"Cast", "Expand", "Flatten", "Gather", "GatherElements", "Reshape", "Slice", "Unsqueeze"})
"""What may stand between the attention mask and its use, beside arithmetic: conversions, and tokens dropped."""
_ARITHMETIC = frozenset({"Mul", "Sub"})
"""What makes an additive mask of the attention mask."""


@dataclass(frozen=True)
class Dense:
    """A product with a weight, and its bias."""

    product: ir.Node
    """The MatMul."""
    weight: NDArray[np.generic]
    """``[inner, columns]``."""
    bias_add: ir.Node
    bias: NDArray[np.generic]
    """``[columns]``."""
    bias_index: int
    """The bias's place among the inputs of its Add."""


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


@dataclass(frozen=True)
class MaskedScores:
    """What a softmax reads."""

    scores: ir.Value
    """``[batch, heads, tokens, tokens]``, scaled, fp32, whatever the product before it is."""
    mask: ir.Value
    """Additive, ``[batch, 1, 1, tokens]``."""
    origin: ir.Node
    """Makes the additive mask of all tokens, before any are dropped."""


@dataclass(frozen=True)
class Mixture:
    """Probabilities times values."""

    softmax: ir.Node
    product: ir.Node
    """The MatMul."""


@dataclass(frozen=True)
class Attention:
    """One layer's attention, from the split projections to the context."""

    scores: Scores
    value: Side
    mask: ir.Value
    """Additive, ``[batch, 1, 1, tokens]``."""
    context: ir.Node
    """The last node; gives ``[batch, tokens, heads * size]``."""


def match_dense(value: ir.Value | None) -> Dense | None:
    """Return the product with a weight, and its bias, that make a value.

    Args:
        value: Any value.

    Returns:
        Their parts; None where weight or bias are no constants, and for other forms.
    """
    bias_add = producer_of(value, "Add")
    for index, summand in enumerate(() if bias_add is None else bias_add.inputs):
        product = producer_of(summand, "MatMul")
        weight = None if product is None else constant_array(product.inputs[1])
        bias = None if bias_add is None else constant_array(bias_add.inputs[1 - index])
        if bias_add is not None and product is not None and weight is not None and bias is not None:
            return Dense(product, weight, bias_add, bias, 1 - index)
    return None


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


def match_masked_scores(softmax: ir.Node) -> MaskedScores | None:
    """Return the scores and the mask that a softmax reads.

    Args:
        softmax: Any node.

    Returns:
        Both; None for other nodes, where the masked scores are read elsewhere too, and where what is added is not made
        of the attention mask by arithmetic with constants and by dropping tokens.
    """
    add = producer_of(softmax.inputs[0], "Add") if softmax.op_type == "Softmax" else None
    if add is None or only_consumer(add.outputs[0], "Softmax") is None:
        return None
    for scores, mask in (add.inputs, reversed(add.inputs)):
        origin = None if mask is None else _find_origin(mask)
        if scores is not None and mask is not None and origin is not None:
            return MaskedScores(scores, mask, origin)
    return None


def match_mixture(value: ir.Value | None) -> Mixture | None:
    """Return the product of probabilities and values that makes a value.

    Args:
        value: Any value.

    Returns:
        Its parts; None for other forms.
    """
    product = producer_of(value, "MatMul")
    softmax = None if product is None else producer_of(product.inputs[0], "Softmax")
    return None if product is None or softmax is None else Mixture(softmax, product)


def match_attention(softmax: ir.Node) -> Attention | None:
    """Return the attention around a softmax whose probabilities nothing else reads.

    Args:
        softmax: A node of a graph with constant shapes (``reshapes.py``).

    Returns:
        Its parts; None for other nodes and forms, INT8 scores among them.
    """
    masked = match_masked_scores(softmax)
    scale = None if masked is None else producer_of(masked.scores, "Div")
    scores = None if scale is None else match_scores(producer_of(scale.inputs[0], "MatMul"))
    mixed = only_consumer(softmax.outputs[0], "MatMul") if scores is not None else None
    by_token = None if mixed is None else only_consumer(mixed.outputs[0], "Transpose")
    context = None if by_token is None else only_consumer(by_token.outputs[0], "Reshape")
    value = None if mixed is None else _match_side(mixed.inputs[1], _BY_HEAD)
    if masked is None or scores is None or value is None or context is None:
        return None
    return Attention(scores, value, masked.mask, context)


def _match_side(value: ir.Value | None, permutation: tuple[int, ...]) -> Side | None:
    transpose = producer_of(value, "Transpose")
    split = None if transpose is None else producer_of(transpose.inputs[0], "Reshape")
    shape = None if split is None else constant_array(split.inputs[1])
    if transpose is None or split is None or shape is None or shape.size != len(permutation):
        return None
    if tuple(transpose.attributes.get_ints("perm", ())) != permutation or split.inputs[0] is None:
        return None
    return Side(split.inputs[0], split, transpose, int(shape[2]), int(shape[3]))


def _find_origin(mask: ir.Value) -> ir.Node | None:
    """Return the last arithmetic between the attention mask and a mask; None where it is made of anything else."""
    origin, value = None, mask
    while (node := value.producer()) is not None:
        source = _mask_input(node)
        if source is None:
            return None
        if origin is None and node.op_type in _ARITHMETIC:
            origin = node
        value = source
    return origin if value.name == ATTENTION_MASK else None


def _mask_input(node: ir.Node) -> ir.Value | None:
    """Return the one input of a step of the mask that is the mask."""
    if node.op_type in _COPIES:
        return node.inputs[0]
    changing = [value for value in node.inputs if value is not None and constant_array(value) is None]
    return changing[0] if node.op_type in _ARITHMETIC and len(changing) == 1 else None
