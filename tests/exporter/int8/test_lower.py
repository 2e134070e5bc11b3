"""Lowering: every quantised product becomes one INT8 operator with its bias, and computes what it computed before."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_export.errors import ExportError
from dynbert_export.graph.editing import constant_array
from dynbert_export.graph.freeze import freeze, task_outputs
from dynbert_export.graph.int8_operator import INT8_OPERATOR, int8_products
from dynbert_export.int8.lower import lower
from dynbert_export.int8.neural_compressor import quantizable_nodes
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    kept_by,
    make_feed,
    parse_graph,
    quantize_tiny_model,
    run_graph_in_memory,
    serialize,
    with_lengths,
)

_STATIC = """(float[rows,8] x) => (float[rows,6] y) {
    q = QuantizeLinear (x, x_scale, x_zero)
    xf = DequantizeLinear (q, x_scale, x_zero)
    wf = DequantizeLinear <axis = 1> (w, w_scale, w_zero)
    p = MatMul (xf, wf)
    y = Add (p, bias)
}"""
_DYNAMIC = """(float[rows,8] x) => (float[rows,6] y) {
    q, x_scale_now, x_zero_now = DynamicQuantizeLinear (x)
    i = MatMulInteger (q, w, x_zero_now, w_zero)
    f = Cast <to = 1> (i)
    scales = Mul (x_scale_now, w_scale)
    p = Mul (f, scales)
    y = Add (p, bias)
}"""


def _constants(text):
    generator = np.random.default_rng(0)
    constants = {
        "x_scale": np.float32(0.03),
        "x_zero": np.uint8(131),
        "w": generator.integers(-64, 65, (8, 6)).astype(np.int8),
        "w_scale": generator.uniform(0.01, 0.02, 6).astype(np.float32),
        "w_zero": np.zeros(6, np.int8),
        "bias": generator.normal(size=6).astype(np.float32),
        "table": generator.normal(size=(5, 6)).astype(np.float32),
    }
    return {name: array for name, array in constants.items() if f"{name})" in text or f"{name}," in text}


def _toy(text, **changes):
    return parse_graph(text, **(_constants(text) | changes))


_X = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)


def _integer_oracle(constants):
    """Quantise, multiply as integers and rescale, in numpy."""
    quantized = np.clip(np.rint(_X / constants["x_scale"]) + constants["x_zero"].astype(int), 0, 255).astype(int)
    product = (quantized - int(constants["x_zero"])) @ (constants["w"].astype(int) - constants["w_zero"].astype(int))
    return product * constants["x_scale"] * constants["w_scale"] + constants["bias"]


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_lowered_graph_computes_what_the_quantised_graph_computes(quantized, traced_embedder, kind):
    before = quantized.qdq if kind == "static" else quantized.dynamic
    after = lower(before)
    config = LengthConfig((40, 20, 10))
    feeds = [with_lengths(make_feed(b, t), c, traced_embedder.spec) for b, t, c in ((1, 1, None), (4, 64, config))]
    feeds += [with_lengths(make_feed(3, 20), None, traced_embedder.spec)]
    # Unoptimised, the QDQ form runs as written: dequantised weights and activations, multiplied in fp32.
    expected = run_graph_in_memory(before, *feeds, optimize=False)
    for wanted, got in zip(expected, run_graph_in_memory(after, *feeds), strict=True):
        states = wanted["last_hidden_state"]
        assert_informative(states)
        np.testing.assert_allclose(got["last_hidden_state"], states, rtol=0, atol=1e-5 * np.abs(states).max())
        for layer, positions in kept_by(wanted).items():
            np.testing.assert_array_equal(kept_by(got)[layer], positions)


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_lowered_graph_is_near_the_fp32_graph(quantized, traced_embedder, kind):
    feed = with_lengths(make_feed(4, 64), None, traced_embedder.spec)
    model = lower(quantized.qdq if kind == "static" else quantized.dynamic)
    [got], [wanted] = (run_graph_in_memory(each, feed) for each in (model, traced_embedder.graph))
    a, b = got["last_hidden_state"].ravel(), wanted["last_hidden_state"].ravel()
    cosine = a @ b / np.sqrt((a @ a) * (b @ b))
    assert 0.99 < cosine < 1 - 1e-7  # and not the fp32 graph itself


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_every_encoder_product_is_lowered_with_its_bias(quantized, traced_embedder, kind):
    layers = traced_embedder.spec.num_layers
    before = quantized.qdq if kind == "static" else quantized.dynamic
    model = lower(before)
    products = [product for _, product in int8_products(model)]
    assert len(products) == 6 * layers
    assert {product.name for product in products} == set(quantizable_nodes(traced_embedder.graph))
    for product in products:
        assert product.float_activation is not None
        columns = constant_array(product.weight).shape[1]
        assert constant_array(product.weight).dtype == np.int8
        assert constant_array(product.weight_scale).shape == constant_array(product.bias).shape == (columns,)
        assert product.weight_zero_point is None  # symmetric
    counts = count_operators(model)
    assert (counts["DequantizeLinear"], counts["MatMulInteger"]) == (0, 0)
    assert counts["MatMul"] == 3 * layers  # attention's own, and the votes on its tokens
    assert count_operators(before)["Add"] - counts["Add"] == 6 * layers


def test_lowered_graph_can_be_frozen(quantized, traced_embedder):
    model = lower(quantized.qdq)
    config, feed = LengthConfig((40, 20, 10)), make_feed(4, 64)
    frozen = freeze(model, config, traced_embedder.spec)
    [got] = run_graph_in_memory(frozen, feed)
    [wanted] = run_graph_in_memory(model, with_lengths(feed, config, traced_embedder.spec))
    np.testing.assert_allclose(got["last_hidden_state"], wanted["last_hidden_state"], rtol=0, atol=1e-5)
    assert count_operators(frozen)[INT8_OPERATOR] == 6 * traced_embedder.spec.num_layers


@pytest.mark.parametrize("task", [Task.QUESTION_ANSWERING, Task.TEXT_CLASSIFICATION])
def test_graphs_with_heads_can_be_lowered_and_frozen(traced_models, task):
    """Neural Compressor rewrites a head's Gemm too, although it is not quantised."""
    traced = traced_models[task]
    steps = quantize_tiny_model(traced)
    feed = make_feed(4, 20)
    [wanted] = run_graph_in_memory(freeze(traced.graph, None, traced.spec), feed)
    for quantized_model in (steps.qdq, steps.dynamic):
        [got] = run_graph_in_memory(freeze(lower(quantized_model), None, traced.spec), feed)
        for name in task_outputs(traced.graph):
            assert_informative(got[name])
            np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=0.25 * np.ptp(wanted[name]))


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_lower_leaves_its_argument_as_it_was(quantized, kind):
    model = quantized.qdq if kind == "static" else quantized.dynamic
    before = serialize(model)
    lower(model)
    assert serialize(model) == before


