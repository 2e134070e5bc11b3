"""Every head: transformers' numbers and losses without lengths, and the same dropping as the model inside."""

from __future__ import annotations

import pytest
import torch

from dynbert.errors import InputError
from dynbert_export import modeling
from dynbert_export.modeling import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
)
from tests.exporter.modeling.builders import (
    HEAD_CLASSES,
    make_arguments,
    make_head_inputs,
    make_inputs,
    make_model,
    make_transformers_twin,
)

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
LENGTHS = (12, 7, 3)


@pytest.mark.parametrize("head", HEAD_CLASSES)
@torch.no_grad()
def test_head_equals_transformers(head):
    model = make_model(head)
    arguments = make_arguments(head, output_hidden_states=True, output_attentions=True)
    ours, twin = model(**arguments), make_transformers_twin(model)
    theirs = twin(**arguments)
    assert list(ours) == list(theirs)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], **TOLERANCE)
    torch.testing.assert_close(model(**arguments, return_dict=False), twin(**arguments, return_dict=False), **TOLERANCE)


@pytest.mark.parametrize("head", HEAD_CLASSES)
@torch.no_grad()
def test_head_drops_as_the_model_inside(head):
    model = make_model(head)
    arguments = make_arguments(head, output_hidden_states=True, output_attentions=True)
    output = model(**arguments, length_config=LENGTHS)
    inner = {name: value.flatten(0, -2) for name, value in make_head_inputs(head, [16, 9]).items()}
    expected = model.bert(**inner, length_config=LENGTHS)
    torch.testing.assert_close(output.kept_positions, expected.kept_positions)
    assert [positions.shape[1] for positions in output.kept_positions] == list(LENGTHS)
    assert [states.shape[1] for states in output.hidden_states] == [16, *LENGTHS]
    assert [probs.shape[-1] for probs in output.attentions] == [16, *LENGTHS[:2]]

    scores = [name for name in output if name.endswith("logits")]
    full = model(**arguments)
    assert all((output[name] - full[name]).abs().max() > 1e-3 for name in scores)
    model.set_length_config(LENGTHS)
    for name in ("loss", *scores):
        torch.testing.assert_close(model(**arguments)[name], output[name])
    torch.testing.assert_close(model(**arguments, length_config=()).loss, full.loss)
    assert [p.shape[1] for p in model(**arguments, layer_config=[0, 2]).kept_positions] == [12, 3]


@pytest.mark.parametrize("head", HEAD_CLASSES)
@torch.no_grad()
def test_head_may_drop_cls_where_asked(head):
    model = make_model(head)
    inputs = make_head_inputs(head, [16] * 12)
    assert model(**inputs, length_config=(4, 2, 1)).kept_positions[-1].max() == 0
    assert model(**inputs, length_config=(4, 2, 1), always_keep_cls_token=False).kept_positions[-1].max() > 0


@pytest.mark.parametrize("head", [BertForMaskedLM, BertLMHeadModel, BertForTokenClassification])
@torch.no_grad()
def test_ignored_labels_have_no_part_in_the_loss(head):
    model = make_model(head)
    arguments = make_arguments(head)
    one = torch.full_like(arguments["labels"], -100)
    one[0, 4] = 1
    output = model(**{**arguments, "labels": one})
    foretold = output.logits[0, 3 if head is BertLMHeadModel else 4]
    torch.testing.assert_close(output.loss, -foretold.log_softmax(dim=-1)[1])


@torch.no_grad()
def test_pretraining_loss_is_the_sum_of_both_and_needs_both():
    model = make_model(BertForPreTraining)
    arguments = make_arguments(BertForPreTraining)
    output = model(**arguments)
    expected = torch.nn.functional.cross_entropy(output.prediction_logits.flatten(0, 1), arguments["labels"].flatten())
    expected += torch.nn.functional.cross_entropy(output.seq_relationship_logits, torch.tensor([0, 1]))
    torch.testing.assert_close(output.loss, expected)
    for name in ("labels", "next_sentence_label"):
        assert model(**{**arguments, name: None}).loss is None


@torch.no_grad()
def test_next_sentence_head_takes_its_old_label_and_swallows_nothing():
    model = make_model(BertForNextSentencePrediction)
    inputs, labels = make_inputs([16, 9]), torch.tensor([1, 0])
    with pytest.warns(FutureWarning, match="pass labels instead"):
        output = model(**inputs, next_sentence_label=labels)
    torch.testing.assert_close(output.loss, model(**inputs, labels=labels).loss)
    with pytest.raises(TypeError, match="no argument length_confg"):
        model(**inputs, length_confg=LENGTHS)


@pytest.mark.parametrize("kind", ["shared", "per_query", "bool", "embeds"])
@torch.no_grad()
def test_multiple_choice_takes_every_form_of_arguments(kind):
    model = make_model(BertForMultipleChoice)
    arguments = make_head_inputs(BertForMultipleChoice, [9, 9], tokens=16)
    mask = arguments["attention_mask"]
    expected = model(**arguments, length_config=LENGTHS).logits
    assert expected.shape == (2, 2)
    if kind == "shared":
        arguments["attention_mask"] = mask[:1, :1]
        arguments["position_ids"] = torch.arange(16).expand(1, 1, -1)
    elif kind == "per_query":
        arguments["attention_mask"] = mask[:, :, None, :].expand(-1, -1, 16, -1)
    elif kind == "bool":
        arguments["attention_mask"] = mask.bool()
    else:
        arguments["inputs_embeds"] = model.get_input_embeddings()(arguments.pop("input_ids"))
    torch.testing.assert_close(model(**arguments, length_config=LENGTHS).logits, expected)


def test_multiple_choice_without_choices_is_refused():
    model = make_model(BertForMultipleChoice)
    with pytest.raises(InputError, match=r"input_ids must be \[batch, choices, tokens\], got \[1, 9\]"):
        model(**make_inputs([9]))
    with pytest.raises(InputError, match=r"inputs_embeds must be \[batch, choices, tokens, hidden\], got \[1, 9, 32\]"):
        model(inputs_embeds=torch.zeros(1, 9, 32))
    with pytest.raises(InputError, match="got neither"):
        model()


@pytest.mark.parametrize("head", [BertForMultipleChoice, BertForSequenceClassification, BertForTokenClassification])
def test_classifier_dropout_is_used(head):
    assert make_model(head, classifier_dropout=0.3).dropout.p == 0.3
    assert make_model(head, classifier_dropout=0.0, hidden_dropout_prob=0.2).dropout.p == 0.0
    assert make_model(head, hidden_dropout_prob=0.2).dropout.p == 0.2


def test_output_of_pretraining_can_be_built_by_position():
    fields = [torch.zeros(()), torch.zeros(1, 2, 3), torch.zeros(1, 2)]
    output = modeling.BertForPreTrainingOutput(*fields)
    assert [name for name, value in output.items() if value is not None] == [
        "loss", "prediction_logits", "seq_relationship_logits",
    ]  # fmt: skip
    assert output.prediction_logits is fields[1]
