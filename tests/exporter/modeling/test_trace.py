"""One ONNX graph, traced once with the lengths as an input, equals eager PyTorch for any batch, length and config."""

from __future__ import annotations

import io
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from dynbert.errors import InputError, LengthConfigError
from dynbert_export.modeling import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
)
from dynbert_export.modeling import model as model_module
from tests.exporter.modeling.builders import make_head_inputs, make_inputs, make_model

INPUTS = ["input_ids", "attention_mask", "token_type_ids"]
FIELDS = {
    BertModel: ("last_hidden_state", "pooler_output"),
    BertForQuestionAnswering: ("start_logits", "end_logits"),
    BertForSequenceClassification: ("logits",),
}
OTHER_FIELDS = {
    BertForMaskedLM: ("logits",),
    BertForMultipleChoice: ("logits",),
    BertForNextSentencePrediction: ("logits",),
    BertForPreTraining: ("prediction_logits", "seq_relationship_logits"),
    BertForTokenClassification: ("logits",),
}
LENGTHS_OF_TEXTS = [([1], None), ([2], None), ([3, 1], None), ([16], None), ([16, 12, 7, 2], None), ([5, 9], 64)]
CONFIGS = [(12, 7, 3), (64, 64, 64), (1, 1, 1), (2, 2, 1), (500, 8, 5), (9, 9, 9)]


class Traced(nn.Module):
    """The model with tensors in, a flat tuple of tensors out; the lengths are the last input where there are some."""

    def __init__(self, model, names, options):
        super().__init__()
        self.model, self.names, self.options = model, names, options

    def forward(self, *tensors):
        output = self.model(**dict(zip(self.names, tensors, strict=True)), **self.options, return_dict=True)
        fields = (FIELDS | OTHER_FIELDS)[type(self.model)]
        return (*(output[field] for field in fields), *(output.kept_positions or ()))


def trace(model, names=(*INPUTS, "length_config"), example=(9, 6), **options):
    """Return the graph's bytes. Any TracerWarning is an error: a Python decision on a traced size."""
    example_inputs = {**make_head_inputs(type(model), list(example)), "length_config": torch.tensor([7, 5, 3])}
    axes = dict(
        enumerate(["batch", "tokens"] if example_inputs["input_ids"].dim() == 2 else ["batch", "choices", "tokens"])
    )
    with warnings.catch_warnings(), io.BytesIO() as file:
        # The TorchScript exporter announces its end at every call; it is chosen here on purpose.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        torch.onnx.export(
            Traced(model, names, options).eval(),
            tuple(example_inputs[name] for name in names),
            file,
            dynamo=False,
            opset_version=17,
            input_names=list(names),
            dynamic_axes={name: axes for name in names if name != "length_config"},
        )
        return file.getvalue()


def run_graph(graph, inputs):
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    return session.run(None, {name: np.asarray(value) for name, value in inputs.items()})


def assert_graph_equals_eager(model, graph, inputs, length_config, **options):
    with torch.no_grad():
        output = model(**inputs, length_config=length_config, **options)
    fields = (FIELDS | OTHER_FIELDS)[type(model)]
    results = run_graph(graph, {**inputs, "length_config": np.array(length_config, dtype=np.int64)})
    for field, result in zip(fields, results, strict=False):
        np.testing.assert_allclose(result, output[field].numpy(), rtol=0, atol=1e-4)
    kept = results[len(fields) :]
    in_text_order = [positions.sort(dim=1)[0] for positions in output.kept_positions]  # a graph has no other
    assert [positions.tolist() for positions in kept] == [positions.tolist() for positions in in_text_order]


@pytest.fixture(scope="module", params=FIELDS, ids=lambda model_class: model_class.__name__)
def traced(request):
    model = make_model(request.param)
    return model, trace(model)


@pytest.mark.parametrize("length_config", CONFIGS, ids=str)
@pytest.mark.parametrize(("texts", "tokens"), LENGTHS_OF_TEXTS, ids=str)
def test_graph_equals_eager(traced, texts, tokens, length_config):
    assert_graph_equals_eager(*traced, make_inputs(texts, tokens), length_config)


@pytest.mark.parametrize("head", OTHER_FIELDS)
def test_graph_of_every_other_head_equals_eager(head):
    model = make_model(head)
    graph = trace(model)
    for texts in ([1], [16, 9, 2], [64, 5]):
        for length_config in ((12, 7, 3), (64, 64, 64)):
            assert_graph_equals_eager(model, graph, make_head_inputs(head, texts), length_config)


def test_graph_depends_on_the_lengths(traced):
    _, graph = traced
    inputs = make_inputs([16, 12])
    first, second = (run_graph(graph, {**inputs, "length_config": np.array(c)})[0] for c in ((12, 7, 3), (9, 4, 2)))
    assert np.abs(first - second).max() > 1e-3


