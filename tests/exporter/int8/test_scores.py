"""Attention scores as INT8 products: near the float ones, exact in their integers, and only where the form is known."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Target, Task
from dynbert_export.errors import GateError
from dynbert_export.gates.kernels import check_int8_kernels
from dynbert_export.gates.saturation import check_no_saturation
from dynbert_export.graph.editing import only_consumer
from dynbert_export.graph.flash import use_flash_attention
from dynbert_export.graph.freeze import freeze, hide_kept_positions
from dynbert_export.graph.int8_operator import INT8_OPERATOR
from dynbert_export.graph.specialise import rewrite
from dynbert_export.graph.weights_file import save_sharing_weights
from dynbert_export.int8.ranges import Range, minmax, observe
from dynbert_export.int8.scores import find_scores, quantize_scores
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    kept_by,
    make_feed,
    parse_graph,
    run_graph_in_memory,
    serialize,
    trace_tiny_model,
    with_lengths,
)

_TOY = """(float[b,t,6] q, float[b,t,6] k) => (float[b,2,t,t] y) {
    qs = Reshape (q, shape)
    ks = Reshape (k, shape)
    qh = Transpose <perm = [0,2,1,3]> (qs)
    kh = Transpose <perm = [0,2,3,1]> (ks)
    s = MatMul (qh, kh)
    y = Div (s, divisor)
}"""
_UNIFORM = (("q", -2, 3), ("k", -1.5, 1.5))  # keys of half their range, 64 at most: no processor saturates
_TOY_CONSTANTS = {"shape": np.array([0, 0, 2, 3]), "divisor": np.float32(np.sqrt(3))}


def _toy(text=_TOY):
    model = parse_graph(text, **_TOY_CONSTANTS)
    for node in model.graph:
        node.name = f"/layer/{node.op_type}"
    return model


def _ranges(model, feeds):
    scores = find_scores(model)
    seen = observe(model, sorted({name for pair in scores.values() for name in pair}), feeds, keep=0, threads=1)
    return {
        product: (minmax(seen.histograms[operands.query]), minmax(seen.histograms[operands.key]))
        for product, operands in scores.items()
    }


@pytest.fixture
def rewritten(traced):
    return rewrite(traced.graph, traced.spec)


def _feeds(traced, lengths=None):
    arranged = [traced.arrange(make_feed(batch, tokens)) for tokens in (1, 2, 20, 64) for batch in (1, 4)]
    return [with_lengths(feed, lengths, traced.spec) for feed in arranged]


@pytest.mark.parametrize("lengths", [None, (20, 10, 5), (0.9, 0.4, 0.2)])
def test_answers_stay_near(traced, rewritten, lengths):
    config = None if lengths is None else LengthConfig(lengths)
    ranges = _ranges(rewritten, _feeds(traced))
    assert len(ranges) == traced.spec.num_layers
    before, after = (freeze(model, config, traced.spec) for model in (rewritten, quantize_scores(rewritten, ranges)))
    feeds = [traced.arrange(make_feed(1, tokens)) for tokens in (2, 20, 64)]
    compared = 0
    for wanted, got in zip(run_graph_in_memory(before, *feeds), run_graph_in_memory(after, *feeds), strict=True):
        kept = kept_by(got)
        if any(not np.array_equal(kept[layer], positions) for layer, positions in kept_by(wanted).items()):
            continue  # two tokens that were all but equally significant
        compared += 1
        for name in (name for name, array in wanted.items() if array.dtype == np.float32):
            assert_informative(wanted[name])
            assert 0 < np.abs(got[name] - wanted[name]).max() < 0.02 * np.abs(wanted[name]).max()
    assert compared >= len(feeds) - 1


def test_wrong_ranges_are_seen(traced_embedder):
    """A canary for the test above: ranges ten times too small clip nearly everything."""
    graph = rewrite(traced_embedder.graph, traced_embedder.spec)
    feeds = _feeds(traced_embedder)
    right = _ranges(graph, feeds)
    wrong = {name: tuple(Range(r.low / 10, r.high / 10) for r in pair) for name, pair in right.items()}
    wanted, near, far = (
        run_graph_in_memory(model, feeds[-2])[0]["last_hidden_state"]
        for model in (graph, quantize_scores(graph, right), quantize_scores(graph, wrong))
    )
    assert np.abs(far - wanted).max() > 3 * np.abs(near - wanted).max() > 0


def test_scores_are_the_integers_that_the_constants_say():
    generator = np.random.default_rng(0)
    feed = {name: generator.uniform(low, high, (2, 5, 6)).astype(np.float32) for name, low, high in _UNIFORM}
    [got] = run_graph_in_memory(quantize_scores(_toy(), {"/layer/MatMul": (Range(-2, 3), Range(-2, 3))}), feed)
    scale, zero_point = Range(-2, 3).scale_and_zero_point()
    queries = np.clip(np.rint(feed["q"] / scale) + zero_point, 0, 255) - zero_point
    keys = np.clip(np.rint(feed["k"] / np.float32(3 / 127)), -127, 127)
    by_head = [x.reshape(2, 5, 2, 3).transpose(0, 2, 1, 3) for x in (queries, keys)]
    expected = by_head[0] @ by_head[1].swapaxes(2, 3) * (scale * np.float32(3 / 127) / np.sqrt(3))
    assert_informative(got["y"])
    np.testing.assert_allclose(got["y"], expected, rtol=1e-5, atol=1e-6)


def test_keys_beyond_their_range_are_clipped_to_127_on_both_sides():
    model = quantize_scores(_toy(), {"/layer/MatMul": (Range(-1, 1), Range(-1, 1))})
    keys = np.zeros((1, 2, 6), np.float32)
    keys[0, :, 0] = -100.0, 100.0
    [got] = run_graph_in_memory(model, {"q": np.ones((1, 2, 6), np.float32), "k": keys})
    low, high = got["y"][0, 0, 0]
    assert low == pytest.approx(-high)
    assert high == pytest.approx(1 / np.sqrt(3), rel=0.01)


@pytest.mark.parametrize("zero", [Range(0, 0), Range(-0.0, 0.0)])
def test_keys_and_queries_of_nothing_but_zeros_give_zeros(zero):
    model = quantize_scores(_toy(), {"/layer/MatMul": (zero, zero)})
    feed = {name: np.zeros((1, 4, 6), np.float32) for name in "qk"}
    assert not run_graph_in_memory(model, feed)[0]["y"].any()


@pytest.mark.parametrize(
    "other",
    [
        _TOY.replace("y = Div (s, divisor)", "a = Add (s, s) y = Div (a, divisor)"),  # as relative positions
        _TOY.replace("[0,2,3,1]", "[0,2,1,3]"),
        _TOY.replace("y = Div (s, divisor)", "y = Div (divisor, s)"),
        _TOY.replace("y = Div (s, divisor)", "d = Div (s, divisor) y = Add (d, s)"),
        _TOY.replace("qs = Reshape (q, shape)", "n = Shape (k) r = Reshape (q, n) qs = Reshape (r, shape)").replace(
            "qh = Transpose <perm = [0,2,1,3]> (qs)", "qt = Transpose <perm = [0,2,1,3]> (qs) qh = Relu (qt)"
        ),
    ],
)
def test_other_forms_stay(other):
    model = _toy(other)
    assert find_scores(model) == {}
    before = count_operators(model)
    after = quantize_scores(model, {"/layer/MatMul": (Range(-1, 1), Range(-1, 1))})
    assert after is not model
    assert count_operators(after)["MatMul"] == before["MatMul"] == 1


def test_only_named_products_change(traced_embedder):
    graph = rewrite(traced_embedder.graph, traced_embedder.spec)
    before = serialize(graph)
    ranges = _ranges(graph, _feeds(traced_embedder)[:1])
    first = next(iter(ranges))
    assert count_operators(quantize_scores(graph, {first: ranges[first]}))[INT8_OPERATOR] == 1
    assert serialize(graph) == before


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_relative_positions_keep_float_scores(tmp_path, kind):
    traced = trace_tiny_model(tmp_path / kind, Task.FEATURE_EXTRACTION, position_embedding_type=kind)
    assert find_scores(rewrite(traced.graph, traced.spec)) == {}


def test_a_layer_with_int8_scores_needs_no_flash_attention(traced_embedder):
    graph = rewrite(traced_embedder.graph, traced_embedder.spec)
    frozen = freeze(quantize_scores(graph, _ranges(graph, _feeds(traced_embedder))), None, traced_embedder.spec)
    counts = count_operators(use_flash_attention(frozen))
    assert (counts["MultiHeadAttention"], counts[INT8_OPERATOR]) == (0, traced_embedder.spec.num_layers)


@pytest.fixture(scope="module")
def with_int8_scores(traced_embedder):
    """Ready to be published; its only INT8 products are scores."""
    graph = rewrite(traced_embedder.graph, traced_embedder.spec)
    quantized = quantize_scores(graph, _ranges(graph, _feeds(traced_embedder)))
    return hide_kept_positions(freeze(quantized, None, traced_embedder.spec))


def _write(model, folder):
    [path] = save_sharing_weights({"full.int8.onnx": model}, folder, "weights.bin")
    return path


def test_onnxruntime_runs_them_as_int8(with_int8_scores, tmp_path):
    assert check_int8_kernels(_write(with_int8_scores, tmp_path), expected=3) == 3


@pytest.mark.parametrize("target", [Target.VNNI, Target.AMX, Target.ARM64])
def test_clipped_keys_cannot_saturate_where_the_range_is_full(with_int8_scores, target, tmp_path):
    assert check_no_saturation(_write(with_int8_scores, tmp_path), target=target) == 3


def test_clipped_keys_are_refused_for_avx2(with_int8_scores, tmp_path):
    with pytest.raises(GateError, match="with a pair of 254"):
        check_no_saturation(_write(with_int8_scores, tmp_path), target=Target.AVX2)


def test_keys_that_nothing_clips_are_refused(with_int8_scores, tmp_path):
    model = with_int8_scores.clone()
    clip = next(node for node in model.graph if node.op_type == "Clip" and "key" in (node.name or ""))
    assert only_consumer(clip.outputs[0], "Reshape") is not None
    clip.outputs[0].replace_all_uses_with(clip.inputs[0])
    with pytest.raises(GateError, match="with weights that are not known"):
        check_no_saturation(_write(model, tmp_path), target=Target.VNNI)
