"""Graphs of one product that measuring processes can load in a second, and recorded results."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dynbert_bench.arrays import write_arrays
from dynbert_bench.layout import GRAPH_FILE
from dynbert_bench.protocol import MeasureSpec


@pytest.fixture
def make_spec(tmp_path):
    """Return a function that writes ``output = scale * input`` and says how to measure it."""

    def make(name, *, scale=2.0, engine="onnxruntime", feeds=((1.0, -2.0), (3.0, 0.5))):
        folder = tmp_path / name
        folder.mkdir()
        value = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["n"])
        result = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n"])
        nodes = [
            helper.make_node("Constant", [], ["scale"], value_float=scale),
            helper.make_node("Mul", ["input", "scale"], ["output"]),
        ]
        graph = helper.make_graph(nodes, "toy", [value], [result])
        opsets = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / GRAPH_FILE)
        write_arrays(folder / "inputs.npz", [{"input": np.array(feed, np.float32)} for feed in feeds])
        return MeasureSpec(
            engine=engine,
            artifact=str(folder),
            options={},
            inputs=str(folder / "inputs.npz"),
            outputs=str(folder / "outputs.npz"),
            warm_up_seconds=0.01,
            core=None,
        )

    return make
