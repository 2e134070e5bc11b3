"""Folding smoothing Muls: exact, where it is done; and not done where it would not be."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert_export.int8.smoothing import fold_smoothing
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    make_feed,
    parse_graph,
    run_graph_in_memory,
    serialize,
    with_lengths,
)

_ATTENTION = """(float[2,5,8] x, float[2,2,5,5] scores) => (float[2,5,8] y, float[a,b,c,d] further) {
    probs = Softmax (scores)
    projected = MatMul (x, weight)
    value = Add (bias, projected)
    heads = Reshape (value, split)
    by_head = Transpose <perm = [0, 2, 1, 3]> (heads)
    mixed = MatMul (probs, by_head)
    by_token = Transpose <perm = [0, 2, 1, 3]> (mixed)
    context = Reshape (by_token, merged)
    smooth = Mul (context, scale)
    y = MatMul (smooth, output)
    further = Identity (scores)
}"""


def _attention(text=_ATTENTION, **changes):
    generator = np.random.default_rng(0)
    constants = {
        "weight": generator.normal(size=(8, 8)).astype(np.float32),
        "bias": generator.normal(size=8).astype(np.float32),
        "output": generator.normal(size=(8, 8)).astype(np.float32),
        "scale": generator.uniform(0.2, 3, 8).astype(np.float32),
        "split": np.array([0, 0, 2, 4]),
        "merged": np.array([0, 0, 8]),
        "half": np.float32(0.5),
    }
    used = {name: array for name, array in (constants | changes).items() if name in text}
    return parse_graph(text, **used)


def _feed():
    generator = np.random.default_rng(1)
    return {
        "x": generator.normal(size=(2, 5, 8)).astype(np.float32),
        "scores": generator.normal(size=(2, 2, 5, 5)).astype(np.float32),
    }


def _assert_equal_outputs(model, other, *feeds):
    runs = [run_graph_in_memory(each, *feeds) for each in (model, other)]
    for before, after in zip(*runs, strict=True):
        assert set(before) == set(after)
        for name, array in before.items():
            if array.dtype == np.float32:
                assert_informative(array)
            np.testing.assert_allclose(after[name], array, rtol=0, atol=1e-5 * max(1.0, np.abs(array).max()))


def test_fold_is_exact_when_the_graph_was_really_smoothed(quantized, traced_embedder):
    feeds = [with_lengths(make_feed(4, tokens), None, traced_embedder.spec) for tokens in (1, 7, 64)]
    _assert_equal_outputs(quantized.smoothed, quantized.folded, *feeds)


def test_fold_takes_one_mul_a_layer_away_when_the_graph_was_really_smoothed(quantized, traced_embedder):
    layers = traced_embedder.spec.num_layers
    before, after = (count_operators(model) for model in (quantized.smoothed, quantized.folded))
    assert before["Mul"] - count_operators(traced_embedder.graph)["Mul"] == 4 * layers
    assert before["Mul"] - after["Mul"] == layers
    del before["Mul"], after["Mul"]
    assert before == after


def test_fold_leaves_its_argument_as_it_was(quantized):
    before = serialize(quantized.smoothed)
    fold_smoothing(quantized.smoothed)
    assert serialize(quantized.smoothed) == before


def test_fold_changes_nothing_when_the_graph_was_not_smoothed(traced_embedder):
    assert serialize(fold_smoothing(traced_embedder.graph)) == serialize(traced_embedder.graph)


@pytest.mark.parametrize("shape", [(8,), (1, 1, 8)])
def test_fold_scales_the_value_projection(shape):
    scale = np.linspace(0.2, 3, 8, dtype=np.float32).reshape(shape)
    model = _attention(scale=scale)
    folded = fold_smoothing(model)
    assert (count_operators(model)["Mul"], count_operators(folded)["Mul"]) == (1, 0)
    _assert_equal_outputs(model, folded, _feed())


def test_fold_ignores_readers_of_the_shape():
    text = _ATTENTION.replace("further = Identity (scores)", "size = Shape (value) \n further = ConstantOfShape (size)")
    text = text.replace("float[a,b,c,d]", "float[a,b,c]")
    model = _attention(text)
    folded = fold_smoothing(model)
    assert count_operators(folded)["Mul"] == 0
    [before], [after] = (run_graph_in_memory(each, _feed()) for each in (model, folded))
    np.testing.assert_allclose(after["y"], before["y"], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("further = Identity (scores)", "further = Unsqueeze (context, split)"),
        ("further = Identity (scores)", "further = Neg (by_token)"),
        ("further = Identity (scores)", "further = Neg (mixed)"),
        ("further = Identity (scores)", "further = Neg (by_head)"),
        ("further = Identity (scores)", "further = Neg (heads)"),
        ("further = Identity (scores)", "further = Unsqueeze (value, one)"),
        ("further = Identity (scores)", "further = Unsqueeze (projected, one)"),
        ("Softmax (scores)", "Tanh (scores)"),  # not attention: what a weighted mean is, this is not
        ("(context, scale)", "(context, half)"),
        ("value = Add (bias, projected)", "value = Add (x, projected)"),
        ("value = Add (bias, projected)", "value = Sub (projected, bias)"),
    ],
)
def test_fold_leaves_a_mul_that_it_must_not_fold(old, new):
    assert old in _ATTENTION
    text = _ATTENTION.replace(old, new.replace("(context, split)", "(context, one)"))
    model = _attention(text, one=np.array([1]))
    folded = fold_smoothing(model)
    assert count_operators(folded)["Mul"] == 1
    _assert_equal_outputs(model, folded, _feed())


def test_fold_leaves_the_weights_that_another_product_shares():
    """The folded projection gets weights of its own; whatever else uses the old ones still does."""
    text = _ATTENTION.replace(
        "further = Identity (scores)", "flat = MatMul (x, weight) \n further = Unsqueeze (flat, one)"
    )
    model = _attention(text, one=np.array([1]))
    folded = fold_smoothing(model)
    _assert_equal_outputs(model, folded, _feed())
