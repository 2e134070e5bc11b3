"""Autocast, half precision, torch.compile, copies and pickles: the model in the hands of other machinery."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from dynbert_export.modeling import (
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertLMHeadModel,
)
from tests.exporter.modeling.builders import (
    HEAD_CLASSES,
    make_arguments,
    make_inputs,
    make_model,
)

LENGTHS = [None, (12, 7, 3)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("length_config", LENGTHS, ids=str)
@pytest.mark.parametrize("head", HEAD_CLASSES)
def test_autocast_trains_every_head(head, length_config, dtype):
    model = make_model(head).train()
    arguments = make_arguments(head, length_config=length_config)
    expected = model(**arguments).loss
    with torch.autocast("cpu", dtype=dtype):
        loss = model(**arguments).loss
    # Half precision may keep another token where two are nearly equal.
    torch.testing.assert_close(loss.float(), expected, rtol=0.05 if length_config is None else 0.2, atol=0)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("length_config", LENGTHS, ids=str)
@torch.no_grad()
def test_half_precision_model_runs(length_config, dtype):
    model = make_model(BertForQuestionAnswering)
    inputs = make_inputs([16, 9])
    expected = model(**inputs).start_logits
    output = model.to(dtype)(**inputs, length_config=length_config)
    assert output.start_logits.dtype == dtype
    assert torch.isfinite(output.start_logits).all()
    if length_config is None:
        torch.testing.assert_close(output.start_logits.float(), expected, rtol=0.1, atol=0.1)


@pytest.mark.parametrize(
    "model_class",
    [
        BertForSequenceClassification,
        *(pytest.param(other, marks=pytest.mark.slow) for other in (BertForQuestionAnswering, BertForMaskedLM)),
    ],
)
@torch.no_grad()
def test_compiled_full_path_is_one_graph_and_equals_eager(model_class):
    model = make_model(model_class)
    inputs = make_inputs([16, 9])
    expected = model(**inputs)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    output = compiled(**inputs)
    for name, value in expected.items():
        torch.testing.assert_close(output[name], value)


def test_compiled_full_path_gives_the_same_gradients():
    model = make_model(BertForSequenceClassification)
    arguments = make_arguments(BertForSequenceClassification)
    model(**arguments).loss.backward()
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    torch.compiler.reset()
    torch.compile(model, backend="aot_eager", fullgraph=True)(**arguments).loss.backward()
    torch.testing.assert_close([parameter.grad for parameter in model.parameters()], expected)


@torch.no_grad()
def test_compiled_model_with_lengths_equals_eager():
    model = make_model(BertForSequenceClassification)
    inputs = make_inputs([16, 9])
    model.set_length_config((12, 7, 3))
    torch.compiler.reset()
    output = torch.compile(model, backend="eager")(**inputs)
    torch.testing.assert_close(output.logits, model(**inputs).logits)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))],  # noqa: S301
                         ids=["deepcopy", "pickle"])  # fmt: skip
@pytest.mark.parametrize("head", HEAD_CLASSES)
@torch.no_grad()
def test_copies_equal_the_original_and_share_nothing_with_it(head, duplicate):
    model = make_model(head)
    model.set_length_config((12, 7, 3))
    model.gradient_checkpointing_enable()
    again = duplicate(model)
    arguments = make_arguments(head)
    expected = model(**arguments)
    output = again(**arguments)
    torch.testing.assert_close(output.loss, expected.loss)
    torch.testing.assert_close(output.kept_positions, expected.kept_positions)
    pointers = {parameter.data_ptr() for parameter in model.parameters()}
    assert not pointers & {parameter.data_ptr() for parameter in again.parameters()}
    if hasattr(again.get_output_embeddings(), "weight"):
        assert again.get_output_embeddings().weight is again.get_input_embeddings().weight
        assert again.cls.predictions.decoder.bias is again.cls.predictions.bias
    again.set_length_config(None)
    assert model.base_model.length_config is not None


@torch.no_grad()
def test_output_of_a_decoder_pickles():
    output = make_model(BertLMHeadModel, is_decoder=True)(**make_inputs([5]), use_cache=True)
    again = pickle.loads(pickle.dumps(output))  # noqa: S301
    torch.testing.assert_close(again.past_key_values, output.past_key_values)
