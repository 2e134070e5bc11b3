"""Without a length config: transformers' BERT, at 1e-5. And its checkpoints."""

from __future__ import annotations

import json

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import BertConfig

from dynbert_export.modeling import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
    BertModel,
)
from tests.exporter.modeling.builders import (
    make_config,
    make_head_inputs,
    make_inputs,
    make_model,
    make_transformers_twin,
)

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
MODELS = [
    BertModel,
    BertForPreTraining,
    BertLMHeadModel,
    BertForMaskedLM,
    BertForNextSentencePrediction,
    BertForSequenceClassification,
    BertForMultipleChoice,
    BertForTokenClassification,
    BertForQuestionAnswering,
]
TIED = [BertForPreTraining, BertLMHeadModel, BertForMaskedLM]
TIED_NAMES = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}


def assert_same_outputs(ours, theirs):
    assert theirs.keys() <= ours.keys()
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, **TOLERANCE)


def make_arguments(kind):
    inputs = make_inputs([12, 7])
    generator = torch.Generator().manual_seed(1)
    if kind == "per_query_mask":
        inputs["attention_mask"] = (torch.rand(2, 12, 12, generator=generator) > 0.3).long()
        inputs["attention_mask"][:, :, 0] = 1
    elif kind == "bool_mask":
        inputs["attention_mask"] = inputs["attention_mask"].bool()
    elif kind == "float_mask":
        inputs["attention_mask"] = inputs["attention_mask"].float()
    elif kind == "shared_mask":
        inputs["attention_mask"] = inputs["attention_mask"][1:]
    elif kind == "ids_only":
        inputs = {"input_ids": inputs["input_ids"]}
    elif kind == "embeds":
        del inputs["input_ids"]
        inputs["inputs_embeds"] = torch.randn(2, 12, 32, generator=generator)
    elif kind == "position_ids":
        inputs["position_ids"] = torch.arange(20, 8, -1)[None]
    elif kind == "head_mask":
        inputs["head_mask"] = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 0], [1, 1, 1, 1]])
    return inputs


@pytest.mark.parametrize(
    "kind",
    [
        "padded", "per_query_mask", "bool_mask", "float_mask", "shared_mask", "ids_only", "embeds", "position_ids",
        "head_mask",
    ],
)  # fmt: skip
@torch.no_grad()
def test_bert_model_equals_transformers(kind):
    model = make_model(BertModel)
    arguments = {**make_arguments(kind), "output_hidden_states": True, "output_attentions": True}
    ours = model(**arguments)
    assert_same_outputs(ours, make_transformers_twin(model)(**arguments))
    assert ours.kept_positions is None


@pytest.mark.parametrize("position_embedding_type", ["relative_key", "relative_key_query"])
@torch.no_grad()
def test_relative_positions_equal_transformers(position_embedding_type):
    model = make_model(BertModel, position_embedding_type=position_embedding_type)
    inputs = make_inputs([12, 7])
    assert_same_outputs(model(**inputs), make_transformers_twin(model)(**inputs))


@pytest.mark.parametrize("model_class", MODELS)
def test_parameter_names_equal_transformers(model_class):
    config = make_config()
    ours = {name: tuple(value.shape) for name, value in model_class(config).state_dict().items()}
    twin = getattr(transformers, model_class.__name__)(config)
    assert ours == {name: tuple(value.shape) for name, value in twin.state_dict().items()}


@pytest.mark.parametrize(
    ("start", "end"),
    [([3, 1], [5, 6]), ([0, 40], [2, 40]), ([[3], [1]], [[5], [6]]), ([-3, 2], [1, 2])],
    ids=["inside", "one_outside", "column", "negative"],
)
def test_question_answering_loss_equals_transformers(start, end):
    model = make_model(BertForQuestionAnswering)
    arguments = {
        **make_inputs([12, 7]),
        "start_positions": torch.tensor(start),
        "end_positions": torch.tensor(end),
    }
    ours = model(**arguments)
    assert_same_outputs(ours, make_transformers_twin(model)(**arguments))
    assert torch.isfinite(ours.loss)


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({"num_labels": 3}, torch.tensor([2, 0])),
        ({"num_labels": 1}, torch.tensor([0.3, -2.0])),
        ({"num_labels": 1}, torch.tensor([[0.3], [-2.0]])),
        ({"num_labels": 3}, torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])),
        ({"num_labels": 3, "problem_type": "regression"}, torch.tensor([[1.5, 0.0, 1.0], [0.0, -2.0, 1.0]])),
    ],
    ids=["classes", "number", "number_column", "many_labels", "many_numbers"],
)
def test_sequence_classification_loss_equals_transformers(changes, labels):
    model = make_model(BertForSequenceClassification, **changes)
    arguments = {**make_inputs([12, 7]), "labels": labels}
    ours = model(**arguments)
    assert_same_outputs(ours, make_transformers_twin(model)(**arguments))
    assert model.config.problem_type == changes.get("problem_type")  # transformers writes it into the config


