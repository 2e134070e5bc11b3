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

from dynbert_export.graph.attention import match_dense, match_mixture
from dynbert_export.graph.editing import LAYOUT, Builder, clean, constant_array, producer_of

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["fold_smoothing"]


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
    mixture = match_mixture(_trace_back_alone(context))
    value = None if mixture is None else match_dense(_trace_back_alone(mixture.product.inputs[1]))
    if value is None or not _is_read_once(value.product.outputs[0]) or scale.size != value.weight.shape[1]:
        return
    columns, build = scale.reshape(-1), Builder(graph, mul.name or "mul")
    folded_weight = build.constant("folded_weight", np.multiply(value.weight, columns))
    folded_bias = build.constant("folded_bias", np.multiply(value.bias, columns))
    value.product.replace_input_with(1, folded_weight)
    value.bias_add.replace_input_with(value.bias_index, folded_bias)
    mul.outputs[0].replace_all_uses_with(context)
    graph.remove(mul, safe=True)


def _trace_back_alone(value: ir.Value | None) -> ir.Value | None:
    """Return where a value comes from, looking through its layout; None where another node reads a value on the way."""
    while value is not None and _is_read_once(value):
        node = producer_of(value, *LAYOUT, "GatherElements")
        if node is None:
            return value
        value = node.inputs[0]
    return None


def _is_read_once(value: ir.Value) -> bool:
    """Return whether one node reads the numbers of a value; Shape, which the traced layouts need, reads none."""
    readers = [use.node for use in value.uses() if use.node.op_type != "Shape"]
    return len(readers) == 1 and not value.is_graph_output()
