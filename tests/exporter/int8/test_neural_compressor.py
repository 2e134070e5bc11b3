"""Neural Compressor behind our protocol: what it may touch, what it must leave alone, how it fails."""

from __future__ import annotations

import logging
import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dynbert.manifest import Task
from dynbert_export.errors import ExportError
from dynbert_export.graph.editing import constant_array, trace_back
from dynbert_export.int8.neural_compressor import SMOOTHING_TOKENS, NeuralCompressor, _within_tokens, quantizable_nodes
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    make_feed,
    run_graph_in_memory,
    serialize,
    with_lengths,
)

_PARTS = ("query", "key", "value", "attention/output/dense", "intermediate/dense", "output/dense")


def _small_feeds(traced, count=2):
    return [with_lengths(make_feed(1, 16, seed=seed), None, traced.spec) for seed in range(count)]


def _run_step(step, traced):
    engine, feeds = NeuralCompressor(), _small_feeds(traced)
    steps = {
        "smooth": lambda: engine.smooth(traced.graph, feeds, alpha=0.7),
        "static": lambda: engine.quantize_static(traced.graph, feeds, reduce_range=False),
        "dynamic": lambda: engine.quantize_dynamic(traced.graph, reduce_range=False),
    }
    return steps[step]()


def test_quantizable_nodes_are_six_a_layer_and_never_a_head(traced):
    names = quantizable_nodes(traced.graph)
    assert len(names) == len(set(names)) == 6 * traced.spec.num_layers
    for layer in range(traced.spec.num_layers):
        own = [name for name in names if f"/encoder/layer.{layer}/" in name]
        assert len(own) == len(_PARTS)
        assert all(any(part in name for name in own) for part in _PARTS)
    assert not any(head in name for name in names for head in ("classifier", "qa_outputs", "pooler"))


def test_smoothing_is_exact_in_fp32(quantized, traced_embedder):
    assert count_operators(quantized.smoothed)["Mul"] > count_operators(traced_embedder.graph)["Mul"]
    feeds = [with_lengths(make_feed(4, tokens), None, traced_embedder.spec) for tokens in (1, 2, 20, 64)]
    runs = [run_graph_in_memory(model, *feeds) for model in (traced_embedder.graph, quantized.smoothed)]
    for before, after in zip(*runs, strict=True):
        assert_informative(before["last_hidden_state"])
        np.testing.assert_allclose(after["last_hidden_state"], before["last_hidden_state"], rtol=0, atol=1e-5)


def test_smoothing_really_scales(quantized):
    scales = [
        array
        for node in quantized.smoothed.graph
        if node.op_type == "Mul" and "smooth" in (node.name or "")
        for array in [constant_array(node.inputs[1])]
    ]
    assert scales
    assert all(np.ptp(scale) > 0.1 and (scale > 0).all() for scale in scales)


def test_static_graph_is_qdq_of_the_encoder_only(quantized, traced_embedder):
    products = 6 * traced_embedder.spec.num_layers
    counts = count_operators(quantized.qdq)
    assert counts["MatMul"] == count_operators(traced_embedder.graph)["MatMul"]
    assert counts["QuantizeLinear"] == 4 * traced_embedder.spec.num_layers  # query, key and value read one activation
    assert counts["DequantizeLinear"] == products + counts["QuantizeLinear"]


@pytest.mark.parametrize("is_smoothed", [True, False])
def test_products_alone_read_what_is_quantised(quantized, traced_embedder, is_smoothed):
    """Unsmoothed, a layer's products read what its residual connection reads too; that one wants floats."""
    source = quantized.folded if is_smoothed else traced_embedder.graph
    model = NeuralCompressor().quantize_static(source, _small_feeds(traced_embedder), reduce_range=True)
    values = [node.outputs[0] for node in model.graph if node.op_type == "DequantizeLinear"]
    readers = [use.node.op_type for value in values for use in value.uses()]
    assert readers == ["MatMul"] * (2 * 6 * traced_embedder.spec.num_layers)
    counts = count_operators(model)
    assert counts["QuantizeLinear"] == 4 * traced_embedder.spec.num_layers


def test_dynamic_graph_has_integer_products_of_the_encoder_only(quantized, traced_embedder):
    counts = count_operators(quantized.dynamic)
    assert counts["MatMulInteger"] == 6 * traced_embedder.spec.num_layers
    assert counts["MatMul"] == 3 * traced_embedder.spec.num_layers  # attention's own, and the votes on its tokens