def test_gradients_equal_transformers():
    model = make_model(BertForQuestionAnswering)
    twin = make_transformers_twin(model)
    arguments = {**make_inputs([12, 7]), "start_positions": torch.tensor([3, 1]), "end_positions": torch.tensor([5, 6])}
    model(**arguments).loss.backward()
    twin(**arguments).loss.backward()
    expected = {name: parameter.grad for name, parameter in twin.named_parameters()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name], **TOLERANCE)


def test_new_weights_are_initialised_as_bert_does():
    model = BertModel(make_config(hidden_size=64, initializer_range=0.05))
    table = model.embeddings.word_embeddings.weight
    assert table[0].abs().max() == 0  # padding
    assert table[1:].std().item() == pytest.approx(0.05, rel=0.05)
    dense = model.encoder.layer[0].intermediate.dense
    assert dense.weight.std().item() == pytest.approx(0.05, rel=0.1)
    assert dense.bias.abs().max() == 0
    assert (model.embeddings.LayerNorm.weight == 1).all()


@pytest.mark.parametrize("model_class", MODELS)
@torch.no_grad()
def test_checkpoint_round_trips_through_transformers(model_class, tmp_path):
    model = make_model(model_class)
    model.save_pretrained(tmp_path / "ours")
    assert (tmp_path / "ours" / "model.safetensors").is_file()
    twin, report = getattr(transformers, model_class.__name__).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report.values())
    twin.save_pretrained(tmp_path / "theirs")
    again, report = model_class.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert not any(report.values())
    inputs = make_head_inputs(model_class, [9, 4])
    assert_same_outputs(again(**inputs), model(**inputs))


@pytest.mark.parametrize("model_class", TIED)
def test_tied_weights_are_saved_once_and_tied_again(model_class, tmp_path):
    model = make_model(model_class)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert set(saved) == set(model.state_dict()) - TIED_NAMES
    again = model_class.from_pretrained(tmp_path)
    predictions = again.cls.predictions
    assert predictions.decoder.weight is again.get_input_embeddings().weight
    assert predictions.decoder.bias is predictions.bias
    torch.testing.assert_close(predictions.bias, model.cls.predictions.bias)


def test_weights_that_are_not_to_be_tied_are_not(tmp_path):
    model = make_model(BertForMaskedLM, tie_word_embeddings=False)
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    model.save_pretrained(tmp_path)
    again, report = BertForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    torch.testing.assert_close(again.get_output_embeddings().weight, model.get_output_embeddings().weight)


@pytest.mark.parametrize("model_class", TIED)
@torch.no_grad()
def test_vocabulary_can_grow(model_class):
    model = make_model(model_class)
    inputs = make_inputs([9])
    first = "prediction_logits" if model_class is BertForPreTraining else "logits"
    before = model(**inputs)[first]
    model.resize_token_embeddings(130, mean_resizing=False)
    after = model(**inputs)[first]
    assert after.shape == (1, 9, 130)
    torch.testing.assert_close(after[..., :120], before)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.cls.predictions.bias is model.get_output_embeddings().bias
    layer = torch.nn.Linear(32, 7)
    model.set_output_embeddings(layer)
    assert model.get_output_embeddings() is layer
    assert model.cls.predictions.bias is layer.bias


POOLER = {"bert.pooler.dense.weight", "bert.pooler.dense.bias"}
PREDICTIONS = {
    f"cls.predictions.{name}"
    for name in ("bias", "transform.dense.weight", "transform.dense.bias", "transform.LayerNorm.weight",
                 "transform.LayerNorm.bias")
}  # fmt: skip