@pytest.mark.parametrize("w_zero", [np.zeros(6, np.int8), np.array([1, -2, 3, 0, 5, -6], np.int8)])
def test_lowered_product_is_the_integer_product(w_zero):
    model = lower(_toy(_STATIC, w_zero=w_zero))
    assert count_operators(model) == {"QuantizeLinear": 1, INT8_OPERATOR: 1}
    [outputs] = run_graph_in_memory(model, {"x": _X})
    expected = _integer_oracle(_constants(_STATIC) | {"w_zero": w_zero})
    assert_informative(expected)
    np.testing.assert_allclose(outputs["y"], expected, rtol=0, atol=1e-5)


def test_lowered_dynamic_product_equals_the_original():
    original = _toy(_DYNAMIC)
    model = lower(original)
    assert count_operators(model) == {"DynamicQuantizeLinear": 1, INT8_OPERATOR: 1}
    [before], [after] = (run_graph_in_memory(each, {"x": _X}, optimize=False) for each in (original, model))
    np.testing.assert_allclose(after["y"], before["y"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "adds"),
    [
        ("y = Add (p, bias)", "y = Add (p, table)", 1),  # no bias: one number a row
        ("y = Add (p, bias)", "y = Neg (p)", 0),
        ("y = Add (p, bias)", "r = Add (p, bias) \n y = Mul (r, p)", 1),  # the product without its bias is read too
    ],
)
def test_lower_leaves_an_add_that_is_no_bias(old, new, adds):
    text = _STATIC.replace(old, new)
    original = _toy(text)
    model = lower(original)
    assert (count_operators(model)["Add"], count_operators(model)[INT8_OPERATOR]) == (adds, 1)
    [before], [after] = (run_graph_in_memory(each, {"x": _X}, optimize=False) for each in (original, model))
    np.testing.assert_allclose(after["y"], before["y"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        (_STATIC, "MatMul (xf, wf)", "MatMul (x, wf)"),  # the activation is not quantised
        (_STATIC, "y = Add (p, bias)", "r = Add (p, bias) \n t = ReduceSum (wf) \n y = Add (r, t)"),
        (_DYNAMIC, "p = Mul (f, scales)", "p = Div (f, scales)"),
        (_DYNAMIC, "Mul (x_scale_now, w_scale)", "Mul (w_scale, w_scale)"),
        (_DYNAMIC, "y = Add (p, bias)", "r = Add (p, bias) \n y = Add (r, f)"),
    ],
)
def test_lower_refuses_a_quantised_product_of_another_form(text, old, new):
    assert old in text
    with pytest.raises(ExportError, match="must lower to MatMulIntegerToFloat, got 1 others, first"):
        lower(_toy(text.replace(old, new)))


def test_lower_leaves_a_graph_without_quantised_products(traced_embedder):
    assert count_operators(lower(traced_embedder.graph)) == count_operators(traced_embedder.graph)
