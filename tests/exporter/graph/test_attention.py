"""The forms of attention: each part is found where it is, and a form that differs in one step is not found at all."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.manifest import Task
from dynbert_export.graph.attention import (
    match_attention,
    match_dense,
    match_masked_scores,
    match_mixture,
    match_scores,
)
from dynbert_export.graph.names import is_kept_positions
from dynbert_export.graph.specialise import rewrite
from tests.helpers.graphs import parse_graph, trace_tiny_model

_ATTENTION = """(float[b,t,6] x, int64[b,t] attention_mask) => (float[b,t,6] y) {
    by_row = Unsqueeze (attention_mask, axes)
    numbers = Cast <to = 1> (by_row)
    padding = Sub (full, numbers)
    all_masks = Mul (padding, lowest)
    mask = Cast <to = 1> (all_masks)
    q_product = MatMul (x, weight)
    q = Add (bias, q_product)
    k_product = MatMul (x, weight)
    k = Add (k_product, bias)
    v_product = MatMul (x, weight)
    v = Add (v_product, bias)
    q_split = Reshape (q, split)
    k_split = Reshape (k, split)
    v_split = Reshape (v, split)
    q_heads = Transpose <perm = [0,2,1,3]> (q_split)
    k_heads = Transpose <perm = [0,2,3,1]> (k_split)
    v_heads = Transpose <perm = [0,2,1,3]> (v_split)
    scores = MatMul (q_heads, k_heads)
    scaled = Div (scores, divisor)
    masked = Add (scaled, mask)
    probabilities = Softmax <axis = -1> (masked)
    mixed = MatMul (probabilities, v_heads)
    by_token = Transpose <perm = [0,2,1,3]> (mixed)
    context = Reshape (by_token, merged)
    y = Neg (context)
}"""
_CONSTANTS = {
    "axes": np.array([1, 2]),
    "full": np.float32(1),
    "lowest": np.finfo(np.float32).min,
    "weight": np.eye(6, dtype=np.float32),
    "bias": np.arange(6, dtype=np.float32),
    "split": np.array([0, 0, 2, 3]),
    "merged": np.array([0, 0, 6]),
    "divisor": np.float32(np.sqrt(3)),
}


def _toy(old="", new=""):
    assert old in _ATTENTION
    return parse_graph(_ATTENTION.replace(old, new) if old else _ATTENTION, **_CONSTANTS)


def _node(model, output):
    return next(node for node in model.graph if node.outputs[0].name == output)


def _value(model, name):
    return _node(model, name).outputs[0]


def test_every_part_of_an_attention_is_found():
    model = _toy()
    attention = match_attention(_node(model, "probabilities"))
    scores = attention.scores
    assert [side.projection.name for side in (scores.query, scores.key, attention.value)] == ["q", "k", "v"]
    assert [side.split for side in (scores.query, scores.key)] == [_node(model, "q_split"), _node(model, "k_split")]
    assert [side.transpose.outputs[0].name for side in (scores.query, scores.key)] == ["q_heads", "k_heads"]
    assert {(side.heads, side.size) for side in (scores.query, scores.key, attention.value)} == {(2, 3)}
    assert (scores.product, scores.scale) == (_node(model, "scores"), _node(model, "scaled"))
    assert scores.divisor == pytest.approx(np.sqrt(3))
    assert (attention.mask.name, attention.context.outputs[0].name) == ("mask", "context")


def test_only_a_softmax_has_an_attention():
    model = _toy()
    found = [node.outputs[0].name for node in model.graph if match_attention(node) is not None]
    assert found == ["probabilities"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("q_heads = Transpose <perm = [0,2,1,3]>", "q_heads = Transpose <perm = [0,2,3,1]>"),
        ("k_heads = Transpose <perm = [0,2,3,1]>", "k_heads = Transpose <perm = [0,2,1,3]>"),
        ("v_heads = Transpose <perm = [0,2,1,3]>", "v_heads = Transpose <perm = [0,2,3,1]>"),
        ("q_split = Reshape (q, split)", "shape = Shape (x) q_split = Reshape (q, shape)"),
        ("scaled = Div (scores, divisor)", "scaled = Div (divisor, scores)"),
        ("scaled = Div (scores, divisor)", "near = Add (scores, scores) scaled = Div (near, divisor)"),
        ("scaled = Div (scores, divisor)", "scaled = Div (scores, weight)"),
        ("scaled = Div (scores, divisor)", "scaled = Mul (scores, divisor)"),
        ("masked = Add (scaled, mask)", "masked = Add (scaled, scaled)"),
        ("masked = Add (scaled, mask)", "masked = Mul (scaled, mask)"),
        ("mixed = MatMul (probabilities, v_heads)", "mixed = MatMul (v_heads, probabilities)"),
        ("y = Neg (context)", "votes = ReduceSum (probabilities) y = Add (context, votes)"),
        ("y = Neg (context)", "seen = ReduceSum (mixed) y = Add (context, seen)"),
        ("context = Reshape (by_token, merged)", "context = Flatten (by_token)"),
    ],
)
def test_another_form_is_no_attention(old, new):
    model = _toy(old, new)
    matches = [match_attention(node) for node in model.graph]
    assert matches == [None] * len(matches)


def test_scores_are_found_at_their_product_only():
    model = _toy()
    found = [node.outputs[0].name for node in model.graph if match_scores(node) is not None]
    assert found == ["scores"]
    assert match_scores(None) is None


@pytest.mark.parametrize(
    ("name", "bias_index"), [("q", 0), ("k", 1)], ids=["bias before the product", "bias behind the product"]
)
def test_dense_is_found_whatever_the_order_of_its_sum(name, bias_index):
    model = _toy()
    dense = match_dense(_value(model, name))
    assert (dense.product, dense.bias_add) == (_node(model, f"{name}_product"), _node(model, name))
    assert dense.bias_index == bias_index
    np.testing.assert_array_equal(dense.weight, _CONSTANTS["weight"])
    np.testing.assert_array_equal(dense.bias, _CONSTANTS["bias"])


@pytest.mark.parametrize(
    "new",
    [
        "q = Add (x, q_product)",  # a residual, no bias
        "q = Sub (q_product, bias)",
        "q = Identity (q_product)",
        "w = Neg (weight) other = MatMul (x, w) q = Add (bias, other)",
    ],
)
def test_another_sum_is_not_dense(new):
    assert match_dense(_value(_toy("q = Add (bias, q_product)", new), "q")) is None


def test_values_without_a_producer_are_not_dense_and_no_mixture():
    model = _toy()
    for value in (None, model.graph.inputs[0]):
        assert match_dense(value) is None
        assert match_mixture(value) is None


@pytest.mark.parametrize("order", ["masked = Add (scaled, mask)", "masked = Add (mask, scaled)"])
def test_mask_is_told_from_scores_by_what_it_is_made_of(order):
    model = _toy("masked = Add (scaled, mask)", order)
    found = match_masked_scores(_node(model, "probabilities"))
    assert (found.scores.name, found.mask.name, found.origin) == ("scaled", "mask", _node(model, "all_masks"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("padding = Sub (full, numbers)", "other = ReduceMax (x) padding = Sub (other, numbers)"),
        ("padding = Sub (full, numbers)", "padding = Neg (numbers)"),
        ("mask = Cast <to = 1> (all_masks)", "mask = Cast <to = 1> (x)"),
        ("masked = Add (scaled, mask)", "masked = Add (scaled, numbers)"),  # no arithmetic: nothing additive
        ("y = Neg (context)", "more = ReduceSum (masked) y = Add (context, more)"),
    ],
)
def test_what_no_arithmetic_makes_of_the_attention_mask_is_no_mask(old, new):
    assert match_masked_scores(_node(_toy(old, new), "probabilities")) is None


def test_mixture_is_a_product_with_probabilities_on_its_left():
    model = _toy()
    mixture = match_mixture(_value(model, "mixed"))
    assert (mixture.softmax, mixture.product) == (_node(model, "probabilities"), _node(model, "mixed"))
    assert match_mixture(_value(model, "scores")) is None
    swapped = _toy("mixed = MatMul (probabilities, v_heads)", "mixed = MatMul (v_heads, probabilities)")
    assert match_mixture(_value(swapped, "mixed")) is None


def test_every_layer_of_a_traced_graph_has_what_the_rewrites_look_for(traced):
    graph, layers = rewrite(traced.graph, traced.spec).graph, traced.spec.num_layers
    assert sum(match_scores(node) is not None for node in graph) == layers
    assert sum(match_masked_scores(node) is not None for node in graph) == layers
    assert sum(match_mixture(node.outputs[0]) is not None for node in graph) == layers
    dropping = sum(is_kept_positions(value.name) for value in graph.outputs)  # their votes are read
    assert sum(match_attention(node) is not None for node in graph) == layers - dropping
    encoder = [node for node in graph if "/encoder/" in (node.name or "")]
    assert sum(match_dense(node.outputs[0]) is not None for node in encoder) == 6 * layers


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_scores_with_relative_positions_are_not_known_but_masked_ones_are(tmp_path, kind):
    traced = trace_tiny_model(tmp_path / kind, Task.FEATURE_EXTRACTION, position_embedding_type=kind)
    graph = rewrite(traced.graph, traced.spec).graph
    assert sum(match_scores(node) is not None for node in graph) == 0
    assert sum(match_masked_scores(node) is not None for node in graph) == traced.spec.num_layers
