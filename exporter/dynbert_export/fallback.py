"""When INT8 answers differ too much: find the products to blame, and put them back to fp32.

A product is blamed by what it does alone: all products in fp32 but this one, and the error of the answers to some
calibration inputs. To first order these errors add up to that of the INT8 graph, so the worst ones are what is gained
by putting them back. (all-MiniLM-L6-v2 smoothed too little, mean cosine 0.986: one product back by this order gives
0.9940, by the error of each product's own output 0.9883.) One graph with every product in both precisions, and an
input that switches, answers for all of them. The held-out texts then decide how many: 1, 2, 4, ... until the gate
holds, and a bisection between the last two, each step with the graphs that would be published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from dynbert.manifest import Precision, Target
from dynbert_export.evaluate import check_answers, judge
from dynbert_export.graph.editing import add_initializer, clean, producer_of, replace_value
from dynbert_export.int8 import full_length_feeds, measure_error
from dynbert_export.lower import INT8_OPERATOR, INT8_SUFFIX
from dynbert_export.quantize import quantizable_nodes
from dynbert_export.saturation import check_no_saturation
from dynbert_export.trial import opened
from dynbert_export.variants import write_graphs
from dynbert_export.verify import check_int8_kernels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from dynbert_export.evaluate import Answers, References
    from dynbert_export.int8 import Quantized
    from dynbert_export.job import Job
    from dynbert_export.variants import GraphSet

__all__ = [
    "Int8Graphs",
    "check_products",
    "find_fewest",
    "module_name",
    "put_back",
    "rank_products",
    "recover",
    "write_int8",
]

_SWITCH = "dynbert_int8_products"
_BLAMED_INPUTS = 4
"""Calibration inputs that a product is blamed by: 512 tokens."""


@dataclass(frozen=True)
class Int8Graphs:
    """The INT8 graphs of a bundle, as written, and what the gate says of them."""

    files: Mapping[str, Path]
    """Variant's name -> graph."""
    answers: Answers
    fp32_products: tuple[str, ...] = ()
    """Names of the products that stay fp32, in the graph's order."""


def write_int8(job: Job, graph_set: GraphSet, quantized: Quantized, products: Sequence[str] = ()) -> Mapping[str, Path]:
    """Specialise the INT8 graph for every variant.

    Args:
        job: The export.
        graph_set: The graphs to write.
        quantized: The anytime graph in INT8.
        products: Names of the products to put back to fp32.

    Returns:
        Variant's name -> file.
    """
    graph = put_back(quantized, products) if products else quantized.graph
    return write_graphs(graph, job.variants, job.folder(Precision.INT8), graph_set, job.spec)


def check_products(
    files: Mapping[str, Path], graph_set: GraphSet, quantized: Quantized, products: Sequence[str] = ()
) -> None:
    """See that onnxruntime runs every product as INT8 but these, and that none can saturate on its target.

    Args:
        files: Variant's name -> graph.
        graph_set: What they are: decides the target.
        quantized: What they were made of.
        products: Names of the products that were put back to fp32.

    Raises:
        GateError: If a graph has more or fewer.
    """
    expected = len(quantizable_nodes(quantized.source)) + len(quantized.scores) - len(products)
    target = graph_set.target or Target.VNNI
    for path in files.values():
        check_int8_kernels(path, expected=expected, target=target)
        check_no_saturation(path, target=target)


def recover(
    job: Job, graph_set: GraphSet, quantized: Quantized, missed: Int8Graphs, references: References
) -> Int8Graphs:
    """Put the fewest products back to fp32 with which the INT8 gate holds, the worst first.

    Args:
        job: The export.
        graph_set: The graphs to write.
        quantized: The anytime graph in INT8.
        missed: The graphs that missed the gate; their files are written over.
        references: What the fp32 graphs answer to the held-out texts.

    Returns:
        Graphs that hold the gate.

    Raises:
        GateError: If they miss it even with as many products in fp32 as ``max_fp32_share`` allows, or if onnxruntime
            would not run the others as INT8.
    """
    total = len(quantizable_nodes(quantized.source))
    most = int(total * job.config.gates.max_fp32_share)
    ranked = rank_products(job, quantized) if most else ()
    order = {name: index for index, name in enumerate(quantizable_nodes(quantized.source))}
    last = missed

    def holds(count: int) -> bool:
        nonlocal last
        products = tuple(sorted(ranked[:count], key=order.__getitem__))
        files = write_int8(job, graph_set, quantized, products)
        last = Int8Graphs(files, judge(job, files, Precision.INT8, references), products)
        return not last.answers.misses

    count = find_fewest(holds, most=most)
    if count is not None and count != len(last.fp32_products):
        holds(count)  # the search ended with a set that was too small: write the right one again
    worst = ", ".join(module_name(name) for name in ranked[:3])
    tried = f" even with {most} of {total} products in fp32, {worst} first" if most else ""
    check_answers(job, last.answers, remark=f"{tried} (max_fp32_share {job.config.gates.max_fp32_share:g})")
    check_products(last.files, graph_set, quantized, last.fp32_products)
    return last


