"""What is refused, and the public signatures."""

from __future__ import annotations

import inspect

import pytest
import torch
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from dynbert.errors import InputError
from dynbert_export import modeling
from dynbert_export.modeling import BertForQuestionAnswering, BertForSequenceClassification, BertModel
from tests.exporter.modeling.builders import make_config, make_inputs, make_model

INPUTS = ["input_ids", "attention_mask", "token_type_ids", "position_ids", "head_mask", "inputs_embeds"]
CROSS = ["encoder_hidden_states", "encoder_attention_mask"]
ATTENTION = ["hidden_states", "attention_mask", "head_mask", *CROSS, "past_key_value", "output_attentions"]
OUTPUTS = ["output_attentions", "output_hidden_states", "return_dict"]
LENGTHS = ["layer_config", "length_config", "always_keep_cls_token"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BertEmbeddings", [*INPUTS[:1], *INPUTS[2:4], "inputs_embeds", "past_key_values_length"]),
        ("BertSelfAttention", ATTENTION),
        ("BertSelfOutput", ["hidden_states", "input_tensor"]),
        ("BertAttention", ATTENTION),
        ("BertIntermediate", ["hidden_states"]),
        ("BertOutput", ["hidden_states", "input_tensor"]),
        ("BertLayer", [*ATTENTION, "output_length", "always_keep_cls_token"]),
        ("BertEncoder", [*ATTENTION[:5], "past_key_values", "use_cache", *OUTPUTS, *LENGTHS]),
        ("BertPooler", ["hidden_states"]),
        ("BertModel", [*INPUTS, *CROSS, "past_key_values", "use_cache", *OUTPUTS, *LENGTHS]),
        ("BertForSequenceClassification", [*INPUTS, "labels", *OUTPUTS, *LENGTHS]),
        ("BertForQuestionAnswering", [*INPUTS, "start_positions", "end_positions", *OUTPUTS, *LENGTHS]),
    ],
)
def test_forward_arguments_have_the_names_and_order_of_the_reference(name, expected):
    arguments = list(inspect.signature(getattr(modeling, name).forward).parameters)[1:]
    assert arguments[: len(expected)] == expected
    assert set(arguments[len(expected) :]) <= {"query_votes", "positions"}  # ours, behind the reference's


def test_public_names_exist():
    assert sorted(modeling.__all__) == sorted(set(modeling.__all__))
    assert all(hasattr(modeling, name) for name in modeling.__all__)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder_hidden_states": torch.zeros(1, 2, 32)}, "encoder_hidden_states must be None for an encoder, got T"),
        ({"encoder_attention_mask": torch.ones(1, 2)}, "encoder_attention_mask must be None"),
        ({"past_key_values": ()}, "past_key_values must be None .* got tuple. Decoder mode is not supported yet"),
        ({"use_cache": True}, "use_cache must be None for an encoder, got True"),
        (make_inputs([65]), "An input must have at most 64 tokens, got 65"),
        ({"inputs_embeds": torch.zeros(1, 9, 32)}, "Exactly one of input_ids and inputs_embeds .* got both"),
        ({"input_ids": None}, "got neither"),
        ({"attention_mask": torch.ones(3, 9)}, r"must be \[1 or 1, 9\] or .* got \[3, 9\]"),
        ({"attention_mask": torch.ones(1, 8)}, r"got \[1, 8\]"),
        ({"attention_mask": torch.ones(1, 1, 9, 9)}, r"got \[1, 1, 9, 9\]"),
    ],
)
def test_unusable_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make_model(BertModel)(**{**make_inputs([9]), **arguments})


def test_use_cache_false_is_accepted():
    assert make_model(BertModel)(**make_inputs([9]), use_cache=False).past_key_values is None


@pytest.mark.parametrize(
    ("model_class", "changes", "message"),
    [
        (BertModel, {"is_decoder": True}, "config.is_decoder must be False, got True. Decoder mode is not supported"),
        (BertModel, {"add_cross_attention": True}, "config.add_cross_attention must be False"),
        (BertModel, {"hidden_size": 30}, r"multiple of num_attention_heads \(4\), got 30"),
        (BertModel, {"position_embedding_type": "rotary"}, "relative_key_query, got 'rotary'"),
        (BertForQuestionAnswering, {"num_labels": 3}, "num_labels must be 2 .* got 3"),
    ],
)
def test_unusable_configs_are_refused(model_class, changes, message):
    with pytest.raises(InputError, match=message):
        model_class(make_config(**changes))


def test_layer_of_a_decoder_is_refused():
    with pytest.raises(InputError, match="Decoder mode is not supported yet"):
        modeling.BertLayer(make_config(is_decoder=True))


def test_unknown_problem_type_is_refused():
    model = make_model(BertForSequenceClassification)
    model.config.problem_type = "ranking"
    with pytest.raises(InputError, match=r"problem_type must be regression, .* got 'ranking'"):
        model(**make_inputs([9]), labels=torch.tensor([1]))


def test_input_embeddings_can_be_replaced():
    model = make_model(BertForQuestionAnswering)
    table = torch.nn.Embedding(7, 32)
    model.set_input_embeddings(table)
    assert model.get_input_embeddings() is table
    assert model.bert.embeddings.word_embeddings is table
    model.resize_token_embeddings(11)
    assert model.config.vocab_size == 11


def test_outputs_are_those_of_transformers_with_one_field_more():
    output = make_model(BertForQuestionAnswering)(**make_inputs([9]), length_config=(5, 4, 3))
    assert isinstance(output, QuestionAnsweringModelOutput)
    assert list(output) == ["start_logits", "end_logits", "kept_positions"]
