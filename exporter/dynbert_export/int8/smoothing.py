"""Fold a smoothing Mul into the weights that made its input.

SmoothQuant leaves ``Mul(x, 1/scale)`` before each smoothed product. Before an attention's output projection, ``x`` is
``softmax(...) @ V``: every channel of it is a weighted mean of the same channel of V, and V's channels come from the
columns of the value projection, so scaling those columns (and their bias) is the same, exactly.

The Muls behind a LayerNormalization stay: its output also feeds the residual connection, which must not be scaled, and
a second Mul there to undo it would cost what the first one does. The one behind the activation function stays too,
because the function is not linear.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynbert_export.graph.editing import (
    add_initializer,
    clean,
    constant_array,
    producer_of,
)

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["fold_smoothing"]

_LAYOUT = ("Reshape", "Transpose", "GatherElements")


def fold_smoothing(model: ir.Model) -> ir.Model:
    """Fold every Mul that stands between an attention's context and its output projection.

    Args:
        model: A smoothed fp32 graph.

    Returns:
        An equal graph with one Mul fewer a layer.
    """
    folded = model.clone()
    for node in tuple(folded.graph):
        if node.op_type == "Mul":
            _fold_into_value_projection(folded.graph, node)
    clean(folded)
    return folded


def _fold_into_value_projection(graph: ir.Graph, mul: ir.Node) -> None:
    """Scale the value projection's columns and take the Mul away, where it is such a Mul."""
    scale = constant_array(mul.inputs[1])
    context = mul.inputs[0]
    if scale is None or context is None:
        return
    product = producer_of(_trace_back_alone(context), "MatMul")
    if product is None or producer_of(product.inputs[0], "Softmax") is None:
        return
    bias_add = producer_of(_trace_back_alone(product.inputs[1]), "Add")
    if bias_add is None:
        return
    projection = next((node for value in bias_add.inputs if (node := producer_of(value, "MatMul"))), None)
    bias_index = next((i for i, value in enumerate(bias_add.inputs) if constant_array(value) is not None), None)
    if projection is None or bias_index is None or not _is_read_once(projection.outputs[0]):
        return
    weight, bias = constant_array(projection.inputs[1]), constant_array(bias_add.inputs[bias_index])
    if weight is None or bias is None or scale.size != weight.shape[1]:
        return
    columns = scale.reshape(-1)
    name = mul.name or "mul"
    projection.replace_input_with(1, add_initializer(graph, f"{name}/folded_weight", np.multiply(weight, columns)))
    bias_add.replace_input_with(bias_index, add_initializer(graph, f"{name}/folded_bias", np.multiply(bias, columns)))
    mul.outputs[0].replace_all_uses_with(context)
    graph.remove(mul, safe=True)


def _trace_back_alone(value: ir.Value | None) -> ir.Value | None:
    """Return where a value comes from, looking through its layout; None where another node reads a value on the way."""
    while value is not None and _is_read_once(value):
        node = producer_of(value, *_LAYOUT)
        if node is None:
            return value
        value = node.inputs[0]
    return None


def _is_read_once(value: ir.Value) -> bool:
    """Return whether one node reads the numbers of a value; Shape, which the traced layouts need, reads none."""
    readers = [use.node for use in value.uses() if use.node.op_type != "Shape"]
    return len(readers) == 1 and not value.is_graph_output()