def find_fewest(holds: Callable[[int], bool], *, most: int) -> int | None:
    """Return the fewest of something with which a test holds, by doubling and then by bisection.

    Args:
        holds: Whether the test holds with so many, at least 1; taken to hold with more where it holds with fewer.
        most: Never asked for more.

    Returns:
        The number, for which the test has held; None where it does not hold with ``most``.
    """
    fails, count = 0, min(1, most)
    while count == 0 or not holds(count):
        if count == most:
            return None
        fails, count = count, min(2 * count, most)
    while count - fails > 1:
        middle = (count + fails) // 2
        if holds(middle):
            count = middle
        else:
            fails = middle
    return count


def rank_products(job: Job, quantized: Quantized) -> tuple[str, ...]:
    """Return the products' names, the one that does most harm first.

    Args:
        job: The export.
        quantized: The anytime graph in INT8.

    Returns:
        The names; by their own error, see the head of this module.
    """
    names = quantizable_nodes(quantized.source)
    alone = np.eye(len(names), dtype=bool)
    feeds = full_length_feeds(job)[:_BLAMED_INPUTS]
    with opened(_switchable(quantized, names), threads=job.config.threads) as run:
        references = [run({**feed, _SWITCH: np.zeros(len(names), dtype=bool)}) for feed in feeds]
        errors = {
            name: measure_error(job, run, references, [{**feed, _SWITCH: alone[index]} for feed in feeds])
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
    for node, activation, weight in _int8_products(graph, quantized.source, products):
        replace_value(node.outputs[0], _multiply_in_fp32(graph.graph, node, activation, weight))
    clean(graph)
    return graph


def _switchable(quantized: Quantized, products: Sequence[str]) -> ir.Model:
    """Return a graph with these products in both precisions; one more input, a bool each, chooses INT8."""
    graph = quantized.graph.clone()
    shape, kind = ir.Shape([len(products)]), ir.TensorType(ir.DataType.BOOL)
    switch = ir.Value(name=_SWITCH, shape=shape, type=kind)
    graph.graph.inputs.append(switch)
    for node, activation, weight in _int8_products(graph, quantized.source, products):
        in_fp32 = _multiply_in_fp32(graph.graph, node, activation, weight)
        index = products.index((node.name or "").removesuffix(INT8_SUFFIX))
        number = add_initializer(graph.graph, f"{node.name}/number", np.array(index, dtype=np.int64))
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
) -> Iterator[tuple[ir.Node, ir.Value, ir.TensorProtocol]]:
    """Yield those of the products that a graph has as INT8, each with its float activation and weight."""
    names = set(products)
    weights = {node.name: node.inputs[1] for node in source.graph if node.name in names}
    for node in tuple(graph.graph):
        weight = weights.get((node.name or "").removesuffix(INT8_SUFFIX)) if node.op_type == INT8_OPERATOR else None
        quantizer = producer_of(node.inputs[0], "QuantizeLinear", "DynamicQuantizeLinear") if weight else None
        activation = quantizer.inputs[0] if quantizer is not None else None
        if weight is not None and weight.const_value is not None and activation is not None:
            yield node, activation, weight.const_value


def _multiply_in_fp32(graph: ir.Graph, product: ir.Node, activation: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
    """Put MatMul, and Add where there is a bias, beside an INT8 operator; return their result."""
    name = (product.name or "").removesuffix(INT8_SUFFIX)
    result = product.outputs[0]
    weight = add_initializer(graph, f"{name}/weight", tensor.numpy())
    nodes = [ir.node("MatMul", [activation, weight], name=name)]
    bias = product.inputs[6] if len(product.inputs) > 6 else None
    if bias is not None:
        nodes.append(ir.node("Add", [nodes[0].outputs[0], bias], name=f"{name}/bias"))
    for node in nodes:
        value = node.outputs[0]
        value.name, value.shape, value.type = f"{node.name}_fp32", result.shape, result.type
    graph.insert_before(product, nodes)
    return nodes[-1].outputs[0]


def module_name(product: str) -> str:
    """Return the name of the PyTorch module that a product is, such as ``encoder.layer.0.intermediate.dense``.

    Args:
        product: Name of its node in the traced graph.

    Returns:
        The name, as ``get_submodule`` of the model takes it.
    """
    return product.removeprefix("/model/").removesuffix("/MatMul").strip("/").replace("/", ".")
