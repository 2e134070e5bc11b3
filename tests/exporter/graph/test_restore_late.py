"""Scores that are put back are the scores of states that were put back."""

from __future__ import annotations

import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_export.graph.drop_early import drop_early
from dynbert_export.graph.editing import producer_of
from dynbert_export.graph.freeze import freeze
from dynbert_export.graph.restore_late import restore_late
from tests.helpers.graphs import (
    assert_same_answers,
    count_operators,
    make_feed,
    run_graph_in_memory,
    serialize,
    trace_tiny_model,
)


@pytest.fixture(scope="module")
def answerer(traced_models):
    return traced_models[Task.QUESTION_ANSWERING]


def _put_back(model):
    return [node.inputs[2] for node in model.graph if node.op_type == "ScatterElements"]


def test_answers_stay(traced):
    assert_same_answers(traced, restore_late(traced.graph))


def test_scores_are_put_back_and_states_are_not(answerer):
    assert all(producer_of(value, "LayerNormalization") for value in _put_back(answerer.graph))
    late = restore_late(answerer.graph)
    assert len(_put_back(late)) == answerer.spec.num_layers
    assert all(producer_of(value, "Add") for value in _put_back(late))


@pytest.mark.parametrize("lengths", [None, (20, 10, 5), (12, 12, 5), (64, 64, 4), (0.9, 0.9, 0.4), (1, 1, 1)])
def test_freezing_gives_the_same_before_and_after(answerer, lengths):
    config = None if lengths is None else LengthConfig(lengths)
    graphs = [
        freeze(graph, config, answerer.spec) for graph in (answerer.graph, restore_late(drop_early(answerer.graph)))
    ]
    assert len({count_operators(graph)["ScatterElements"] for graph in graphs}) == 1
    feeds = [make_feed(batch, tokens) for tokens in (1, 3, 20, 64) for batch in (1, 4)]
    for wanted, got in zip(*(run_graph_in_memory(graph, *feeds) for graph in graphs), strict=True):
        assert wanted.keys() == got.keys()
        for name, array in wanted.items():
            assert got[name] == pytest.approx(array, abs=2e-5)


def test_a_head_wider_than_the_states_stays_behind(tmp_path):
    traced = trace_tiny_model(tmp_path / "wide", Task.QUESTION_ANSWERING, hidden_size=2, num_attention_heads=1)
    assert serialize(restore_late(traced.graph)) == serialize(traced.graph)


def test_states_that_are_the_output_stay(traced_embedder):
    assert serialize(restore_late(traced_embedder.graph)) == serialize(traced_embedder.graph)
