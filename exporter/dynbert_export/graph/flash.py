"""Flash attention for layers that drop nothing, on input without padding.

Where nothing is selected, nobody reads the attention probabilities, and onnxruntime's ``MultiHeadAttention`` computes
the context tile by tile without ever writing ``heads * tokens * tokens`` numbers to memory (Dao et al. 2022,
"FlashAttention"). Its CPU kernel does so only without a mask. So each such layer gets an ``If``: that operator for
input without padding, the traced ones with their mask for the rest. Both are in one graph: its weights are loaded and
packed once, and every caller gets the faster branch without asking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from dynbert.inputs import ATTENTION_MASK
from dynbert_export.graph.editing import add_initializer, clean, constant_array, only_consumer, producer_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["use_flash_attention"]

_CONTRIB_DOMAIN = "com.microsoft"
_IS_UNPADDED = "is_unpadded"
_BY_HEAD = (0, 2, 1, 3)
"""The permutation from ``[batch, tokens, heads, size]`` to ``[batch, heads, tokens, size]``, and back."""
_KEY_BY_HEAD = (0, 2, 3, 1)


@dataclass(frozen=True)
class _Attention:
    """One layer's attention in its traced form."""

    projections: tuple[ir.Value, ...]
    """Query, key, value: ``[batch, tokens, heads * size]``."""
    context: ir.Value
    """``[batch, tokens, heads * size]``."""
    heads: int
    nodes: tuple[ir.Node, ...]
    """All between the projections and the context, in order."""


def use_flash_attention(model: ir.Model) -> ir.Model:
    """Give every attention whose probabilities nothing else reads a branch for input without padding.

    Args:
        model: A frozen graph, fp32 or INT8, with constant shapes (``reshapes.py``). This is the last rewrite: the
            others do not look into branches.

    Returns:
        An equal graph. One without attention mask, or in which every layer may drop tokens, stays as it is.
    """
    branched = model.clone()
    graph = branched.graph
    mask = next((value for value in graph.inputs if value.name == ATTENTION_MASK), None)
    found = [] if mask is None else [match for node in graph if (match := _match(node)) is not None]
    if mask is None or not found:
        return branched
    branched.opset_imports[_CONTRIB_DOMAIN] = 1
    is_unpadded = _add_condition(graph, mask)
    for attention in found:
        _branch(graph, is_unpadded, attention)
    clean(branched)
    return branched


def _match(softmax: ir.Node) -> _Attention | None:
    """Return the attention around a softmax; None for other nodes and forms, and where its probabilities are read."""
    mask_add = producer_of(softmax.inputs[0], "Add") if softmax.op_type == "Softmax" else None
    scale = None if mask_add is None else next(_producers(mask_add, "Div"), None)
    scores = None if scale is None else producer_of(scale.inputs[0], "MatMul")
    mixed = only_consumer(softmax.outputs[0], "MatMul")
    if mask_add is None or scale is None or scores is None or mixed is None:
        return None
    by_token = only_consumer(mixed.outputs[0], "Transpose")
    merged = None if by_token is None else only_consumer(by_token.outputs[0], "Reshape")
    sides = [
        _match_side(value, permutation)
        for value, permutation in (
            (scores.inputs[0], _BY_HEAD),
            (scores.inputs[1], _KEY_BY_HEAD),
            (mixed.inputs[1], _BY_HEAD),
        )
    ]
    if by_token is None or merged is None or not _is_scaled_by_size(scale, sides[0]):
        return None
    matched = [side for side in sides if side is not None]
    heads = {side.heads for side in matched}
    if len(matched) < len(sides) or len(heads) != 1:
        return None
    nodes = [node for side in matched for node in side.nodes]
    nodes += [scores, scale, mask_add, softmax, mixed, by_token, merged]
    return _Attention(
        tuple(side.projection for side in matched), merged.outputs[0], heads.pop(), tuple(dict.fromkeys(nodes))
    )


