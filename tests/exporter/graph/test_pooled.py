"""Graphs that pool: the mean of the tokens that the last layer kept, or CLS from a last layer of one token.

The oracle of every comparison is numpy's: token states of the PyTorch model, dropped ones put back, and the positions
that it kept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Pooling, PoolingMode, Precision, Target
from dynbert.session import open_graph
from dynbert.tasks.feature_extraction import pool
from dynbert_export.checkpoint.load import load_model
from dynbert_export.errors import ExportError
from dynbert_export.graph.freeze import freeze, task_outputs
from dynbert_export.graph.names import kept_positions_name
from dynbert_export.graph.specialise import rewrite, write_graphs
from dynbert_export.graph.tracing import trace
from dynbert_export.variants import FP32_SET, GraphSet, Variant
from tests.helpers.graphs import (
    TracedModel,
    assert_informative,
    assert_same_answers,
    count_operators,
    kept_by,
    make_feed,
    run_graph_in_memory,
    run_torch,
    trace_tiny_embedder,
    with_lengths,
)

_POOLINGS = {
    f"{mode.value}{'-normalised' if normalize else ''}": Pooling(mode=mode, normalize=normalize)
    for mode in PoolingMode
    for normalize in (False, True)
}
_LENGTHS = [
    None,
    (64, 64, 64),
    (1.0, 1.0, 1.0),
    (20, 10, 5),
    (12, 12, 5),
    (12, 12, 12),
    (64, 9, 9),
    (64, 64, 4),
    (63, 63, 63),
    (2, 2, 2),
    (1, 1, 1),
    (0.5, 0.3, 0.2),
    (0.9, 0.9, 0.4),
    (1.0, 0.5, 0.5),
    (1.0, 1.0, 0.3),
    (0.000001, 0.000001, 0.000001),
]
_FEEDS = [make_feed(batch, tokens) for tokens in (1, 2, 3, 7, 20, 64) for batch in (1, 4)]
_EMBEDDING = "sentence_embedding"
_SCATTERS = ("ScatterElements", "ScatterND")


def _config(lengths):
    return None if lengths is None else LengthConfig(lengths)


@pytest.fixture(scope="module", params=["mean", "cls-normalised"])
def embedder(request, tmp_path_factory) -> TracedModel:
    """One that averages, and one that reads CLS."""
    return trace_tiny_embedder(tmp_path_factory.mktemp(request.param), _POOLINGS[request.param])


@pytest.fixture(scope="module", params=["mean-normalised", "cls"])
def free_embedder(request, tmp_path_factory) -> TracedModel:
    """The same of those that may drop CLS."""
    folder = tmp_path_factory.mktemp(f"free-{request.param}")
    return trace_tiny_embedder(folder, _POOLINGS[request.param], always_keep_cls_token=False)


@pytest.fixture(scope="module")
def mean_embedder(tmp_path_factory) -> TracedModel:
    return trace_tiny_embedder(tmp_path_factory.mktemp("mean"), _POOLINGS["mean"])


def _without_head(traced):
    """Return the same checkpoint as a model that gives token states."""
    return replace(traced, model=load_model(traced.checkpoint))


def _expect(plain, feed, config):
    """Pool token states with numpy, and return what PyTorch's layers kept, in the text's order."""
    outputs, kept = run_torch(plain, feed, config)
    is_left = np.zeros_like(feed["attention_mask"])
    np.put_along_axis(is_left, kept[-1], 1, axis=1)
    embeddings = pool(outputs["last_hidden_state"], feed["attention_mask"] * is_left, plain.checkpoint.pooling)
    return embeddings, [np.sort(positions, axis=1) for positions in kept]


def _is_cls(traced):
    return traced.checkpoint.pooling.mode is PoolingMode.CLS


def _compare(traced, lengths):
    config, plain = _config(lengths), _without_head(traced)
    traced_graph = rewrite(traced.graph, traced.spec)
    frozen = freeze(traced_graph, config, traced.spec)
    assert task_outputs(frozen) == (_EMBEDDING,)
    runs = run_graph_in_memory(frozen, *_FEEDS)
    anytime_runs = run_graph_in_memory(traced_graph, *(with_lengths(feed, config, traced.spec) for feed in _FEEDS))
    for feed, outputs, anytime in zip(_FEEDS, runs, anytime_runs, strict=True):
        expected, kept = _expect(plain, feed, config)
        assert_informative(expected)
        np.testing.assert_allclose(outputs[_EMBEDDING], expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(anytime[_EMBEDDING], expected, rtol=0, atol=1e-5)
        for layer, positions in (kept_by(anytime) | kept_by(outputs)).items():
            np.testing.assert_array_equal(positions, kept[layer])


@pytest.mark.parametrize("lengths", _LENGTHS, ids=str)
def test_frozen_and_anytime_graphs_pool_what_the_last_layer_kept(embedder, lengths):
    _compare(embedder, lengths)


@pytest.mark.parametrize("lengths", [None, (20, 10, 5), (0.5, 0.3, 0.2)], ids=str)
@pytest.mark.parametrize("pooling", ["mean-normalised", "cls"])
def test_scaling_to_unit_length_is_the_graph_s_too(tmp_path, pooling, lengths):
    _compare(trace_tiny_embedder(tmp_path / "model", _POOLINGS[pooling]), lengths)


@pytest.mark.parametrize("lengths", [None, (20, 10, 5), (1, 1, 1), (0.5, 0.3, 0.2), (1.0, 0.4, 0.4)], ids=str)
def test_graphs_that_may_drop_cls_pool_the_same(free_embedder, lengths):
    """A dropped CLS has the state that it was dropped with."""
    _compare(free_embedder, lengths)


@pytest.mark.parametrize(("num_layers", "lengths"), [(1, None), (1, (5,)), (1, (0.3,)), (2, (64, 5)), (2, (9, 9))])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_other_numbers_of_layers_pool_the_same(tmp_path, pooling, num_layers, lengths):
    _compare(trace_tiny_embedder(tmp_path / "model", _POOLINGS[pooling], num_hidden_layers=num_layers), lengths)


@pytest.mark.parametrize("lengths", [None, (20, 10, 5)], ids=str)
def test_padding_votes_where_the_config_says_so(tmp_path, lengths):
    _compare(trace_tiny_embedder(tmp_path / "model", _POOLINGS["mean"], count_padded_queries=True), lengths)


def test_cuts_change_the_embedding(embedder):
    """A canary: were nothing dropped anywhere, the comparisons above would hold as well."""
    anytime = rewrite(embedder.graph, embedder.spec)
    runs = [
        run_graph_in_memory(freeze(anytime, _config(lengths), embedder.spec), make_feed(4, 20))[0][_EMBEDDING]
        for lengths in (None, (20, 10, 5), (12, 12, 12))
    ]
    for index, run in enumerate(runs):
        assert all(np.abs(run - other).max() > 0.02 for other in runs[:index])


def test_rewriting_changes_nothing(embedder):
    assert_same_answers(embedder, rewrite(embedder.graph, embedder.spec))


@pytest.mark.parametrize(
    ("lengths", "is_cut"),
    [
        (None, False),
        ((64, 64, 64), False),
        ((1.0, 1.0, 1.0), False),
        ((20, 10, 5), True),
        ((64, 9, 9), True),
        ((0.5, 0.3, 0.2), True),
    ],
)
def test_nothing_is_put_back_and_without_cuts_nothing_gathered(embedder, lengths, is_cut):
    anytime = rewrite(embedder.graph, embedder.spec)
    for graph in (anytime, freeze(anytime, _config(lengths), embedder.spec)):
        counts = count_operators(graph)
        assert [counts[name] for name in _SCATTERS] == [0, 0]
    assert (counts["GatherElements"] > 0, counts["TopK"] > 0) == (is_cut, is_cut)


@pytest.mark.parametrize("lengths", [(20, 10, 5), (64, 9, 9), (64, 64, 4), (12, 12, 12), (0.5, 0.3, 0.2)], ids=str)
def test_weights_are_gathered_by_the_positions_that_are_left(mean_embedder, lengths):
    frozen = freeze(rewrite(mean_embedder.graph, mean_embedder.spec), _config(lengths), mean_embedder.spec)
    last = max(
        int(value.name.split(".")[1]) for value in frozen.graph.outputs if value.name.startswith("kept_positions")
    )
    by_position = [
        node
        for node in frozen.graph
        if node.op_type == "GatherElements" and node.inputs[1].name == kept_positions_name(last)
    ]
    assert "ReduceSum" in {use.node.op_type for node in by_position for use in node.outputs[0].uses()}


def test_last_layer_runs_for_one_token_where_cls_is_pooled(embedder):
    """In ``full`` too, which drops nothing."""
    anytime = rewrite(embedder.graph, embedder.spec)
    last = embedder.spec.num_layers - 1
    assert (kept_positions_name(last) in {value.name for value in anytime.graph.outputs}) is not _is_cls(embedder)
    full = freeze(anytime, None, embedder.spec)
    scope = f"encoder/layer.{last}/"
    products = [node for node in full.graph if node.op_type == "MatMul" and scope in node.name and "dense" in node.name]
    assert len(products) == 3
    full.graph.outputs.extend(node.outputs[0] for node in products)
    [outputs] = run_graph_in_memory(full, make_feed(2, 20))
    rows = {array.shape[1] for array in outputs.values() if array.ndim == 3}
    assert rows == {1 if _is_cls(embedder) else 20}


def test_last_layer_runs_for_all_tokens_where_cls_may_be_dropped(free_embedder):
    anytime = rewrite(free_embedder.graph, free_embedder.spec)
    assert kept_positions_name(free_embedder.spec.num_layers - 1) in {value.name for value in anytime.graph.outputs}
    counts = count_operators(anytime)
    assert counts["ScatterElements"] == (free_embedder.spec.num_layers if _is_cls(free_embedder) else 0)


_INT8_SET = GraphSet(Precision.INT8, Target.AVX2, "int8")


@pytest.mark.parametrize("graph_set", [FP32_SET, _INT8_SET], ids=["fp32", "int8"])
def test_published_graphs_are_valid_and_answer_alike(embedder, graph_set, tmp_path):
    """With the last rewrites, those of INT8 graphs too; alone, in a batch and padded."""
    variants = tuple(
        Variant(name, _config(lengths))
        for name, lengths in (("full", None), ("fast", (20, 10, 5)), ("half", (0.5, 0.3, 0.2)))
    )
    plain = _without_head(embedder)
    paths = write_graphs(rewrite(embedder.graph, embedder.spec), variants, tmp_path, graph_set, embedder.spec)
    for variant in variants:
        model = ir.load(paths[variant.name])
        onnx.shape_inference.infer_shapes(onnx.load(paths[variant.name]), check_type=True, strict_mode=True)
        assert [(value.name, str(value.shape)) for value in model.graph.outputs] == [(_EMBEDDING, "[batch_size,32]")]
        counts = count_operators(model)
        assert [counts[name] for name in _SCATTERS] == [0, 0]
        graph = open_graph(paths[variant.name], threads=1)
        for feed in _FEEDS:
            expected, _ = _expect(plain, feed, variant.lengths)
            np.testing.assert_allclose(graph.run(feed)[_EMBEDDING], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", [None, (6, 4, 3), (12, 9, 9)], ids=str)
def test_an_embedding_does_not_depend_on_padding(embedder, lengths):
    frozen = freeze(rewrite(embedder.graph, embedder.spec), _config(lengths), embedder.spec)
    feed = make_feed(4, 20)
    [batch] = run_graph_in_memory(frozen, feed)
    for row in range(4):
        tokens = int(feed["attention_mask"][row].sum())
        text = {name: array[row : row + 1, :tokens] for name, array in feed.items()}
        [alone] = run_graph_in_memory(frozen, text)
        np.testing.assert_allclose(batch[_EMBEDDING][row], alone[_EMBEDDING][0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("opset", [18, 20])
def test_other_opsets_pool_the_same(embedder, opset):
    graph = trace(embedder.model, embedder.checkpoint.task, opset=opset, always_keep_cls_token=True, is_pooled=True)
    frozen = freeze(rewrite(graph, embedder.spec), LengthConfig((20, 10, 5)), embedder.spec)
    feed = make_feed(3, 40)
    expected, _ = _expect(_without_head(embedder), feed, LengthConfig((20, 10, 5)))
    np.testing.assert_allclose(run_graph_in_memory(frozen, feed)[0][_EMBEDDING], expected, rtol=0, atol=1e-5)


def test_freeze_does_not_take_a_sum_by_other_positions_for_a_mean(mean_embedder):
    """By an earlier layer's positions the weights would be those of other tokens."""
    damaged = mean_embedder.graph.clone()
    outputs = {value.name: value for value in damaged.graph.outputs}
    [gather] = [
        node
        for node in damaged.graph
        if node.op_type == "GatherElements" and node.inputs[1] is outputs[kept_positions_name(2)]
    ]
    gather.replace_input_with(1, outputs[kept_positions_name(1)])
    with pytest.raises(ExportError, match="must gather by a layer's kept tokens, or by the last layer's positions"):
        freeze(damaged, LengthConfig((20, 10, 5)), mean_embedder.spec)
