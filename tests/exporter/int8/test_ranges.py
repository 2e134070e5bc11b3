"""Streamed ranges: what numpy says of all values at once, whatever the order, in memory that does not grow."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dynbert_export.errors import ExportError
from dynbert_export.graph.editing import constant_array
from dynbert_export.int8.neural_compressor import quantized_activations
from dynbert_export.int8.ranges import (
    BINS,
    METHODS,
    Histogram,
    Range,
    apply_ranges,
    entropy,
    minmax,
    observe,
    percentile,
)
from tests.helpers.graphs import count_operators, make_feed, parse_graph, run_graph_in_memory, serialize, with_lengths


def _histogram(*parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(np.asarray(part, dtype=np.float32))
    return histogram


def _parts(seed=0, count=12):
    """Parts of growing and shrinking size, some of one sign."""
    generator = np.random.default_rng(seed)
    scales = generator.lognormal(0, 3, count)
    return [scale * generator.normal(size=(7, 31)) + generator.choice([-3, 0, 3]) * scale for scale in scales]


@pytest.mark.parametrize("seed", range(5))
def test_ends_are_exact_and_percentiles_are_exact_to_a_bin(seed):
    parts = _parts(seed)
    histogram = _histogram(*parts)
    values = np.concatenate([np.float32(part).ravel() for part in parts])
    assert minmax(histogram) == (values.min(), values.max())
    assert histogram.counts.sum() == values.size
    for percent in (90, 99, 99.9):
        found = percentile(histogram, percent=percent)
        expected = np.percentile(values, [100 - percent, percent], method="inverted_cdf")
        np.testing.assert_allclose(found, expected, rtol=0, atol=histogram.width)
        assert found.low > values.min()
        assert found.high < values.max()


def test_a_bin_is_a_fraction_of_a_u8_step():
    for largest in (1e-20, 0.5, 1.0, 1.99, 2.0, 3e30):
        histogram = _histogram([0.0, largest])
        assert histogram.width <= largest / (BINS / 4)
        assert histogram.width <= Range(0, largest).scale_and_zero_point()[0] / 8


@pytest.mark.parametrize("seed", range(5))
def test_order_does_not_matter(seed):
    parts = _parts(seed)
    first = _histogram(*parts)
    for other in (_histogram(*reversed(parts)), _histogram(*sorted(parts, key=np.ptp))):
        np.testing.assert_array_equal(first.counts, other.counts)
        assert (first.exponent, first.minimum, first.maximum) == (other.exponent, other.minimum, other.maximum)


def test_merged_is_the_histogram_of_both():
    parts = _parts()
    for cut in (1, 6, 11):
        one, two, both = _histogram(*parts[:cut]), _histogram(*parts[cut:]), _histogram(*parts)
        merged = one.merged(two)
        np.testing.assert_array_equal(merged.counts, both.counts)
        assert (merged.exponent, merged.minimum, merged.maximum) == (both.exponent, both.minimum, both.maximum)
        assert one.counts.sum() == sum(part.size for part in parts[:cut]), "its arguments stay as they are"


def test_range_doubles_and_keeps_every_count():
    histogram = _histogram([1.5, -1.5, 0.25])
    assert histogram.exponent == 1
    histogram.add(np.float32([100.0]))
    assert histogram.exponent == 7
    assert histogram.counts.sum() == 4
    edges = histogram.edges()
    for value in (1.5, -1.5, 0.25, 100.0):
        [index] = np.flatnonzero((edges[:-1] <= value) & (value < edges[1:]))
        assert histogram.counts[index] == 1


def test_memory_does_not_grow_with_the_inputs():
    histogram = _histogram(np.ones(10))
    before = histogram.counts.nbytes + sys.getsizeof(histogram.__dict__)
    for scale in range(1, 200):
        histogram.add(np.full((64, 64), scale, dtype=np.float32))
    assert histogram.counts.nbytes + sys.getsizeof(histogram.__dict__) == before
    assert before < 100_000


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(wrong):
    with pytest.raises(ExportError, match="Activations must be finite on the calibration texts, got "):
        _histogram([1.0, wrong, 2.0])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("values", [[0.0], [0.0, 1e-42], [-3.0, -2.0], [5.0] * 3, [-1e-30, 1e30]])
def test_every_method_bears_unusual_values(method, values):
    values = np.float32(values)
    found = METHODS[method](_histogram(values))
    assert values.min() <= found.low <= found.high <= values.max()
    scale, zero_point = found.scale_and_zero_point()
    assert np.isfinite(scale)
    assert scale > 0
    assert 0 <= zero_point <= 255


@pytest.mark.parametrize(
    ("ends", "scale", "zero_point"),
    [((-1, 1.55), 0.01, 100), ((0, 2.55), 0.01, 0), ((1, 2.55), 0.01, 0), ((-2.55, -1), 0.01, 255), ((0, 0), 1, 0)],
)
def test_scale_and_zero_point_hold_zero_exactly(ends, scale, zero_point):
    found = Range(*ends).scale_and_zero_point()
    assert found == (pytest.approx(scale), zero_point)
    assert (found[0].dtype, found[1].dtype) == (np.float32, np.uint8)


def test_entropy_keeps_a_uniform_range_whole():
    values = np.random.default_rng(0).uniform(-2, 3, 200_000)
    assert entropy(_histogram(values)) == pytest.approx((-2, 3), abs=1e-3)


def test_entropy_cuts_far_outliers_and_each_end_apart():
    generator = np.random.default_rng(0)
    bulk = generator.normal(size=200_000)
    found = entropy(_histogram(bulk, [60.0]))
    assert 2.5 < found.high < 10
    assert found.low < -2.5
    positive = entropy(_histogram(np.abs(bulk), [60.0]))
    assert 0 <= positive.low < 0.01
    assert 2.5 < positive.high < 10
    mirrored = entropy(_histogram(-bulk, [-60.0]))
    assert mirrored == pytest.approx((-found.high, -found.low), abs=1.0)


def test_observe_sees_what_a_run_shows(traced_embedder):
    tensors = quantized_activations(traced_embedder.graph)
    assert len(tensors) == 4 * traced_embedder.spec.num_layers
    feeds = [with_lengths(make_feed(1, 32, seed=seed), None, traced_embedder.spec) for seed in range(3)]
    before = serialize(traced_embedder.graph)
    found = observe(traced_embedder.graph, tensors, feeds, keep=2, threads=1)
    assert serialize(traced_embedder.graph) == before
    assert set(found.histograms) == set(tensors)
    expected = run_graph_in_memory(traced_embedder.graph, *feeds[:2])
    assert len(found.outputs) == 2
    for got, wanted in zip(found.outputs, expected, strict=True):
        np.testing.assert_allclose(got["last_hidden_state"], wanted["last_hidden_state"], atol=1e-5)
    for name, histogram in found.histograms.items():
        width = 64 if "intermediate" in name else 32
        assert histogram.counts.sum() == 3 * 32 * width
        assert histogram.minimum < histogram.maximum


_QDQ = """(float[rows,8] x) => (float[rows,6] y) {
    q = QuantizeLinear (x, x_scale, x_zero)
    xf = DequantizeLinear (q, x_scale, x_zero)
    wf = DequantizeLinear <axis = 1> (w, w_scale, w_zero)
    y = MatMul (xf, wf)
}"""


def _qdq():
    generator = np.random.default_rng(0)
    return {
        "x_scale": np.float32(9),
        "x_zero": np.uint8(1),
        "w": generator.integers(-64, 65, (8, 6)).astype(np.int8),
        "w_scale": generator.uniform(0.01, 0.02, 6).astype(np.float32),
        "w_zero": np.zeros(6, np.int8),
    }


def test_apply_ranges_changes_the_activations_and_nothing_else():
    constants = _qdq()
    model = parse_graph(_QDQ, **constants)
    before = serialize(model)
    changed = apply_ranges(model, {"x": Range(-1.0, 1.55)})
    assert serialize(model) == before
    assert count_operators(changed) == count_operators(model)
    x = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)
    [outputs] = run_graph_in_memory(changed, {"x": x}, optimize=False)
    scale = np.float32(2.55 / 255)
    rounded = (np.clip(np.rint(x / scale) + 100, 0, 255) - 100) * scale
    np.testing.assert_allclose(outputs["y"], rounded @ (constants["w"] * constants["w_scale"]), rtol=1e-5, atol=1e-6)
    assert (np.abs(rounded - x) > 0.1).any(), "something must have been clipped"
    weight = next(node for node in changed.graph if node.op_type == "DequantizeLinear" and node.attributes)
    for value, name in zip(weight.inputs, ("w", "w_scale", "w_zero"), strict=True):
        np.testing.assert_array_equal(constant_array(value), constants[name])


def test_apply_ranges_refuses_an_activation_without_a_range():
    with pytest.raises(ExportError, match="Every quantised activation must have a range, got none for x"):
        apply_ranges(parse_graph(_QDQ, **_qdq()), {"y": Range(0, 1)})
