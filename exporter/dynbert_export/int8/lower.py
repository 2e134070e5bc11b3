"""From what Neural Compressor writes to the operator that onnxruntime runs as INT8: ``MatMulIntegerToFloat``.

Left as QDQ, ``MatMul`` with a float bias and no quantised output becomes an fp32 Gemm over dequantised weights, three
times slower than never having quantised. ``graph/int8_operator.py`` has the operator that says what is meant.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dynbert_export.errors import ExportError
from dynbert_export.graph.editing import clean, constant_array, only_consumer, producer_of, replace_value
from dynbert_export.graph.int8_operator import INT8_OPERATOR, Int8Product
from dynbert_export.graph.names import MICROSOFT_DOMAIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

__all__ = ["lower"]


def lower(model: ir.Model) -> ir.Model:
    """Write every quantised product as ``MatMulIntegerToFloat``.

    Args:
        model: A static graph in QDQ form, or a dynamic one with ``MatMulInteger``.

    Returns:
        The lowered graph: equal but for the rounding that fp32 arithmetic on dequantised values does.

    Raises:
        ExportError: If a quantised product is left that does not have the expected form.
    """
    lowered = model.clone()
    lowered.opset_imports[MICROSOFT_DOMAIN] = 1
    for node in tuple(lowered.graph):
        found = _match_static(node) or _match_dynamic(node)
        if found is not None:
            _replace(lowered.graph, node, *found)
    clean(lowered)
    leftover = [n.name or n.op_type for n in lowered.graph if n.op_type in {"DequantizeLinear", "MatMulInteger"}]
    if leftover:
        raise ExportError(
            f"Every quantised product must lower to {INT8_OPERATOR}, got {len(leftover)} others, first {leftover[0]}. "
            "This is a fault of dynbert for this graph: use --quantize none and report it."
        )
    return lowered


def _match_static(node: ir.Node) -> tuple[Int8Product, ir.Value] | None:
    """Return the product and its float result of DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(W) -> MatMul."""
    if node.op_type != "MatMul":
        return None
    activation = producer_of(node.inputs[0], "DequantizeLinear")
    weight = producer_of(node.inputs[1], "DequantizeLinear")
    product = None if activation is None or weight is None else _product(node, activation.inputs, weight.inputs)
    return None if product is None else (product, node.outputs[0])


def _match_dynamic(node: ir.Node) -> tuple[Int8Product, ir.Value] | None:
    """Return those of DynamicQuantizeLinear(x), W -> MatMulInteger -> Cast -> Mul by both scales."""
    if node.op_type != "MatMulInteger":
        return None
    quantizer = producer_of(node.inputs[0], "DynamicQuantizeLinear")
    cast = only_consumer(node.outputs[0], "Cast")
    rescale = only_consumer(cast.outputs[0], "Mul") if cast else None
    scales = next((m for v in rescale.inputs if (m := producer_of(v, "Mul"))), None) if rescale else None
    if quantizer is None or rescale is None or scales is None or scales.inputs[0] is not quantizer.outputs[1]:
        return None
    product = _product(node, quantizer.outputs, (node.inputs[1], scales.inputs[1], node.inputs[3]))
    return None if product is None else (product, rescale.outputs[0])


def _product(
    node: ir.Node, activation: Sequence[ir.Value | None], weight: Sequence[ir.Value | None]
) -> Int8Product | None:
    """Return the product of quantised values, each with its scale and zero point; None where one is absent."""
    quantized, scale, zero_point = activation
    quantized_weight, weight_scale, weight_zero_point = weight
    if quantized is None or scale is None or quantized_weight is None or weight_scale is None:
        return None
    zero_points = constant_array(weight_zero_point)
    is_symmetric = zero_points is None or not np.any(zero_points)
    return Int8Product(
        name=(node.name or "product").removesuffix("_quant"),
        activation=quantized,
        weight=quantized_weight,
        activation_scale=scale,
        weight_scale=weight_scale,
        activation_zero_point=zero_point,
        weight_zero_point=None if is_symmetric else weight_zero_point,
    )


def _replace(graph: ir.Graph, node: ir.Node, product: Int8Product, result: ir.Value) -> None:
    """Put the INT8 operator, with the bias that follows, where a quantised product's float result was made."""
    bias_add = only_consumer(result, "Add")
    summands = () if bias_add is None else bias_add.inputs
    bias = next((value for value in summands if (a := constant_array(value)) is not None and a.ndim == 1), None)
    if bias_add is not None and bias is not None:
        result = bias_add.outputs[0]
    lowered = replace(product, bias=bias).build()
    lowered.outputs[0].shape, lowered.outputs[0].type = result.shape, result.type
    graph.insert_after(node, lowered)
    replace_value(result, lowered.outputs[0])