@pytest.mark.parametrize(
    ("saved", "loaded", "missing", "unexpected"),
    [
        (BertForPreTraining, BertForMaskedLM, set(),
         {"cls.seq_relationship.weight", "cls.seq_relationship.bias"}),  # its pooler goes without a word
        (BertForMaskedLM, BertForTokenClassification, {"classifier.weight", "classifier.bias"}, PREDICTIONS),
        (BertForMaskedLM, BertForPreTraining,
         {*POOLER, "cls.seq_relationship.weight", "cls.seq_relationship.bias"}, set()),
        (BertForSequenceClassification, BertForMultipleChoice, set(), set()),
        (BertForQuestionAnswering, BertForSequenceClassification,
         {*POOLER, "classifier.weight", "classifier.bias"}, {"qa_outputs.weight", "qa_outputs.bias"}),
        (BertModel, BertForNextSentencePrediction, {"cls.seq_relationship.weight", "cls.seq_relationship.bias"}, set()),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_checkpoint_of_one_head_loads_into_another_with_a_report(saved, loaded, missing, unexpected, tmp_path):
    model = make_model(saved, num_labels=1 if saved is BertForSequenceClassification else 2)
    model.save_pretrained(tmp_path)
    again, report = loaded.from_pretrained(tmp_path, output_loading_info=True)
    assert set(report["missing_keys"]) == missing
    assert set(report["unexpected_keys"]) == unexpected
    assert not report["mismatched_keys"]
    expected = model.base_model.state_dict()
    for name, value in again.base_model.state_dict().items():
        if name in expected:
            torch.testing.assert_close(value, expected[name])
    assert all(torch.isfinite(value).all() for value in again.state_dict().values())


@torch.no_grad()
def test_headless_checkpoint_loads_into_heads_and_back(tmp_path):
    model = make_model(BertModel)
    model.save_pretrained(tmp_path / "base")
    head, report = BertForQuestionAnswering.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert set(report["missing_keys"]) == {"qa_outputs.weight", "qa_outputs.bias"}
    assert not report["unexpected_keys"]
    head.save_pretrained(tmp_path / "head")
    again, report = BertModel.from_pretrained(tmp_path / "head", add_pooling_layer=False, output_loading_info=True)
    assert not report["missing_keys"]
    assert again.pooler is None
    inputs = make_inputs([9, 4])
    torch.testing.assert_close(again(**inputs).last_hidden_state, model(**inputs).last_hidden_state)
    assert again(**inputs).pooler_output is None


@pytest.mark.parametrize("model_class", [BertForSequenceClassification, BertForPreTraining])
@torch.no_grad()
def test_old_checkpoint_loads_with_position_ids_and_gamma_and_beta(model_class, tmp_path):
    model = make_model(model_class)
    model.save_pretrained(tmp_path)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for name, value in load_file(tmp_path / "model.safetensors").items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(64)[None]
    assert any(name.endswith("LayerNorm.gamma") for name in old)
    save_file(old, tmp_path / "model.safetensors", metadata={"format": "pt"})
    again, report = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    inputs = make_inputs([9, 4])
    assert_same_outputs(again(**inputs), model(**inputs))


def test_state_dict_with_position_ids_loads_strictly():
    model = make_model(BertForSequenceClassification)
    old = {**model.state_dict(), "bert.embeddings.position_ids": torch.arange(64)[None]}
    model.load_state_dict(old)
    assert "bert.embeddings.position_ids" in old  # the caller's dict stays whole
    assert "bert.embeddings.position_ids" not in model.state_dict()


@pytest.mark.parametrize("length_config", ["(9, 5, 2)", [9, 5, 2], None])
@torch.no_grad()
def test_length_config_of_a_saved_config_is_used(length_config, tmp_path):
    model = make_model(BertModel, length_config=length_config)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()).get("length_config") == length_config
    again = BertModel.from_pretrained(tmp_path)
    kept = again(**make_inputs([12])).kept_positions
    assert (kept and [positions.shape[1] for positions in kept]) == (length_config and [9, 5, 2])


def test_config_with_a_length_config_is_never_evaluated(tmp_path):
    target = tmp_path / "touched"
    config = BertConfig.from_dict({**make_config().to_dict(), "length_config": f"open({str(target)!r}, 'w')"})
    with pytest.raises(ValueError, match="must be a number"):
        BertModel(config)
    assert not target.exists()


def test_ranking_loss_is_the_cross_entropy_of_yes_and_no():
    model = make_model(BertForSequenceClassification, num_labels=1)
    model.config.problem_type = "ranking"
    labels = torch.tensor([1.0, 0.3])
    output = model(**make_inputs([12, 7]), labels=labels)
    yes = output.logits.view(-1).double().sigmoid()
    torch.testing.assert_close(output.loss.double(), -(labels * yes.log() + (1 - labels) * (1 - yes).log()).mean())
    assert output.loss.dtype == torch.float32
