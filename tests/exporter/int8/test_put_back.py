"""The fallback: the product to blame is named and put back to fp32, no other is, and the search always ends."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert_export.evaluation.agreement import AnswerMeasure
from dynbert_export.graph.int8_operator import INT8_OPERATOR, int8_products
from dynbert_export.int8.calibration import Calibration, full_length_feeds
from dynbert_export.int8.choose import Quantized
from dynbert_export.int8.lower import lower
from dynbert_export.int8.neural_compressor import quantizable_nodes
from dynbert_export.int8.put_back import module_name, put_back, rank_products
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    make_feed,
    run_graph_in_memory,
    serialize,
    with_lengths,
)


@pytest.fixture(scope="module")
def static(quantized):
    return Quantized(lower(quantized.qdq), quantized.folded)


@pytest.fixture(scope="module")
def dynamic(quantized, traced_embedder):
    return Quantized(lower(quantized.dynamic), traced_embedder.graph)


@pytest.fixture(params=["static", "dynamic"])
def either(request):
    return request.getfixturevalue(request.param)


def _calibration(traced):
    measure = AnswerMeasure(Task.FEATURE_EXTRACTION, pooling=Pooling(mode=PoolingMode.MEAN, normalize=True))
    inputs = [make_feed(1, 32, seed=seed) for seed in range(3)]
    return Calibration(
        full_length_feeds(inputs, traced.spec.num_layers, always_keep_cls_token=True), measure, threads=1
    )


def _spoil(quantized, *names):
    """Return the graph with a wrong scale of these products' weights: an outlier that eats the range."""
    graph = quantized.graph.clone()
    for node, product in int8_products(graph):
        if product.name in names:
            scale = product.weight_scale.const_value.numpy()
            spoiled = ir.Tensor(-3 * scale, name=f"{node.name}/spoiled")
            value = ir.Value(name=spoiled.name, const_value=spoiled, shape=ir.Shape(scale.shape))
            value.type = ir.TensorType(ir.DataType.FLOAT)
            graph.graph.register_initializer(value)
            node.replace_input_with(node.inputs.index(product.weight_scale), value)
    return Quantized(graph, quantized.source)


def _feeds(traced):
    return [with_lengths(make_feed(4, tokens), None, traced.spec) for tokens in (1, 7, 32)]


def test_all_products_back_give_the_fp32_graph(either, traced_embedder):
    names = quantizable_nodes(either.source)
    before = serialize(either.graph)
    graph = put_back(either, names)
    assert serialize(either.graph) == before
    counts = count_operators(graph)
    assert counts[INT8_OPERATOR] == counts["QuantizeLinear"] == counts["DynamicQuantizeLinear"] == 0
    assert sorted(quantizable_nodes(graph)) == sorted(names)
    assert not any(value.dtype == ir.DataType.INT8 for value in graph.graph.initializers.values())
    feeds = _feeds(traced_embedder)
    for got, wanted in zip(run_graph_in_memory(graph, *feeds), run_graph_in_memory(either.source, *feeds), strict=True):
        assert_informative(wanted["last_hidden_state"])
        np.testing.assert_allclose(got["last_hidden_state"], wanted["last_hidden_state"], rtol=0, atol=1e-5)


def test_only_the_products_asked_for_are_put_back(either):
    names = quantizable_nodes(either.source)
    key, last = names[1], names[-1]
    graph = put_back(either, [key, last])
    assert {product.name for _, product in int8_products(graph)} == set(names) - {key, last}
    assert set(quantizable_nodes(graph)) == {key, last}
    quantizers = count_operators(graph)["QuantizeLinear"] + count_operators(graph)["DynamicQuantizeLinear"]
    before = count_operators(either.graph)
    assert quantizers == before["QuantizeLinear"] + before["DynamicQuantizeLinear"] - 1, "the key's is shared"
    assert serialize(put_back(either, [])) == serialize(put_back(either, []))


@pytest.mark.parametrize("index", [0, 4, 9, 17])
def test_the_product_to_blame_comes_first(either, traced_embedder, index):
    bad = quantizable_nodes(either.source)[index]
    ranked = rank_products(_spoil(either, bad), _calibration(traced_embedder))
    assert ranked[0] == bad
    assert sorted(ranked) == sorted(quantizable_nodes(either.source))


def test_several_products_to_blame_come_first(static, traced_embedder):
    names = quantizable_nodes(static.source)
    bad = {names[3], names[8], names[14]}
    ranked = rank_products(_spoil(static, *bad), _calibration(traced_embedder))
    assert set(ranked[:3]) == bad


def test_putting_the_bad_product_back_heals_the_graph(static, traced_embedder):
    bad = quantizable_nodes(static.source)[5]
    spoiled = _spoil(static, bad)
    feeds = _feeds(traced_embedder)
    runs = [run_graph_in_memory(model, *feeds) for model in (static.source, spoiled.graph, put_back(spoiled, [bad]))]
    errors = [
        max(float(np.abs(got["last_hidden_state"] - wanted["last_hidden_state"]).max()) for wanted, got in pairs)
        for pairs in (zip(runs[0], runs[1], strict=True), zip(runs[0], runs[2], strict=True))
    ]
    assert errors[1] < errors[0] / 3


def test_module_name_is_the_name_of_the_module(traced):
    for name in quantizable_nodes(traced.graph):
        module = traced.model.get_submodule(module_name(name))
        assert module.weight.ndim == 2
