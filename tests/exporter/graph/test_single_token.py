"""A head on the pooled state gets the same from a last layer that runs for CLS alone."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_export.graph.drop_early import drop_early
from dynbert_export.graph.freeze import freeze
from dynbert_export.graph.names import kept_positions_name
from dynbert_export.graph.single_token import keep_single_token
from dynbert_export.graph.specialise import rewrite
from tests.helpers.graphs import (
    assert_informative,
    assert_same_answers,
    count_operators,
    make_feed,
    run_graph_in_memory,
    run_torch,
    serialize,
    trace_tiny_model,
)


@pytest.fixture(scope="module")
def classifier(traced_models):
    return traced_models[Task.TEXT_CLASSIFICATION]


def _trim(traced):
    return keep_single_token(drop_early(traced.graph), num_layers=traced.spec.num_layers)


def test_answers_stay(classifier):
    assert_same_answers(classifier, _trim(classifier))


@pytest.mark.parametrize("lengths", [None, (20, 10, 5), (12, 12, 12), (64, 64, 4), (0.9, 0.9, 0.4), (1, 1, 1)])
def test_frozen_graph_equals_pytorch(classifier, lengths):
    config = None if lengths is None else LengthConfig(lengths)
    graph = freeze(_trim(classifier), config, classifier.spec)
    for feed in (make_feed(batch, tokens) for tokens in (1, 2, 20, 64) for batch in (1, 4)):
        expected, _ = run_torch(classifier, feed, config)
        assert_informative(expected["logits"])
        np.testing.assert_allclose(run_graph_in_memory(graph, feed)[0]["logits"], expected["logits"], atol=1e-4)


def test_last_layer_has_no_cut_and_nothing_is_put_back(classifier):
    trimmed = _trim(classifier)
    last = classifier.spec.num_layers - 1
    assert kept_positions_name(last) not in {value.name for value in trimmed.graph.outputs}
    assert kept_positions_name(last - 1) in {value.name for value in trimmed.graph.outputs}
    counts = count_operators(trimmed)
    assert counts["ScatterElements"] == 0
    assert counts["TopK"] == 2 * last


def test_last_layer_runs_for_one_token(classifier):
    trimmed = _trim(classifier)
    scope = f"encoder/layer.{classifier.spec.num_layers - 1}/"
    products = {
        node.name.split("/")[-2]: node for node in trimmed.graph if node.op_type == "MatMul" and scope in node.name
    }
    for name in ("query", "key", "value"):
        trimmed.graph.outputs.append(next(n for k, n in products.items() if k == name).outputs[0])
    (outputs,) = run_graph_in_memory(freeze(trimmed, None, classifier.spec), make_feed(1, 20))
    shapes = sorted(array.shape[1] for array in outputs.values() if array.ndim == 3)
    assert shapes == [1, 20, 20]


def test_graphs_that_may_drop_cls_are_left_alone(tmp_path):
    traced = trace_tiny_model(tmp_path / "free", Task.TEXT_CLASSIFICATION, always_keep_cls_token=False)
    assert kept_positions_name(traced.spec.num_layers - 1) in {
        value.name for value in rewrite(traced.graph, traced.spec).graph.outputs
    }
    assert_same_answers(traced, rewrite(traced.graph, traced.spec))


@pytest.mark.parametrize("task", [Task.QUESTION_ANSWERING, Task.FEATURE_EXTRACTION])
def test_heads_that_read_every_token_are_left_alone(traced_models, task):
    moved = drop_early(traced_models[task].graph)
    assert serialize(keep_single_token(moved, num_layers=traced_models[task].spec.num_layers)) == serialize(moved)


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_relative_positions_are_left_alone_or_right(tmp_path, kind):
    traced = trace_tiny_model(tmp_path / kind, Task.TEXT_CLASSIFICATION, position_embedding_type=kind)
    assert_same_answers(traced, rewrite(traced.graph, traced.spec))
