"""Every quantised product must run as INT8, of types that are fast on its target; nothing else passes."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Target
from dynbert_export.errors import GateError
from dynbert_export.gates.kernels import check_int8_kernels
from dynbert_export.graph.freeze import freeze, hide_kept_positions
from dynbert_export.graph.weights_file import save_sharing_weights
from dynbert_export.int8.lower import lower
from tests.helpers.graphs import count_operators, parse_graph

_CONFIG = LengthConfig((20, 10, 5))


def _write(model, folder, name="fast.fp32.onnx"):
    [path] = save_sharing_weights({name: model}, folder, "weights.bin")
    return path


def _published(traced, config=_CONFIG):
    return hide_kept_positions(freeze(traced.graph, config, traced.spec))


@pytest.mark.parametrize("kind", ["static", "dynamic"])
@pytest.mark.parametrize("config", [None, _CONFIG])
def test_kernels_are_int8_when_the_graph_is_lowered(quantized, traced_embedder, kind, config, tmp_path):
    model = lower(quantized.qdq if kind == "static" else quantized.dynamic)
    path = _write(freeze(model, config, traced_embedder.spec), tmp_path)
    assert check_int8_kernels(path, expected=18) == 18


@pytest.mark.parametrize("expected", [17, 19])
def test_kernels_fail_when_the_count_is_another(quantized, traced_embedder, expected, tmp_path):
    path = _write(freeze(lower(quantized.qdq), None, traced_embedder.spec), tmp_path)
    with pytest.raises(GateError, match=f"must run {expected} products as INT8, got: 18 INT8 products"):
        check_int8_kernels(path, expected=expected)


def test_kernels_fail_when_the_graph_is_fp32(traced_embedder, tmp_path):
    with pytest.raises(GateError, match=r"fast\.fp32\.onnx must run 18 products as INT8, got: 0 INT8 products"):
        check_int8_kernels(_write(_published(traced_embedder), tmp_path), expected=18)


_IN_FP32 = "multiplies a dequantised weight in fp32; 0 INT8 products"
_QDQ = """(float[rows,8] x) => (float[rows,8] y) {
    q = QuantizeLinear (x, x_scale, x_zero)
    xf = DequantizeLinear (q, x_scale, x_zero)
    wf = DequantizeLinear <axis = 1> (w, w_scale, w_zero)
    y = MatMul (xf, wf)
}"""


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        # A bias after the product is the trap: onnxruntime makes an fp32 Gemm over dequantised weights of both.
        (
            "y = MatMul (xf, wf)",
            "p = MatMul (xf, wf) \n y = Add (p, bias)",
            _IN_FP32,
        ),
        ("y = MatMul (xf, wf)", "y = Gemm (xf, wf, bias)", _IN_FP32),
        (
            "y = MatMul (xf, wf)",
            "t = Transpose (wf) \n y = MatMul (x, t)",
            _IN_FP32,
        ),
        ("MatMul (xf, wf)", "MatMul (x, wf)", "got: .*0 INT8 products"),
    ],
)
def test_kernels_fail_when_a_quantised_product_would_run_in_fp32(old, new, fault, tmp_path):
    generator = np.random.default_rng(0)
    assert old in _QDQ
    model = parse_graph(_QDQ.replace(old, new), **_constants(generator))
    assert count_operators(model)["DequantizeLinear"] == 2
    with pytest.raises(GateError, match=fault):
        check_int8_kernels(_write(model, tmp_path), expected=1)


def _constants(generator, *, activation=np.uint8, weight=np.int8):
    middle = 131 if activation is np.uint8 else 3
    return {
        "x_scale": np.float32(0.03),
        "x_zero": activation(middle),
        "w": generator.integers(*((0, 128) if weight is np.uint8 else (-64, 65)), (8, 8)).astype(weight),
        "w_scale": generator.uniform(0.01, 0.02, 8).astype(np.float32),
        "w_zero": np.zeros(8, weight),
        "bias": generator.normal(size=8).astype(np.float32),
    }


_LOWERED = """(float[rows,8] x) => (float[rows,8] y) {
    q = QuantizeLinear (x, x_scale, x_zero)
    y = com.microsoft.MatMulIntegerToFloat (q, w, x_scale, w_scale, x_zero, w_zero)
}"""


@pytest.mark.parametrize(
    ("activation", "weight", "exact_on", "fault"),
    [
        (np.uint8, np.int8, tuple(Target), ""),
        (np.int8, np.int8, (Target.ARM64,), "s8 activations, for which x86 has no fast kernel"),
        (np.uint8, np.uint8, (Target.AVX2, Target.ARM64), "multiplies UINT8 weights on {target}"),
    ],
)
@pytest.mark.parametrize("target", list(Target))
def test_kernels_must_be_of_types_that_are_fast_on_the_target(activation, weight, exact_on, fault, target, tmp_path):
    constants = _constants(np.random.default_rng(0), activation=activation, weight=weight)
    path = _write(parse_graph(_LOWERED, **constants), tmp_path)
    if target in exact_on:
        assert check_int8_kernels(path, expected=1, target=target) == 1
        return
    with pytest.raises(GateError, match=fault.format(target=target.value)):
        check_int8_kernels(path, expected=1, target=target)


def test_kernels_fail_when_the_activation_is_s8_and_no_zero_point_says_so(tmp_path):
    text = _LOWERED.replace("w_scale, x_zero, w_zero", "w_scale")
    path = _write(parse_graph(text, **_constants(np.random.default_rng(0), activation=np.int8)), tmp_path)
    with pytest.raises(GateError, match="s8 activations"):
        check_int8_kernels(path, expected=1)


def test_kernels_fail_when_a_weight_is_dequantised_for_anything(tmp_path):
    """A table that is looked up as floats is four times the memory again: onnxruntime keeps both."""
    text = _LOWERED.replace(
        "y = com",
        't = DequantizeLinear <axis = 1> (w, w_scale, w_zero) \n s = Einsum <equation = "ij->j"> (t) \n p = com',
    ).replace("x_zero, w_zero)", "x_zero, w_zero) \n y = Add (p, s)")
    path = _write(parse_graph(text, **_constants(np.random.default_rng(0))), tmp_path)
    with pytest.raises(GateError, match="dequantises a weight at run time"):
        check_int8_kernels(path, expected=1)


def test_kernel_check_leaves_nothing_behind(quantized, traced_embedder, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    path = _write(freeze(lower(quantized.qdq), None, traced_embedder.spec), tmp_path)
    check_int8_kernels(path, expected=18)
    with pytest.raises(GateError):
        check_int8_kernels(path, expected=1)
    assert list(folder.iterdir()) == []
    assert sorted(item.name for item in tmp_path.iterdir()) == ["fast.fp32.onnx", "temporary", "weights.bin"]