@dataclass(frozen=True)
class _Side:
    """What is done to one projection: cut into heads, heads moved to the front."""

    projection: ir.Value
    heads: int
    size: int
    nodes: tuple[ir.Node, ir.Node]


def _match_side(value: ir.Value | None, permutation: tuple[int, ...]) -> _Side | None:
    transpose = producer_of(value, "Transpose")
    split = None if transpose is None else producer_of(transpose.inputs[0], "Reshape")
    shape = None if split is None else constant_array(split.inputs[1])
    if transpose is None or split is None or shape is None or shape.size != len(permutation):
        return None
    if tuple(transpose.attributes.get_ints("perm", ())) != permutation or split.inputs[0] is None:
        return None
    return _Side(split.inputs[0], int(shape[2]), int(shape[3]), (split, transpose))


def _is_scaled_by_size(scale: ir.Node, side: _Side | None) -> bool:
    """Return whether scores are divided by the square root of a head's size, as the operator does by default."""
    divisor = constant_array(scale.inputs[1])
    return side is not None and divisor is not None and math.isclose(divisor.item(), math.sqrt(side.size), rel_tol=1e-5)


def _producers(node: ir.Node, op_type: str) -> Iterator[ir.Node]:
    for value in node.inputs:
        producer = producer_of(value, op_type)
        if producer is not None:
            yield producer


def _add_condition(graph: ir.Graph, mask: ir.Value) -> ir.Value:
    """Add ``min(attention_mask) == 1``."""
    one = add_initializer(graph, f"{_IS_UNPADDED}/one", np.array(1, dtype=np.int64))
    least = ir.node("ReduceMin", [mask], attributes={"keepdims": 0}, name=f"{_IS_UNPADDED}/least")
    equal = ir.node("Equal", [least.outputs[0], one], name=_IS_UNPADDED)
    for node in (least, equal):
        node.outputs[0].name = f"{node.name}_output"
    graph.insert_before(graph[0], [least, equal])
    return equal.outputs[0]


def _branch(graph: ir.Graph, is_unpadded: ir.Value, attention: _Attention) -> None:
    """Put the attention into one branch of an If, and the operator into the other."""
    last = attention.nodes[-1]
    flash = ir.node(
        "MultiHeadAttention",
        attention.projections,
        domain=_CONTRIB_DOMAIN,
        attributes={"num_heads": attention.heads},
        name=f"{last.name}/flash",
    )
    branches = {
        "then_branch": _make_branch([flash], f"{last.name}/unpadded"),
        "else_branch": _make_branch(_copy(attention.nodes, f"{last.name}/padded"), f"{last.name}/padded"),
    }
    node = ir.node("If", [is_unpadded], attributes=branches, name=f"{last.name}/If")
    _name_output(node)
    graph.insert_after(last, node)
    attention.context.replace_all_uses_with(node.outputs[0])


def _copy(nodes: Sequence[ir.Node], scope: str) -> list[ir.Node]:
    """Return copies of nodes that read each other's copies; the originals go unused, where nothing else reads them."""
    copied: dict[ir.Value | None, ir.Value | None] = {}
    copies = []
    for node in nodes:
        copy = ir.node(
            node.op_type,
            [copied.get(value, value) for value in node.inputs],
            attributes=node.attributes,
            name=f"{scope}/{node.name}",
        )
        _name_output(copy)
        copied[node.outputs[0]] = copy.outputs[0]
        copies.append(copy)
    return copies


def _make_branch(nodes: Sequence[ir.Node], name: str) -> ir.Graph:
    _name_output(nodes[-1])
    return ir.Graph([], [nodes[-1].outputs[0]], nodes=nodes, name=name)


def _name_output(node: ir.Node) -> None:
    node.outputs[0].name, node.outputs[0].type = f"{node.name}_output", ir.TensorType(ir.DataType.FLOAT)