def test_graph_selects_with_gather_elements_and_sums_one_axis_at_a_time(traced):
    nodes = onnx.load_from_string(traced[1]).graph.node
    counts = {kind: sum(node.op_type == kind for node in nodes) for kind in ("GatherElements", "TopK", "ReduceSum")}
    # Queries are summed up by a product with their votes, heads by ReduceSum.
    # A layer: states; and before the next one: mask, votes, positions (in the first they are what was kept).
    assert counts["TopK"] == 6
    assert counts["ReduceSum"] == 3
    assert counts["GatherElements"] >= 9
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load_from_string(traced[1]).graph.initializer}
    constants |= {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t) for node in nodes if node.op_type == "Constant"
    }
    assert all(constants[node.input[1]].size == 1 for node in nodes if node.op_type == "ReduceSum")


@pytest.mark.parametrize("tokens", [1, 2])
def test_graph_traced_with_a_tiny_example_runs_any_length(tokens):
    model = make_model(BertForQuestionAnswering)
    graph = trace(model, example=(tokens,))
    assert_graph_equals_eager(model, graph, make_inputs([16, 12, 7]), (12, 7, 3))


@pytest.mark.parametrize("changes", [{"position_embedding_type": "relative_key"}, {"chunk_size_feed_forward": 4},
                                     {"position_embedding_type": "relative_key_query"}, {"count_padded_queries": True}],
                         ids=str)  # fmt: skip
def test_graph_of_other_configs_equals_eager(changes):
    model = make_model(BertForQuestionAnswering, **changes)
    graph = trace(model)
    for texts in ([16], [11, 11, 11], [3], [16, 9, 4]):
        assert_graph_equals_eager(model, graph, make_inputs(texts), (10, 6, 3))


def test_graph_that_may_drop_cls_equals_eager():
    model = make_model(BertForQuestionAnswering)
    graph = trace(model, always_keep_cls_token=False)
    inputs = make_inputs([16] * 8)
    assert_graph_equals_eager(model, graph, inputs, (10, 6, 2), always_keep_cls_token=False)
    with torch.no_grad():
        kept = model(**inputs, length_config=(10, 6, 2), always_keep_cls_token=False).kept_positions[-1]
    assert kept[:, 0].max() > 0


def test_graph_without_a_mask_equals_eager_and_computes_none():
    model = make_model(BertForQuestionAnswering)
    graph = trace(model, names=("input_ids", "token_type_ids", "length_config"))
    inputs = make_inputs([16, 16])
    del inputs["attention_mask"]
    assert_graph_equals_eager(model, graph, inputs, (10, 6, 3))
    assert not {"Greater", "Sub"} & {node.op_type for node in onnx.load_from_string(graph).graph.node}


def test_tied_tokens_stay_alike_in_graph_and_eager():
    model = make_model(BertModel)
    with torch.no_grad():
        for layer in model.encoder.layer:  # uniform attention: every significance is equal
            layer.attention.self.query.weight.zero_()
            layer.attention.self.query.bias.zero_()
    graph = trace(model)
    for length_config in ((8, 4, 2), (16, 8, 1)):
        assert_graph_equals_eager(model, graph, make_inputs([16, 16]), length_config)
        kept = run_graph(graph, {**make_inputs([16]), "length_config": np.array(length_config)})[2:]
        assert [positions.tolist() for positions in kept] == [[list(range(length))] for length in length_config]


def test_tied_padding_stays_alike_in_graph_and_eager(traced):
    inputs = make_inputs([4, 2, 1], tokens=20)  # more places than real tokens in every layer: padding is kept
    assert_graph_equals_eager(*traced, inputs, (15, 11, 8))


def test_length_config_set_on_the_model_is_frozen_into_a_graph_that_runs_shorter_inputs():
    model = make_model(BertForQuestionAnswering)
    model.set_length_config((10, 6, 3))
    graph = trace(model, names=tuple(INPUTS))
    for texts in ([16, 9], [8], [2]):
        inputs = make_inputs(texts)
        with torch.no_grad():
            expected = model(**inputs)
        np.testing.assert_allclose(run_graph(graph, inputs)[0], expected.start_logits.numpy(), rtol=0, atol=1e-4)


def test_full_graph_equals_eager_and_drops_nothing():
    model = make_model(BertForQuestionAnswering)
    graph = trace(model, names=tuple(INPUTS))
    inputs = make_inputs([16, 9, 1])
    with torch.no_grad():
        np.testing.assert_allclose(run_graph(graph, inputs)[0], model(**inputs).start_logits.numpy(), rtol=0, atol=1e-4)
    assert not {"TopK", "GatherElements"} & {node.op_type for node in onnx.load_from_string(graph).graph.node}


def test_fractions_cannot_be_traced():
    model = make_model(BertModel, length_config="0.9,0.5,0.2")
    with pytest.raises(LengthConfigError, match=r"must be token counts, got fractions: 0\.9,0\.5,0\.2"):
        trace(model, names=tuple(INPUTS))


def test_mask_per_query_cannot_be_traced(monkeypatch):
    monkeypatch.setattr(model_module, "is_tracing", lambda: True)
    with pytest.raises(InputError, match=r"attention_mask must be \[batch, tokens\] while tracing, got 3 dimensions"):
        make_model(BertModel)(torch.ones(1, 4, dtype=torch.long), torch.ones(1, 4, 4))
