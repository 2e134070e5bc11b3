"""Constant shapes are the shapes that were computed."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert_export.graph.editing import constant_array
from dynbert_export.graph.reshapes import simplify_reshapes
from tests.helpers.graphs import assert_same_answers, parse_graph, run_graph_in_memory


def _shapes(model, scope=""):
    nodes = (node for node in model.graph if node.op_type == "Reshape" and scope in (node.name or ""))
    return [constant_array(node.inputs[1]) for node in nodes]


def test_answers_stay(traced):
    assert_same_answers(traced, simplify_reshapes(traced.graph))


def test_every_reshape_of_the_attention_gets_a_constant_shape(traced):
    assert all(shape is None for shape in _shapes(traced.graph, "/attention/"))
    shapes = _shapes(simplify_reshapes(traced.graph), "/attention/")
    assert len(shapes) == 4 * traced.spec.num_layers
    assert all(shape is not None and shape[0] == 0 for shape in shapes)


_TOY = """(float[a,b,8] x, float[a,b,8] other) => (float[c,d,e] y) {
    shape = Shape <start: int = %d> (%s)
    size = Gather (shape, %s)
    first = Unsqueeze (size, zeros)
    target = Concat <axis = 0> (first, rest, eight)
    y = Reshape (x, target)
}"""


def _toy(start=0, source="x", index="zero", rest=-1):
    return parse_graph(
        _TOY % (start, source, index),
        zero=np.array(0),
        one=np.array(1),
        zeros=np.array([0]),
        rest=np.array([rest]),
        eight=np.array([8]),
    )


def test_toy_is_simplified():
    (shape,) = _shapes(simplify_reshapes(_toy()))
    np.testing.assert_array_equal(shape, [0, -1, 8])


@pytest.mark.parametrize(
    "changes",
    [{"start": 1}, {"source": "other"}, {"index": "one"}, {"rest": 0}],
    ids=["start", "source", "index", "rest"],
)
def test_other_shapes_stay_computed(changes):
    model = _toy(**changes)
    assert _shapes(simplify_reshapes(model)) == [None]
    if changes.get("rest") != 0:
        feed = {name: np.ones((3, 3, 8), np.float32) for name in ("x", "other")}
        (wanted,), (got,) = run_graph_in_memory(model, feed), run_graph_in_memory(simplify_reshapes(model), feed)
        assert wanted["y"].shape == got["y"].shape
