"""The anytime graph: its names, its form, and that tracing leaves the model and the terminal alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dynbert.inputs import LENGTH_CONFIG
from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_export.checkpoint.load import load_model
from dynbert_export.graph.names import kept_positions_name
from dynbert_export.graph.tracing import trace
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    kept_by,
    make_feed,
    run_graph_in_memory,
    run_torch,
    serialize,
    trace_tiny_model,
    with_lengths,
)

_OUTPUTS = {task: ["logits"] for task in Task} | {
    Task.FEATURE_EXTRACTION: ["last_hidden_state"],
    Task.QUESTION_ANSWERING: ["start_logits", "end_logits"],
    Task.PRETRAINING: ["prediction_logits", "seq_relationship_logits"],
}
_SHAPES = {
    Task.FEATURE_EXTRACTION: ["[batch_size,sequence_length,32]"],
    Task.QUESTION_ANSWERING: ["[batch_size,sequence_length]"] * 2,
    Task.TEXT_CLASSIFICATION: ["[batch_size,3]"],
    Task.TOKEN_CLASSIFICATION: ["[batch_size,sequence_length,3]"],
    Task.FILL_MASK: ["[batch_size,sequence_length,200]"],
    Task.NEXT_SENTENCE_PREDICTION: ["[batch_size,2]"],
    Task.MULTIPLE_CHOICE: ["[batch_size,num_choices]"],
    Task.PRETRAINING: ["[batch_size,sequence_length,200]", "[batch_size,2]"],
}
_INPUTS = {"input_ids", "attention_mask", "token_type_ids", LENGTH_CONFIG}


def test_graph_has_the_names_that_optimum_and_the_other_stages_know(traced):
    graph = traced.graph.graph
    kept = [kept_positions_name(layer) for layer in range(traced.spec.num_layers)]
    assert {value.name for value in graph.inputs} == _INPUTS
    assert [value.name for value in graph.outputs] == _OUTPUTS[traced.checkpoint.task] + kept
    assert {value.dtype for value in graph.inputs} == {ir.DataType.INT64}
    assert [value.dtype for value in graph.outputs[-3:]] == [ir.DataType.INT64] * 3


def test_graph_has_free_batch_and_length(traced):
    shapes = {value.name: value.shape for value in traced.graph.graph.inputs}
    choices = ["num_choices"] if traced.checkpoint.task is Task.MULTIPLE_CHOICE else []
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert [str(dim) for dim in shapes[name]] == ["batch_size", *choices, "sequence_length"]
    assert list(shapes[LENGTH_CONFIG]) == [traced.spec.num_layers]
    outputs = {value.name: str(value.shape) for value in traced.graph.graph.outputs}
    assert [outputs[name] for name in _OUTPUTS[traced.checkpoint.task]] == _SHAPES[traced.checkpoint.task]


def test_graph_is_valid_and_says_who_made_it(traced):
    proto = ir.to_proto(traced.graph)
    onnx.checker.check_model(proto)
    assert proto.producer_name == "dynbert"
    assert traced.graph.opset_imports == {"": 17}


def test_graph_names_no_source_file(traced):
    text = serialize(traced.graph)
    assert b".py" not in text
    assert b"site-packages" not in text


def test_graph_selects_by_gather_elements(traced):
    counts = count_operators(traced.graph)
    assert counts["ScatterElements"] == traced.spec.num_layers
    assert counts["TopK"] == 2 * traced.spec.num_layers
    assert (counts["GatherND"], counts["ScatterND"], counts["Loop"], counts["If"]) == (0, 0, 0, 0)


@pytest.mark.parametrize("lengths", [(64, 64, 64), (20, 10, 5), (1, 1, 1), (1000, 500, 2)])
def test_graph_runs_any_lengths_as_the_model_does(traced, lengths):
    config = LengthConfig(lengths)
    feeds = [traced.arrange(make_feed(batch, tokens, seed=1)) for tokens in (1, 2, 33, 64) for batch in (1, 5)]
    # Unresolved counts: larger ones than there are tokens must be clamped by the graph itself.
    given = [{**feed, LENGTH_CONFIG: np.array(lengths)} for feed in feeds]
    for feed, outputs in zip(feeds, run_graph_in_memory(traced.graph, *given), strict=True):
        expected, kept = run_torch(traced, feed, config)
        for name in _OUTPUTS[traced.checkpoint.task]:
            assert_informative(expected[name])
            np.testing.assert_allclose(outputs[name], expected[name], rtol=0, atol=1e-4)
        for layer, positions in enumerate(kept):
            np.testing.assert_array_equal(kept_by(outputs)[layer], positions)


def test_ties_are_broken_by_position_in_the_graph_and_in_torch(tmp_path):
    """With no query weights all attention is uniform, so that every token is equally significant."""
    import torch

    traced = trace_tiny_model(tmp_path, Task.FEATURE_EXTRACTION)
    with torch.no_grad():
        for layer in traced.model.encoder.layer:
            layer.attention.self.query.weight.zero_()
            layer.attention.self.query.bias.zero_()
    graph = trace(traced.model, Task.FEATURE_EXTRACTION, opset=17, always_keep_cls_token=True)
    feed, config = make_feed(1, 16), LengthConfig((9, 6, 4))
    [outputs] = run_graph_in_memory(graph, with_lengths(feed, config, traced.spec))
    _, kept = run_torch(traced, feed, config)
    for layer, count in enumerate(config.lengths):
        np.testing.assert_array_equal(kept_by(outputs)[layer], [np.arange(count)])
        np.testing.assert_array_equal(kept[layer], [np.arange(count)])


def test_trace_leaves_the_model_as_it_was(traced_embedder):
    model = load_model(traced_embedder.checkpoint)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trace(model, Task.FEATURE_EXTRACTION, opset=17, always_keep_cls_token=True)
    assert not any(module.training for module in model.modules())
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(tensor, before[name])


def test_trace_is_silent_and_repeatable(traced_embedder, capfd, recwarn):
    again = trace(traced_embedder.model, Task.FEATURE_EXTRACTION, opset=17, always_keep_cls_token=True)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
    assert serialize(again) == serialize(traced_embedder.graph)


@pytest.mark.parametrize("opset", [17, 18, 20])
def test_trace_writes_the_opset_that_is_asked_for(traced_embedder, opset):
    graph = trace(traced_embedder.model, Task.FEATURE_EXTRACTION, opset=opset, always_keep_cls_token=True)
    assert graph.opset_imports == {"": opset}
    feed, config = make_feed(3, 20), LengthConfig((12, 8, 3))
    [outputs] = run_graph_in_memory(graph, with_lengths(feed, config, traced_embedder.spec))
    expected, _ = run_torch(traced_embedder, feed, config)
    np.testing.assert_allclose(outputs["last_hidden_state"], expected["last_hidden_state"], rtol=0, atol=1e-4)