@pytest.mark.parametrize("task", [Task.QUESTION_ANSWERING, Task.TEXT_CLASSIFICATION])
def test_heads_stay_in_float(traced_models, task):
    traced = traced_models[task]
    model = _run_step("static", traced)
    heads = [node for node in model.graph if node.op_type in {"MatMul", "Gemm"} and "/encoder/" not in node.name]
    assert heads
    for node in heads:
        weight = constant_array(trace_back(node.inputs[1], "Transpose"))
        assert weight.dtype == np.float32


@pytest.mark.parametrize(("reduce_range", "largest"), [(False, 127), (True, 64)])
@pytest.mark.parametrize("approach", ["static", "dynamic"])
def test_weights_use_the_range_that_the_target_bears(traced_embedder, approach, reduce_range, largest):
    engine = NeuralCompressor()
    if approach == "static":
        model = engine.quantize_static(traced_embedder.graph, _small_feeds(traced_embedder), reduce_range=reduce_range)
    else:
        model = engine.quantize_dynamic(traced_embedder.graph, reduce_range=reduce_range)
    weights = [
        value.const_value.numpy()
        for value in model.graph.initializers.values()
        if value.dtype == ir.DataType.INT8 and len(value.shape) == 2
    ]
    assert len(weights) == 6 * traced_embedder.spec.num_layers
    assert {int(np.abs(weight.astype(int)).max()) for weight in weights} == {largest}


@pytest.mark.parametrize("step", ["smooth", "static", "dynamic"])
def test_steps_leave_no_trace(traced_embedder, step, tmp_path, monkeypatch, capfd, recwarn):
    monkeypatch.chdir(tmp_path)
    before = serialize(traced_embedder.graph)
    level = logging.getLogger("neural_compressor").level
    _run_step(step, traced_embedder)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
    assert not hasattr(onnx, "mapping")
    assert "onnx.mapping" not in sys.modules
    assert logging.getLogger("neural_compressor").level == level
    assert serialize(traced_embedder.graph) == before


@pytest.mark.parametrize("step", ["smooth", "static", "dynamic"])
def test_steps_give_the_same_graph_twice(traced_embedder, step):
    first, second = (serialize(_run_step(step, traced_embedder)) for _ in range(2))
    assert first == second


def test_steps_use_the_standard_operators_only(quantized):
    for model in (quantized.smoothed, quantized.qdq, quantized.dynamic):
        assert set(model.opset_imports) <= {"", "com.microsoft"}
        assert count_operators(model)["Identity"] == 0


@pytest.mark.parametrize("step", ["static", "dynamic"])
def test_step_fails_when_every_configuration_is_rejected(traced_embedder, step, monkeypatch):
    from neural_compressor import quantization

    monkeypatch.setattr(quantization, "fit", lambda *_, **__: None)
    with pytest.raises(ExportError, match="must return a quantised model, got none") as caught:
        _run_step(step, traced_embedder)
    assert caught.value.__cause__ is None
    assert not hasattr(onnx, "mapping")


@pytest.mark.parametrize("step", ["static", "dynamic"])
def test_step_chains_the_cause_when_neural_compressor_fails(traced_embedder, step, monkeypatch, tmp_path):
    from neural_compressor import quantization

    def fail(*_, **__):
        raise KeyError("scale")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(quantization, "fit", fail)
    with pytest.raises(ExportError, match=r"Neural Compressor 3\.\S+ must quantise this graph, got KeyError") as caught:
        _run_step(step, traced_embedder)
    assert isinstance(caught.value.__cause__, KeyError)
    assert not hasattr(onnx, "mapping")
    assert list(tmp_path.iterdir()) == []


def test_smoothing_chains_the_cause_when_neural_compressor_fails(traced_embedder):
    feed = make_feed(1, 16)  # no length config: the graph cannot run
    with pytest.raises(ExportError, match="must quantise this graph") as caught:
        NeuralCompressor().smooth(traced_embedder.graph, [feed], alpha=0.7)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize(
    ("tokens", "budget", "expected"), [([100] * 5, 250, 2), ([100] * 5, 500, 5), ([600, 10], 500, 1), ([1], 0, 1)]
)
def test_smoothing_sees_a_bounded_number_of_tokens(tokens, budget, expected):
    feeds = [{"input_ids": np.zeros((1, count), np.int64)} for count in tokens]
    assert _within_tokens(feeds, budget) == feeds[:expected]
    assert SMOOTHING_TOKENS >= 512
