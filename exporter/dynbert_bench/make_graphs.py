"""Makes dynbert's own graphs, and the matrix products by which the machine's peaks are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from dynbert.cpu import int8_target
from dynbert.manifest import Target
from dynbert_bench.arrays import write_arrays
from dynbert_bench.layout import BUNDLE, GRAPH_FILE, INPUTS_FILE
from dynbert_export.api import export
from dynbert_export.graph.int8_operator import Int8Product
from dynbert_export.graph.names import MICROSOFT_DOMAIN
from dynbert_export.options.vocabularies import TargetOption

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["OPSET", "make_bundle", "make_product"]

_TARGETS = {Target.AVX2: TargetOption.AVX2, Target.ARM64: TargetOption.ARM64, None: TargetOption.AVX2}
OPSET = 17
"""Of every graph that is not exported by dynbert itself: its default too."""


def make_bundle(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:
    """Export a checkpoint as a user would, for this machine's instructions.

    Args:
        folder: Where.
        settings: ``profiles`` (name -> length config as text), ``max_length``, ``calibration``, ``samples`` and
            ``seed`` of the calibration, ``gates`` (None for the exporter's own).
        sources: ``checkpoint``.
    """
    export(
        model=sources["checkpoint"],
        output=folder / BUNDLE,
        profiles=settings["profiles"],
        precision="both",
        target=_TARGETS.get(int8_target(), TargetOption.AUTO).value,
        max_length=settings["max_length"],
        calibration=settings["calibration"],
        calibration_samples=settings["samples"],
        seed=settings["seed"],
        gates=settings["gates"] or {},
    )


def make_product(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:  # noqa: ARG001
    """Write a graph of several equal matrix products, and its inputs.

    Each product has a right side of its own, as in a model; of each result one row leaves the graph, so that copying
    results costs nothing.

    Args:
        folder: Where.
        settings: ``precision`` (``int8``, or ``fp32``), ``batch`` (0 for a product with constant weights), ``rows``,
            ``inner``, ``columns``, ``count``.
        sources: None are needed.
    """
    generator = np.random.default_rng(0)
    rows, inner, columns, batch = (settings[key] for key in ("rows", "inner", "columns", "batch"))
    is_int8 = settings["precision"] == "int8"
    left_shape, right_shape = [rows, inner], [inner, columns]
    if batch:
        left_shape, right_shape = [batch, *left_shape], [batch, *right_shape]
    left_type = TensorProto.UINT8 if is_int8 else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("left", left_type, left_shape)]
    feed: dict[str, Any] = {"left": _draw(generator, left_shape, np.uint8 if is_int8 else np.float32)}
    constants = [numpy_helper.from_array(np.array([0]), "first")]
    if is_int8:
        constants += [
            numpy_helper.from_array(np.array(0.02, np.float32), "left_scale"),
            numpy_helper.from_array(np.array(128, np.uint8), "left_zero_point"),
            numpy_helper.from_array(np.full(columns, 0.01, np.float32), "right_scale"),
        ]
    nodes = []
    for index in range(settings["count"]):
        right = f"right_{index}"
        array = _draw(generator, right_shape, np.int8 if is_int8 else np.float32)
        if batch:
            inputs.append(helper.make_tensor_value_info(right, TensorProto.FLOAT, right_shape))
            feed[right] = array
        else:
            constants.append(numpy_helper.from_array(array, right))
        nodes += _product_nodes(index, right, is_int8=is_int8)
    outputs = [
        helper.make_tensor_value_info(f"row_{index}", TensorProto.FLOAT, None) for index in range(settings["count"])
    ]
    graph = helper.make_graph(nodes, "products", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT_DOMAIN, 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / GRAPH_FILE)
    write_arrays(folder / INPUTS_FILE, [feed])


def _product_nodes(index: int, right: str, *, is_int8: bool) -> list[onnx.NodeProto]:
    result = f"result_{index}"
    if is_int8:
        node = Int8Product(
            name=f"product_{index}",
            activation=ir.Value(name="left"),
            weight=ir.Value(name=right),
            activation_scale=ir.Value(name="left_scale"),
            weight_scale=ir.Value(name="right_scale"),
            activation_zero_point=ir.Value(name="left_zero_point"),
        ).build()
        node.outputs[0].name = result
        product = ir.to_proto(node)
    else:
        product = helper.make_node("MatMul", ["left", right], [result])
    return [product, helper.make_node("Gather", [result, "first"], [f"row_{index}"], axis=0)]


def _draw(generator: np.random.Generator, shape: list[int], dtype: Any) -> Any:
    if dtype is np.float32:
        return generator.normal(size=shape).astype(np.float32)
    return generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype=dtype)
