"""From what Neural Compressor writes to the operator that onnxruntime runs as INT8: ``MatMulIntegerToFloat``.

Left as QDQ, ``MatMul`` with a float bias and no quantised output becomes an fp32 Gemm over dequantised weights, three
times slower than never having quantised. ``com.microsoft.MatMulIntegerToFloat`` says in one node what is meant: u8
activations, s8 weights per output channel, integer product, float result with its bias.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from dynbert_export.errors import ExportError
from dynbert_export.graph.editing import clean, constant_array, only_consumer, producer_of, replace_value

__all__ = ["INT8_DOMAIN", "INT8_OPERATOR", "INT8_SUFFIX", "lower"]

INT8_OPERATOR = "MatMulIntegerToFloat"
INT8_DOMAIN = "com.microsoft"
INT8_SUFFIX = "/int8"
"""What the operator's name has beside the product's."""


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
    lowered.opset_imports[INT8_DOMAIN] = 1
    for node in tuple(lowered.graph):
        if node.op_type == "MatMul":
            _lower_static(lowered.graph, node)
        elif node.op_type == "MatMulInteger":
            _lower_dynamic(lowered.graph, node)
    clean(lowered)
    leftover = [n.name or n.op_type for n in lowered.graph if n.op_type in {"DequantizeLinear", "MatMulInteger"}]
    if leftover:
        raise ExportError(
            f"Every quantised product must lower to {INT8_OPERATOR}, got {len(leftover)} others, first {leftover[0]}. "
            "This is a fault of dynbert for this graph: use --quantize none and report it."
        )
    return lowered


def _lower_static(graph: ir.Graph, product: ir.Node) -> None:
    """DequantizeLinear(QuantizeLinear(x)), DequantizeLinear(W) -> MatMul."""
    activation = producer_of(product.inputs[0], "DequantizeLinear")
    weight = producer_of(product.inputs[1], "DequantizeLinear")
    if activation is None or weight is None:
        return
    _replace(graph, product, product.outputs[0], tuple(activation.inputs), tuple(weight.inputs))


def _lower_dynamic(graph: ir.Graph, product: ir.Node) -> None:
    """DynamicQuantizeLinear(x), W -> MatMulInteger -> Cast -> Mul by both scales."""
    quantizer = producer_of(product.inputs[0], "DynamicQuantizeLinear")
    cast = only_consumer(product.outputs[0], "Cast")
    rescale = only_consumer(cast.outputs[0], "Mul") if cast else None
    if quantizer is None or rescale is None or cast is None:
        return
    scales = next((node for value in rescale.inputs if (node := producer_of(value, "Mul"))), None)
    if scales is None or scales.inputs[0] is not quantizer.outputs[1]:
        return
    quantized, scale, zero_point = quantizer.outputs
    weight = (product.inputs[1], scales.inputs[1], product.inputs[3])
    _replace(graph, product, rescale.outputs[0], (quantized, scale, zero_point), weight)


def _replace(
    graph: ir.Graph,
    product: ir.Node,
    result: ir.Value,
    activation: tuple[ir.Value | None, ...],
    weight: tuple[ir.Value | None, ...],
) -> None:
    """Put the INT8 operator, with the bias that follows, where ``result`` was made.

    Args:
        graph: The graph of both.
        product: The quantised product.
        result: Its float result, before the bias.
        activation: Quantised activation, its scale, its zero point.
        weight: Quantised weight, its scales, its zero points.
    """
    bias_add = only_consumer(result, "Add")
    bias = None
    if bias_add is not None:
        bias = next((v for v in bias_add.inputs if (a := constant_array(v)) is not None and a.ndim == 1), None)
    if bias_add is not None and bias is not None:
        result = bias_add.outputs[0]
    zero_points = constant_array(weight[2])
    is_symmetric = zero_points is None or not np.any(zero_points)
    node = ir.node(
        INT8_OPERATOR,
        [activation[0], weight[0], activation[1], weight[1], activation[2], None if is_symmetric else weight[2], bias],
        domain=INT8_DOMAIN,
        name=f"{(product.name or 'product').removesuffix('_quant')}{INT8_SUFFIX}",
    )
    node.outputs[0].name, node.outputs[0].shape, node.outputs[0].type = f"{node.name}_output", result.shape, result.type
    graph.insert_after(product, node)
    replace_value(result, node.outputs[0])
