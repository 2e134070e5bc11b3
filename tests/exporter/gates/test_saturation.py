"""16-bit pair sums: an emulation of ``vpmaddubsw`` with the worst activations, and the gate that rules them out."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from dynbert.manifest import Target
from dynbert_export.errors import GateError
from dynbert_export.gates.saturation import LARGEST_PAIR, check_no_saturation, largest_pair
from dynbert_export.graph.editing import constant_array
from dynbert_export.graph.freeze import freeze, hide_kept_positions
from dynbert_export.graph.int8_operator import int8_products
from dynbert_export.graph.weights_file import save_sharing_weights
from dynbert_export.int8.lower import lower
from dynbert_export.int8.neural_compressor import NeuralCompressor


def _multiply_like_avx2(activations, weight):
    """Return ``activations @ weight`` as AVX2 adds it up: pairs of rows clipped to 16 bits, then 32 bits."""
    if len(weight) % 2:  # kernels pad the last pair with zeros
        activations, weight = np.pad(activations, ((0, 0), (0, 1))), np.pad(weight, ((0, 1), (0, 0)))
    a, w = activations.astype(np.int32), weight.astype(np.int32)
    pairs = a[:, 0::2, None] * w[None, 0::2] + a[:, 1::2, None] * w[None, 1::2]  # [rows, pairs, columns]
    return np.clip(pairs, np.iinfo(np.int16).min, np.iinfo(np.int16).max).sum(axis=1, dtype=np.int32)


def _worst_activations(weight):
    """Return u8 activations that make every pair sum as large, or as small, as it can be: two rows a column."""
    return np.concatenate([np.where(weight.T > 0, 255, 0), np.where(weight.T < 0, 255, 0)]).astype(np.uint8)


def _differs(weight):
    activations = _worst_activations(weight)
    exact = activations.astype(np.int32) @ weight.astype(np.int32)
    return bool((_multiply_like_avx2(activations, weight) != exact).any())


def _weights(model):
    return [constant_array(product.weight) for _, product in int8_products(model)]


@pytest.fixture(scope="module")
def full_range(quantized):
    return lower(NeuralCompressor().quantize_static(quantized.folded, quantized.feeds, reduce_range=False))


@pytest.fixture(scope="module")
def seven_bits(quantized):
    return lower(quantized.qdq)


def _write(model, folder):
    [path] = save_sharing_weights({"full.int8.onnx": model}, folder, "weights.bin")
    return path


def _published(model, traced):
    return hide_kept_positions(freeze(model, None, traced.spec))


def test_graph_for_avx2_is_exact_with_the_worst_activations(seven_bits):
    weights = _weights(seven_bits)
    assert len(weights) == 18
    assert not any(_differs(weight) for weight in weights)


def test_emulation_saturates_when_the_range_is_full(full_range):
    assert all(_differs(weight) for weight in _weights(full_range))


def test_emulation_saturates_at_one_more_than_the_limit():
    assert not _differs(np.array([[64], [64]], np.int8))
    assert not _differs(np.array([[-64], [-64]], np.int8))
    assert _differs(np.array([[64], [65]], np.int8))
    assert _differs(np.array([[-64], [-65]], np.int8))
    assert not _differs(np.array([[127], [-127]], np.int8))  # no activation is negative


@settings(deadline=None)
@given(
    hypothesis_numpy.arrays(np.int8, st.tuples(st.integers(1, 9), st.integers(1, 4)), elements=st.integers(-127, 127)),
    st.randoms(use_true_random=False),
)
def test_weights_within_the_limit_are_exact_in_any_order_of_rows(weight, random):
    if largest_pair(weight) > LARGEST_PAIR:
        return
    order = list(range(len(weight)))
    random.shuffle(order)
    assert not _differs(weight[order])


@settings(deadline=None)
@given(hypothesis_numpy.arrays(np.int8, (2, 3), elements=st.integers(-127, 127)))
def test_weights_beyond_the_limit_saturate(weight):
    """With two rows there is one pair: the limit is not only enough but needed."""
    assert _differs(weight) == (largest_pair(weight) > LARGEST_PAIR)


@pytest.mark.parametrize(
    ("weight", "pair"),
    [
        ([[64], [64], [3]], 128),
        ([[-100], [3], [-27]], 127),
        ([[100, 1], [-100, 2]], 100),
        ([[5, -7], [6, -9], [7, 100]], 100),
        ([[-3, 4]], 4),
        ([[0]], 0),
    ],
)
def test_largest_pair_is_of_one_column_and_one_sign(weight, pair):
    assert largest_pair(np.array(weight, np.int8)) == pair


def test_gate_passes_when_weights_have_seven_bits(seven_bits, traced_embedder, tmp_path):
    assert check_no_saturation(_write(_published(seven_bits, traced_embedder), tmp_path), target=Target.AVX2) == 18


def test_gate_fails_when_the_range_is_full(full_range, traced_embedder, tmp_path):
    path = _write(_published(full_range, traced_embedder), tmp_path)
    with pytest.raises(
        GateError, match=r"full\.int8\.onnx: any two s8 .* at most 128 for avx2, got .* a pair of 2\d\d"
    ):
        check_no_saturation(path, target=Target.AVX2)


def test_gate_fails_when_one_pair_of_one_weight_is_too_large(seven_bits, traced_embedder, tmp_path):
    model = _published(seven_bits, traced_embedder)
    node, product = int8_products(model)[7]
    array = constant_array(product.weight).copy()
    array[0, 3], array[5, 3] = 64, 65  # no neighbours: the gate asks it of any two
    product.weight.const_value = ir.Tensor(array)
    with pytest.raises(GateError, match=f"got {node.name} with a pair of 129. "):
        check_no_saturation(_write(model, tmp_path), target=Target.AVX2)


def _multiply_like_neon(activations, weight):
    """Return ``activations @ weight`` as NEON without dot products adds it up: s8, rows 8 apart wrap in 16 bits."""
    shifted = activations.astype(np.int32) - 128
    w = weight.astype(np.int32)
    pairs = shifted[:, :8, None] * w[None, :8] + shifted[:, 8:, None] * w[None, 8:]
    return pairs.astype(np.int16).sum(axis=1, dtype=np.int32) + 128 * w.sum(axis=0, dtype=np.int32)


def test_full_range_is_exact_on_neon_but_for_minus_128(full_range):
    for weight in _weights(full_range):
        for block in weight.reshape(-1, 16, weight.shape[1]):
            activations = np.concatenate([_worst_activations(block), np.zeros((1, 16)), np.full((1, 16), 255)])
            exact = activations.astype(np.int32) @ block.astype(np.int32)
            np.testing.assert_array_equal(_multiply_like_neon(activations, block), exact)
    worst = np.full((16, 1), -128, np.int8)
    assert _multiply_like_neon(np.zeros((1, 16)), worst) != 0  # as it must be: no activation but zeros


@pytest.mark.parametrize("target", [Target.VNNI, Target.AMX, Target.ARM64])
def test_gate_of_full_range_asks_for_no_minus_128(full_range, traced_embedder, target, tmp_path):
    model = _published(full_range, traced_embedder)
    assert check_no_saturation(_write(model, tmp_path), target=target) == 18
    _, product = int8_products(model)[0]
    array = constant_array(product.weight).copy()
    array[3, 3] = -128
    product.weight.const_value = ir.Tensor(array)
    with pytest.raises(GateError, match=rf"in \[-127, 127\] for {target.value}, got .* with a weight of -128"):
        check_no_saturation(_write(model, tmp_path), target=target)


def test_gate_fails_when_a_weight_is_u8(seven_bits, traced_embedder, tmp_path):
    model = _published(seven_bits, traced_embedder)
    _, product = int8_products(model)[0]
    product.weight.const_value = ir.Tensor(constant_array(product.weight).astype(np.uint8))
    with pytest.raises(GateError, match="with weights that are uint8"):
        check_no_saturation(_write(model, tmp_path), target=Target.AVX2)


def test_gate_fails_when_there_is_nothing_to_check(traced_embedder, tmp_path):
    with pytest.raises(GateError, match="got no MatMulIntegerToFloat"):
        check_no_saturation(_write(_published(traced_embedder.graph, traced_embedder), tmp_path), target=Target.AVX2)
