"""Gradient checkpointing, chunked feed-forward, pruning: the ways in which a layer is run or built otherwise."""

from __future__ import annotations

import pytest
import torch

from dynbert_export.modeling import BertForQuestionAnswering, BertForSequenceClassification, BertModel
from tests.exporter.modeling.builders import (
    HEAD_CLASSES,
    make_arguments,
    make_inputs,
    make_model,
)

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
LENGTHS = [None, (12, 7, 3), (16, 16, 3)]


def compute_gradients(model, **arguments):
    torch.manual_seed(0)  # dropout
    model.train()
    model.zero_grad()
    labels = {"start_positions": torch.tensor([3, 1]), "end_positions": torch.tensor([5, 6])}
    output = model(**make_inputs([16, 9]), **labels, **arguments)
    output.loss.backward()
    return output, {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("options", [None, {"use_reentrant": False}], ids=["reentrant", "not_reentrant"])
@pytest.mark.parametrize("length_config", LENGTHS, ids=str)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_gradient_checkpointing_gives_the_same_gradients(options, length_config, dropout):
    model = make_model(BertForQuestionAnswering, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    expected_output, expected = compute_gradients(model, length_config=length_config, output_attentions=True)
    model.gradient_checkpointing_enable(options)
    assert model.is_gradient_checkpointing
    output, gradients = compute_gradients(model, length_config=length_config, output_attentions=True)
    torch.testing.assert_close(output.loss, expected_output.loss)
    torch.testing.assert_close(output.attentions, expected_output.attentions, **TOLERANCE)
    without = {name for name, gradient in gradients.items() if gradient is None or not gradient.any()}
    # Softmax takes no notice of what is added to all scores alike; everything else learns.
    assert without <= {name for name in gradients if name.endswith(("self.key.bias", "qa_outputs.bias"))}
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, **TOLERANCE)


@pytest.mark.parametrize("options", [None, {"use_reentrant": False}], ids=["reentrant", "not_reentrant"])
@pytest.mark.parametrize("length_config", LENGTHS[:2], ids=str)
@pytest.mark.parametrize("head", HEAD_CLASSES)
def test_gradient_checkpointing_of_every_head_gives_the_same_gradients(head, length_config, options):
    model = make_model(head).train()
    arguments = make_arguments(head, length_config=length_config)

    def compute_head_gradients():
        model.zero_grad()
        model(**arguments).loss.backward()
        return [parameter.grad for parameter in model.parameters()]

    expected = compute_head_gradients()
    model.gradient_checkpointing_enable(options)
    torch.testing.assert_close(compute_head_gradients(), expected, **TOLERANCE)
    assert sum(gradient is not None and bool(gradient.any()) for gradient in expected) > 0.9 * len(expected)


@pytest.mark.parametrize("head", HEAD_CLASSES)
def test_every_head_learns_with_lengths_and_dropout(head):
    torch.manual_seed(0)
    model = make_model(head, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1).train()
    arguments = make_arguments(head, length_config=(12, 7, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(12):
        losses.append(model(**arguments).loss)
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert torch.stack(losses[-3:]).mean() < torch.stack(losses[:3]).mean()
    assert model(**arguments).loss != model(**arguments).loss  # dropout is on
    model.eval()
    torch.testing.assert_close(model(**arguments).loss, model(**arguments).loss, rtol=0, atol=0)


def test_gradient_checkpointing_runs_layers_again():
    model = make_model(BertForQuestionAnswering)
    model.gradient_checkpointing_enable()
    runs = []
    model.bert.encoder.layer[0].register_forward_hook(lambda *_: runs.append(1))
    compute_gradients(model, length_config=(12, 7, 3))
    assert len(runs) == 2


@pytest.mark.parametrize("chunk", [1, 4, 5, 100])
@pytest.mark.parametrize("length_config", LENGTHS, ids=str)
@torch.no_grad()
def test_chunked_feed_forward_gives_the_same_states_for_any_length(chunk, length_config):
    inputs = make_inputs([16, 9])
    expected = make_model(BertModel)(**inputs, length_config=length_config).last_hidden_state
    model = make_model(BertModel, chunk_size_feed_forward=chunk)
    sizes = []
    model.encoder.layer[0].intermediate.register_forward_hook(lambda _, __, states: sizes.append(states.shape[1]))
    torch.testing.assert_close(model(**inputs, length_config=length_config).last_hidden_state, expected, **TOLERANCE)
    assert max(sizes) == min(chunk, 12 if length_config == (12, 7, 3) else 16)


@pytest.mark.parametrize("length_config", LENGTHS, ids=str)
@torch.no_grad()
def test_pruned_heads_equal_masked_ones(length_config):
    model = make_model(BertForSequenceClassification)
    inputs = make_inputs([16, 9])
    head_mask = torch.ones(3, 4)
    head_mask[0, [1, 3]] = 0
    head_mask[2, 0] = 0
    expected = model(**inputs, head_mask=head_mask, length_config=length_config)
    model.prune_heads({0: [1], 2: [0]})
    model.prune_heads({0: [1, 3]})  # 1 is gone already
    output = model(**inputs, length_config=length_config)
    torch.testing.assert_close(output.logits, expected.logits, **TOLERANCE)
    assert model.bert.encoder.layer[0].attention.self.num_attention_heads == 2
    assert model.bert.encoder.layer[0].attention.output.dense.weight.shape == (32, 16)


@torch.no_grad()
def test_pruned_model_round_trips(tmp_path):
    model = make_model(BertModel)
    model.prune_heads({1: [0, 2]})
    model.save_pretrained(tmp_path)
    again = BertModel.from_pretrained(tmp_path)
    inputs = make_inputs([9])
    torch.testing.assert_close(again(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
