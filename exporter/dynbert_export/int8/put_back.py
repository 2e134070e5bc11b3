"""Products of an INT8 graph, put back to fp32, and which of them do most harm in INT8.

A product is blamed by what it does alone: all products in fp32 but this one, and the error of the answers to some
calibration inputs. To first order these errors add up to that of the INT8 graph, so the worst ones are what is gained
by putting them back. (Tried by hand on all-MiniLM-L6-v2 smoothed too little, mean cosine 0.986: one product
back by this order gives 0.9940, by the error of each product's own output 0.9883.) One graph with every product in both
precisions, and an input that switches, answers for all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from dynbert_export.evaluation.trial import opened
from dynbert_export.graph.editing import Builder, add_initializer, clean, replace_value
from dynbert_export.graph.int8_operator import Int8Product, int8_products
from dynbert_export.int8.neural_compressor import quantizable_nodes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dynbert_export.int8.calibration import Calibration
    from dynbert_export.int8.choose import Quantized

__all__ = ["module_name", "put_back", "rank_products"]

_SWITCH = "dynbert_int8_products"
_BLAMED_INPUTS = 4
"""Calibration inputs that a product is blamed by: 512 tokens."""


def rank_products(quantized: Quantized, calibration: Calibration) -> tuple[str, ...]:
    """Return the products' names, the one that does most harm first.

    Args:
        quantized: The anytime graph in INT8.
        calibration: What products are blamed by.

    Returns:
        The names; by their own error, see the head of this module.
    """
    names = quantizable_nodes(quantized.source)
    alone = np.eye(len(names), dtype=bool)
    feeds, measure = calibration.feeds[:_BLAMED_INPUTS], calibration.measure
    with opened(_switchable(quantized, names), threads=calibration.threads) as run:
        references = [run({**feed, _SWITCH: np.zeros(len(names), dtype=bool)}) for feed in feeds]
        errors = {
            name: measure.error(references, (run({**feed, _SWITCH: alone[index]}) for feed in feeds), feeds)
            for index, name in enumerate(names)
        }
    return tuple(sorted(names, key=lambda name: -errors[name]))


def put_back(quantized: Quantized, products: Sequence[str]) -> ir.Model:
    """Return the INT8 graph with some products in fp32.

    Args:
        quantized: The anytime graph in INT8, and the fp32 graph it was made of.
        products: Names of the products.

    Returns:
        The graph; where no other product reads a quantised activation, it is not quantised any more.
    """
    graph = quantized.graph.clone()
    for node, product, weight in _int8_products(graph, quantized.source, products):
        replace_value(node.outputs[0], _multiply_in_fp32(graph.graph, node, product, weight))
    clean(graph)
    return graph


def _switchable(quantized: Quantized, products: Sequence[str]) -> ir.Model:
    """Return a graph with these products in both precisions; one more input, a bool each, chooses INT8."""
    graph = quantized.graph.clone()
    shape, kind = ir.Shape([len(products)]), ir.TensorType(ir.DataType.BOOL)
    switch = ir.Value(name=_SWITCH, shape=shape, type=kind)
    graph.graph.inputs.append(switch)
    for node, product, weight in _int8_products(graph, quantized.source, products):
        in_fp32 = _multiply_in_fp32(graph.graph, node, product, weight)
        index = np.array(products.index(product.name), dtype=np.int64)
        number = add_initializer(graph.graph, f"{node.name}/number", index)
        is_int8 = ir.node("Gather", [switch, number], name=f"{node.name}/is_int8")
        chosen = ir.node("Where", [is_int8.outputs[0], node.outputs[0], in_fp32], name=f"{node.name}/chosen")
        graph.graph.insert_before(node, is_int8)
        result = node.outputs[0]
        replace_value(result, chosen.outputs[0])
        chosen.replace_input_with(1, result)
        graph.graph.insert_after(node, chosen)
    clean(graph)
    return graph


def _int8_products(
    graph: ir.Model, source: ir.Model, products: Sequence[str]
) -> Iterator[tuple[ir.Node, Int8Product, ir.TensorProtocol]]:
    """Yield those of the products that a graph has as INT8, each with its float weight."""
    names = set(products)
    weights = {node.name: node.inputs[1] for node in source.graph if node.name in names}
    for node, product in int8_products(graph):
        weight = weights.get(product.name)
        if weight is not None and weight.const_value is not None and product.float_activation is not None:
            yield node, product, weight.const_value


def _multiply_in_fp32(graph: ir.Graph, node: ir.Node, product: Int8Product, tensor: ir.TensorProtocol) -> ir.Value:
    """Put MatMul, and Add where there is a bias, beside an INT8 operator; return their result."""
    build = Builder(graph, product.name)
    weight = build.constant("weight", tensor.numpy())
    result = build.add("MatMul", product.float_activation, weight, name=product.name)
    if product.bias is not None:
        result = build.add("Add", result, product.bias)
    for value in (each.outputs[0] for each in build.nodes):
        value.shape, value.type = node.outputs[0].shape, node.outputs[0].type
    graph.insert_before(node, build.nodes)
    return result


def module_name(product: str) -> str:
    """Return the name of the PyTorch module that a product is, such as ``encoder.layer.0.intermediate.dense``.

    Args:
        product: Name of its node in the traced graph.

    Returns:
        The name, as ``get_submodule`` of the model takes it.
    """
    return product.removeprefix("/model/").removesuffix("/MatMul").strip("/").replace("/", ".")
