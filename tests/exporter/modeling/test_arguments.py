"""What is refused, and what the models return and let replace."""

from __future__ import annotations

import pytest
import torch
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from dynbert.errors import InputError
from dynbert_export import modeling
from dynbert_export.modeling import BertForQuestionAnswering, BertForSequenceClassification, BertLayer, BertModel
from tests.exporter.modeling.builders import make_config, make_inputs, make_model


def test_public_names_exist():
    assert sorted(modeling.__all__) == sorted(set(modeling.__all__))
    assert all(hasattr(modeling, name) for name in modeling.__all__)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoder_hidden_states": torch.zeros(1, 2, 32)}, "encoder_hidden_states must be None for an encoder, got T"),
        ({"encoder_attention_mask": torch.ones(1, 2)}, "encoder_attention_mask must be None"),
        ({"past_key_values": ()}, "past_key_values must be None .* got tuple. Set config.is_decoder to True"),
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


@pytest.mark.parametrize("use_cache", [None, False, True])
def test_encoder_has_no_cache_to_return(use_cache):
    assert make_model(BertModel)(**make_inputs([9]), use_cache=use_cache).past_key_values is None


@pytest.mark.parametrize(
    ("model_class", "changes", "message"),
    [
        (BertModel, {"add_cross_attention": True}, "config.is_decoder must be True where config.add_cross_attention"),
        (BertLayer, {"add_cross_attention": True}, "config.is_decoder must be True where config.add_cross_attention"),
        (BertModel, {"hidden_size": 30}, r"multiple of num_attention_heads \(4\), got 30"),
        (BertModel, {"position_embedding_type": "rotary"}, "relative_key_query, got 'rotary'"),
        (BertForQuestionAnswering, {"num_labels": 3}, "num_labels must be 2 .* got 3"),
    ],
)
def test_unusable_configs_are_refused(model_class, changes, message):
    with pytest.raises(InputError, match=message):
        model_class(make_config(**changes))


@pytest.mark.parametrize("position_embedding_type", ["absolute", "relative_key", "relative_key_query"])
def test_text_that_is_too_long_is_refused_for_every_kind_of_positions(position_embedding_type):
    model = make_model(BertModel, position_embedding_type=position_embedding_type)
    with pytest.raises(InputError, match="at most 64 tokens, got 65"):
        model(**make_inputs([65]))


def test_unknown_problem_type_is_refused():
    model = make_model(BertForSequenceClassification)
    model.config.problem_type = "many"
    with pytest.raises(InputError, match=r"problem_type must be regression, .* got 'many' for 2 logits"):
        model(**make_inputs([9]), labels=torch.tensor([1]))


def test_ranking_takes_one_logit():
    model = make_model(BertForSequenceClassification)
    model.config.problem_type = "ranking"
    with pytest.raises(InputError, match=r"or, for one logit, ranking, got 'ranking' for 2 logits"):
        model(**make_inputs([9]), labels=torch.tensor([1.0]))


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
