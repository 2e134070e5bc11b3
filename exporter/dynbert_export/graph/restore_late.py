"""Restore late: give dropped tokens their place back after the head, not before it.

A head that scores each token by itself (``MatMul`` with a few columns, bias) gives the same scores whether states are
put back first or scores are. States are hundreds of numbers wide, scores of question answering two: putting states back
is what costs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from dynbert_export.graph.editing import clean, constant_array, only_consumer, producer_of, replace_value

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["restore_late"]


def restore_late(model: ir.Model) -> ir.Model:
    """Move the head in front of every ScatterElements that puts states back.

    Args:
        model: The traced fp32 graph.

    Returns:
        An equal graph. A head that reads states otherwise, or gives more numbers than it reads, stays where it is.
    """
    moved = model.clone()
    graph = moved.graph
    last = next((node for node in reversed(list(graph)) if node.op_type == "ScatterElements"), None)
    product = None if last is None else only_consumer(last.outputs[0], "MatMul")
    weight = None if product is None else constant_array(product.inputs[1])
    if last is None or product is None or weight is None or weight.shape[1] >= weight.shape[0]:
        return moved
    head = [product]
    bias_add = only_consumer(product.outputs[0], "Add")
    if bias_add is not None and any(constant_array(value) is not None for value in bias_add.inputs):
        head.append(bias_add)
    replace_value(head[-1].outputs[0], _restore(graph, last, head))
    clean(moved)
    return moved


def _restore(graph: ir.Graph, scatter: ir.Node, head: list[ir.Node]) -> ir.Value:
    """Return what the head gives on the output of ``scatter``: a scatter of what it gives on its inputs."""
    data, indices, updates = scatter.inputs
    name = (scatter.name or "restored").rsplit("/", 1)[-1]  # the head's scope, not the encoder's
    before = producer_of(data, "ScatterElements")
    scores = _apply(graph, head, data, f"{name}/data") if before is None else _restore(graph, before, head)
    new_scores = _apply(graph, head, updates, f"{name}/updates")
    expand = producer_of(indices, "Expand")
    positions = indices if expand is None else expand.inputs[0]  # [batch, kept tokens, 1]
    shape = _add(graph, "Shape", [new_scores], f"{head[0].name}/{name}/shape")
    places = _add(graph, "Expand", [positions, shape], f"{head[0].name}/{name}/places")
    return _add(graph, "ScatterElements", [scores, places, new_scores], f"{head[0].name}/{name}", axis=1)


def _apply(graph: ir.Graph, head: list[ir.Node], states: ir.Value | None, name: str) -> ir.Value | None:
    """Return what a copy of the head gives on ``states``."""
    value, replaced = states, head[0].inputs[0]
    for node in head:
        inputs = [value if item is replaced else item for item in node.inputs]
        value, replaced = _add(graph, node.op_type, inputs, f"{node.name}/{name}"), node.outputs[0]
    return value


def _add(graph: ir.Graph, op_type: str, inputs: Sequence[ir.Value | None], name: str, **attributes: int) -> ir.Value:
    node = ir.node(op_type, inputs, attributes=attributes, name=name)
    node.outputs[0].name = f"{name}_output"
    graph.append(node)
    return node.outputs[0]
