"""The small steps of rewriting: what each finds, and what it leaves alone."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dynbert_export.graph import editing
from tests.helpers.graphs import count_operators, parse_graph, run_graph_in_memory

_X = np.arange(12, dtype=np.float32).reshape(3, 4)
_W = np.array([1, 2, 3, 4], dtype=np.float32)


@pytest.fixture
def chain():
    """x -> Mul by w -> Reshape -> Transpose -> y, with the product read once more."""
    return parse_graph(
        """(float[3,4] x) => (float[3,4] y, float[3,4] z) {
            product = Mul (x, w)
            wide = Reshape (product, shape)
            y = Transpose <perm = [1, 0]> (wide)
            z = Neg (product)
        }""",
        w=_W,
        shape=np.array([4, 3]),
    )


def _value(model, name):
    values = [*model.graph.inputs, *model.graph.initializers.values()]
    return next(value for value in values + [v for node in model.graph for v in node.outputs] if value.name == name)


@pytest.mark.parametrize(
    ("name", "op_types", "expected"),
    [
        ("product", ("Mul",), "Mul"),
        ("product", ("Add", "Mul"), "Mul"),
        ("product", ("Add",), None),
        ("product", (), None),
        ("x", ("Mul",), None),
        ("w", ("Mul",), None),
    ],
)
def test_producer_of_returns_the_node_when_it_is_one_of_the_operators(chain, name, op_types, expected):
    node = editing.producer_of(_value(chain, name), *op_types)
    assert (node.op_type if node else None) == expected


def test_producer_of_returns_none_when_the_optional_input_is_absent():
    assert editing.producer_of(None, "Mul") is None


@pytest.mark.parametrize(
    ("name", "op_types", "expected"),
    [
        ("wide", ("Transpose",), "Transpose"),
        ("wide", ("Neg",), None),
        ("product", ("Reshape", "Neg"), None),  # two readers
        ("y", ("Transpose",), None),  # an output of the graph
    ],
)
def test_only_consumer_returns_the_node_when_nothing_else_reads(chain, name, op_types, expected):
    node = editing.only_consumer(_value(chain, name), *op_types)
    assert (node.op_type if node else None) == expected


def test_only_consumer_returns_none_when_an_output_of_the_graph_is_read_too():
    model = parse_graph("(float[3,4] x) => (float[3,4] a, float[3,4] b) { a = Neg (x) \n b = Neg (a) }")
    assert editing.only_consumer(_value(model, "a"), "Neg") is None


def test_trace_back_looks_through_the_given_operators_only(chain):
    y = _value(chain, "y")
    assert editing.trace_back(y, "Transpose", "Reshape") is _value(chain, "product")
    assert editing.trace_back(y, "Transpose") is _value(chain, "wide")
    assert editing.trace_back(y) is y
    assert editing.trace_back(None, "Transpose") is None


def test_constant_array_returns_the_array_of_initializers_only(chain):
    np.testing.assert_array_equal(editing.constant_array(_value(chain, "w")), _W)
    assert editing.constant_array(_value(chain, "x")) is None
    assert editing.constant_array(_value(chain, "product")) is None
    assert editing.constant_array(None) is None


def test_constant_array_returns_none_when_the_initializer_is_only_a_default(chain):
    chain.graph.inputs.append(_value(chain, "w"))
    assert editing.constant_array(_value(chain, "w")) is None


def test_add_initializer_appends_a_number_when_the_name_is_taken(chain):
    first = editing.add_initializer(chain.graph, "w", _W * 2)
    second = editing.add_initializer(chain.graph, "w", _W[::-1])
    assert [first.name, second.name] == ["w_1", "w_2"]
    assert set(chain.graph.initializers) == {"w", "shape", "w_1", "w_2"}
    np.testing.assert_array_equal(editing.constant_array(_value(chain, "w")), _W)
    np.testing.assert_array_equal(editing.constant_array(second), _W[::-1])


def test_add_initializer_makes_a_value_that_runs(chain):
    product = _value(chain, "product").producer()
    product.replace_input_with(1, editing.add_initializer(chain.graph, "w", _W[::-1]))
    [outputs] = run_graph_in_memory(chain, {"x": _X})
    np.testing.assert_array_equal(outputs["z"], -_X * _W[::-1])


def test_builder_makes_what_runs(chain):
    build = editing.Builder(chain.graph, "new")
    y = _value(chain, "y")
    shifted = build.add("Add", _value(chain, "wide"), build.constant("shift", np.float32(3)))
    result = build.like(y.producer(), shifted)
    chain.graph.insert_before(y.producer(), build.nodes)
    editing.replace_value(y, result)
    [outputs] = run_graph_in_memory(chain, {"x": _X})
    np.testing.assert_array_equal(outputs["y"], ((_X * _W).reshape(4, 3) + 3).T)


def test_builder_names_nodes_after_scope_and_operator(chain):
    build = editing.Builder(chain.graph, "new")
    x = _value(chain, "x")
    outputs = [build.add("Neg", x), build.add("Neg", x), build.add("Abs", x), build.add("Neg", x, name="/own")]
    assert [node.name for node in build.nodes] == ["new/Neg", "new/Neg_1", "new/Abs", "/own"]
    assert [value.name for value in outputs] == ["new/Neg_output", "new/Neg_1_output", "new/Abs_output", "/own_output"]
    assert build.constant("number", np.int64(1)).name == "new/number"
    assert build.constant("number", np.int64(2)).name == "new/number_1"


def test_builder_keeps_the_first_of_an_axis(chain):
    build = editing.Builder(chain.graph, "new")
    first = build.first(_value(chain, "x"), axis=1)
    chain.graph.insert_before(chain.graph[0], build.nodes)
    first.name, first.type = "first", ir.TensorType(ir.DataType.FLOAT)
    chain.graph.outputs.append(first)
    [outputs] = run_graph_in_memory(chain, {"x": _X})
    np.testing.assert_array_equal(outputs["first"], _X[:, :1])


def test_builder_takes_operators_of_other_domains_and_absent_inputs(chain):
    build = editing.Builder(chain.graph, "new")
    build.add("Gelu", _value(chain, "x"), domain="com.microsoft")
    build.like(build.nodes[0], None)
    assert [node.domain for node in build.nodes] == ["com.microsoft"] * 2
    assert [list(node.inputs) for node in build.nodes] == [[_value(chain, "x")], [None]]


def test_replace_value_keeps_the_output_name_when_the_value_is_an_output(chain):
    y = _value(chain, "y")
    editing.replace_value(y, _value(chain, "x"))
    assert [value.name for value in chain.graph.outputs] == ["y", "z"]
    assert chain.graph.outputs[0] is chain.graph.inputs[0]
    assert (y.name, y.uses()) == ("y/replaced", ())


def test_replace_value_gives_the_replacement_a_type_and_shape_when_it_has_none(chain):
    y, wide = _value(chain, "y"), _value(chain, "wide")
    assert (wide.type, wide.shape) == (None, None)
    expected = (y.type, y.shape)
    editing.replace_value(y, wide)
    assert (wide.type, wide.shape) == expected
    editing.replace_value(_value(chain, "product"), chain.graph.inputs[0])
    assert list(chain.graph.inputs[0].shape) == [3, 4]


def test_replace_value_moves_every_reader(chain):
    editing.replace_value(_value(chain, "product"), _value(chain, "x"))
    [outputs] = run_graph_in_memory(chain, {"x": _X})
    np.testing.assert_array_equal(outputs["z"], -_X)
    np.testing.assert_array_equal(outputs["y"], _X.reshape(4, 3).T)


def test_clean_removes_what_is_unused_or_there_twice_and_sorts():
    model = parse_graph(
        """(float[3,4] x) => (float[3,4] y) {
            a = Mul (x, w)
            b = Mul (x, same)
            unused = Neg (a)
            y = Add (a, b)
        }""",
        w=np.tile(_W, (3, 1)),
        same=np.tile(_W, (3, 1)),
        nothing=_W,
    )
    last = model.graph[-1]
    model.graph.remove(last)
    model.graph.insert_before(model.graph[0], last)  # no order in which it could run
    editing.clean(model)
    assert count_operators(model) == {"Mul": 1, "Add": 1}
    assert [node.op_type for node in model.graph] == ["Mul", "Add"]
    assert len(model.graph.initializers) == 1
    [outputs] = run_graph_in_memory(model, {"x": _X})
    np.testing.assert_array_equal(outputs["y"], 2 * _X * _W)


def test_clean_bears_constants_that_are_views():
    """A folded transposition is one; onnx-ir cannot hash it."""
    model = parse_graph("(float[3,4] x) => (float[3,4] y) { y = Mul (x, w) }", w=np.tile(_W, (3, 1)))
    view = np.arange(12, dtype=np.float32).reshape(4, 3).T
    _value(model, "w").const_value = ir.Tensor(view, name="w")
    editing.clean(model)
    np.testing.assert_array_equal(editing.constant_array(_value(model, "w")), view)
    [outputs] = run_graph_in_memory(model, {"x": _X})
    np.testing.assert_array_equal(outputs["y"], _X * view)


def test_clean_keeps_an_unused_input():
    model = parse_graph("(float[3,4] x, int64[1] spare) => (float[3,4] y) { y = Neg (x) }")
    editing.clean(model)
    assert [value.name for value in model.graph.inputs] == ["x", "spare"]
    assert isinstance(model, ir.Model)


def test_a_scalar_stays_a_scalar():
    model = parse_graph("(float[2] x) => (float[2] y) { y = Identity (x) }")
    value = editing.add_initializer(model.graph, "one", np.array(1.0, dtype=np.float32))
    assert tuple(value.shape) == tuple(value.const_value.shape) == ()


def test_constants_of_a_proto_are_decoded_once():
    proto = ir.to_proto(parse_graph("(float[3,4] x) => (float[3,4] y) { y = Mul (x, w) }", w=np.tile(_W, (3, 1))))
    model = editing.from_proto(proto)
    first, second = (editing.constant_array(_value(model, "w")) for _ in range(2))
    assert first is second
    [outputs] = run_graph_in_memory(model, {"x": _X})
    np.testing.assert_array_equal(outputs["y"], _X * _W)
