"""The INT8 operator: built and matched in onnxruntime's own order of inputs, and it computes what its header says."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import onnx_ir as ir
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

from dynbert_export.graph.editing import constant_array
from dynbert_export.graph.int8_operator import INT8_OPERATOR, DynamicInt8Product, Int8Product, int8_products
from tests.helpers.graphs import assert_informative, parse_graph, run_graph_in_memory

_TEXT = """(float[rows,8] x) => (float[rows,6] y) {
    q = QuantizeLinear (x, scale, zero)
    y = com.microsoft.MatMulIntegerToFloat (q, w, scale, w_scale, zero, w_zero, bias)
}"""
_DYNAMIC = """(float[rows,8] x) => (float[rows,6] y) {
    q, scale_now, zero_now = DynamicQuantizeLinear (x)
    y = com.microsoft.MatMulIntegerToFloat (q, w, scale_now, w_scale, zero_now)
}"""
_X = np.random.default_rng(1).normal(size=(5, 8)).astype(np.float32)


def _constants():
    generator = np.random.default_rng(0)
    return {
        "scale": np.float32(0.03),
        "zero": np.uint8(131),
        "w": generator.integers(-64, 65, (8, 6)).astype(np.int8),
        "w_scale": generator.uniform(0.01, 0.02, 6).astype(np.float32),
        "w_zero": np.array([1, -2, 3, 0, 5, -6], np.int8),
        "bias": generator.normal(size=6).astype(np.float32),
    }


def _model(text=_TEXT):
    model = parse_graph(text, **{name: array for name, array in _constants().items() if name in text})
    model.graph[-1].name = "/dense/int8"
    return model


def _rebuild(model, **changes):
    """Return the model with its product matched, changed and built again."""
    rebuilt = model.clone()
    [(node, product)] = int8_products(rebuilt)
    built = replace(product, **changes).build()
    rebuilt.graph.insert_before(node, built)
    node.outputs[0].name = "replaced"
    built.outputs[0].name, built.outputs[0].type = "y", node.outputs[0].type
    node.outputs[0].replace_all_uses_with(built.outputs[0], replace_graph_outputs=True)
    rebuilt.graph.remove(node, safe=True)
    return rebuilt


def _schema(name):
    [schema] = [schema for schema in get_all_operator_schema() if schema.name == name]
    return [(each.name, each.option.name) for each in schema.inputs]


def test_fields_are_the_inputs_in_the_order_that_onnxruntime_declares():
    inputs = [field.name for field in fields(Int8Product) if field.name != "name"]
    assert dict(zip(inputs, _schema("MatMulIntegerToFloat"), strict=True)) == {
        "activation": ("A", "Single"),
        "weight": ("B", "Single"),
        "activation_scale": ("a_scale", "Single"),
        "weight_scale": ("b_scale", "Single"),
        "activation_zero_point": ("a_zero_point", "Optional"),
        "weight_zero_point": ("b_zero_point", "Optional"),
        "bias": ("bias", "Optional"),
    }
    inputs = [field.name for field in fields(DynamicInt8Product)]
    assert dict(zip(inputs, _schema("DynamicQuantizeMatMul"), strict=False)) == {
        "activation": ("A", "Single"),
        "weight": ("B", "Single"),
    }


def test_matched_parts_are_the_inputs():
    [(node, product)] = int8_products(_model())
    assert node.op_type == INT8_OPERATOR
    assert product.name == "/dense"
    assert product.float_activation.name == "x"
    names = {field.name: getattr(product, field.name).name for field in fields(product) if field.name != "name"}
    assert names == {
        "activation": "q",
        "weight": "w",
        "activation_scale": "scale",
        "weight_scale": "w_scale",
        "activation_zero_point": "zero",
        "weight_zero_point": "w_zero",
        "bias": "bias",
    }
    assert [value.name for value in product.integer_inputs] == ["q", "zero"]


def test_absent_optional_inputs_are_none():
    [(_, product)] = int8_products(_model(_DYNAMIC))
    assert (product.weight_zero_point, product.bias) == (None, None)
    assert product.float_activation.name == "x"


def test_an_activation_that_no_quantiser_makes_right_before_is_not_known_as_float():
    text = _TEXT.replace("q = Quant", "r = Quant").replace("y = com", "q = Identity (r) \n y = com")
    [(_, product)] = int8_products(_model(text))
    assert product.float_activation is None


def test_a_built_product_is_the_one_that_was_matched():
    model = _model()
    rebuilt = _rebuild(model)
    [(node, product)] = int8_products(rebuilt)
    assert (node.name, product.name) == ("/dense/int8", "/dense")
    [before], [after] = (run_graph_in_memory(each, {"x": _X}) for each in (model, rebuilt))
    assert_informative(before["y"])
    np.testing.assert_array_equal(after["y"], before["y"])


def test_product_is_what_its_header_says():
    constants = _constants()
    quantized = np.clip(np.rint(_X / constants["scale"]) + int(constants["zero"]), 0, 255) - int(constants["zero"])
    weight = constants["w"].astype(int) - constants["w_zero"].astype(int)
    expected = quantized @ weight * constants["scale"] * constants["w_scale"] + constants["bias"]
    [got] = run_graph_in_memory(_model(), {"x": _X})
    np.testing.assert_allclose(got["y"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("part", ["activation_zero_point", "weight_zero_point", "bias"])
def test_every_optional_part_counts(part):
    """A canary: a part that was left out while building would change the result."""
    [whole], [lacking] = (run_graph_in_memory(_rebuild(_model(), **change), {"x": _X}) for change in ({}, {part: None}))
    assert np.abs(whole["y"] - lacking["y"]).max() > 0.01


@pytest.mark.parametrize(
    "text",
    [
        "(float[5,8] x) => (float[5,6] y) { y = MatMul (x, w) }",
        "(float[5,8] x) => (float[5,6] y) { y = MatMulIntegerToFloat (x, w, scale, w_scale) }",  # ONNX has none
        "(float[5,8] x) => (float[5,6] y) { y = com.microsoft.MatMulIntegerToFloat (x, w, , w_scale) }",
        "(float[5,8] x) => (float[5,6] y) { y = com.microsoft.DynamicQuantizeMatMul (x, w, scale) }",
    ],
)
def test_other_nodes_are_no_product(text):
    model = _model(text)
    assert Int8Product.match(model.graph[-1]) is None
    assert int8_products(model) == []


def test_dynamic_product_is_found_in_what_onnxruntime_makes(tmp_path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ir.save(_model(_DYNAMIC), tmp_path / "model.onnx")
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    optimized = ir.load(tmp_path / "optimized.onnx")
    assert int8_products(optimized) == []
    [product] = [found for node in optimized.graph if (found := DynamicInt8Product.match(node)) is not None]
    assert product.activation.name == "x"
    assert product.integer_inputs == ()
    np.testing.assert_array_equal(constant_array(product.weight), _constants()["w"])
