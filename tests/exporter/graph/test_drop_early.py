"""Cuts before the output projection give what cuts after the LayerNormalization give, with less work."""

from __future__ import annotations

import numpy as np

from dynbert_export.graph.drop_early import drop_early
from dynbert_export.graph.editing import producer_of
from tests.helpers.graphs import assert_same_answers, parse_graph, serialize


def _projections(model):
    return [node for node in model.graph if "attention/output/dense" in (node.name or "") and node.op_type == "MatMul"]


def test_answers_stay(traced):
    assert_same_answers(traced, drop_early(traced.graph))


def test_every_output_projection_reads_cut_contexts(traced):
    assert not any(producer_of(node.inputs[0], "GatherElements") for node in _projections(traced.graph))
    projections = _projections(drop_early(traced.graph))
    assert len(projections) == traced.spec.num_layers
    assert all(producer_of(node.inputs[0], "GatherElements") for node in projections)


def test_no_cut_is_left_behind_a_layer_normalization(traced):
    moved = drop_early(traced.graph)
    assert not any(
        node.op_type == "GatherElements" and producer_of(node.inputs[0], "LayerNormalization")
        for node in moved.graph
        if "/cut" not in (node.name or "")
    )


def test_given_graph_stays_as_it_is(traced):
    before = serialize(traced.graph)
    drop_early(traced.graph)
    assert serialize(traced.graph) == before


def test_states_that_others_read_are_cut_where_they_were():
    graph = parse_graph(
        """(float[1,5,4] x, float[1,5,4] residual, int64[1,2,4] index) => (float[1,2,4] y, float[1,5,4] all) {
            projected = MatMul (x, weight)
            biased = Add (projected, bias)
            summed = Add (biased, residual)
            all = LayerNormalization (summed, scale, shift)
            y = GatherElements <axis = 1> (all, index)
        }""",
        weight=np.ones((4, 4), np.float32),
        bias=np.zeros(4, np.float32),
        scale=np.ones(4, np.float32),
        shift=np.zeros(4, np.float32),
    )
    node = next(node for node in drop_early(graph).graph if node.op_type == "GatherElements")
    assert producer_of(node.inputs[0], "LayerNormalization")
