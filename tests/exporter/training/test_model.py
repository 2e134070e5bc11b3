"""From a checkpoint to a model that can be trained: its own head or a new one, its layers, its teacher."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

from dynbert.errors import InputError
from dynbert.manifest import PoolingMode, Task
from dynbert.scoring.examples import LabelledData, TextExample
from dynbert_export.errors import CheckpointError
from dynbert_export.options.vocabularies import TrainingTaskOption
from dynbert_export.training.model import (
    TRAINED_TASKS,
    build_model,
    find_start,
    fit_head,
    load_teacher,
    load_training_tokenizer,
)
from tests.helpers.checkpoints import edit_json, make_checkpoint, write_sentence_transformers_files
from tests.helpers.training import make_encoder

_TEXTS = TrainingTaskOption.TEXT_CLASSIFICATION


def _data(task=Task.TEXT_CLASSIFICATION, names=("a", "b"), problem="single_label_classification"):
    return LabelledData(task, (TextExample("x", None, 0),), names, problem, "data")


def _find(model, task=TrainingTaskOption.AUTO, **options):
    return find_start(str(model), task=task, **options)


@pytest.mark.parametrize("task", TRAINED_TASKS)
def test_the_task_is_that_of_the_head(task, tmp_path):
    start = _find(make_checkpoint(tmp_path / "model", task, num_labels=3))
    assert (start.task, start.has_head, start.notes) == (task, True, ())
    assert bool(start.labels) == (task in {Task.TEXT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION})
    assert start.problem_type == ("single_label_classification" if task is Task.TEXT_CLASSIFICATION else None)
    assert start.layers == (0, 1, 2)


@pytest.mark.parametrize("task", [Task.FILL_MASK, Task.PRETRAINING, Task.NEXT_SENTENCE_PREDICTION])
def test_tasks_without_a_loss_of_labelled_data_are_refused(task, tmp_path):
    model = make_checkpoint(tmp_path / "model", task)
    with pytest.raises(
        InputError, match=r"Task must be given for a checkpoint of BertFor.*, got auto\. Pass --task, one of"
    ):
        _find(model)
    assert _find(model, _TEXTS).notes == ("The checkpoint has no head for text-classification: it gets a new one.",)


def test_files_of_sentence_transformers_mean_embeddings(embedder):
    start = _find(embedder)
    assert (start.task, start.pooling.mode, start.pooling.normalize) == (
        Task.FEATURE_EXTRACTION,
        PoolingMode.MEAN,
        True,
    )


def test_a_new_head_has_the_labels_of_the_data(encoder):
    start = _find(encoder, _TEXTS)
    config = fit_head(start, _data(names=("no", "yes", "maybe")))
    assert config.id2label == {0: "no", 1: "yes", 2: "maybe"}
    assert config.problem_type == "single_label_classification"
    model = build_model(start, config)
    assert model.training
    assert model.classifier.weight.shape == (3, 32)
    assert model.classifier.weight.std() > 0.01
    assert model.classifier.bias.abs().max() == 0
    stored = load_file(encoder / "model.safetensors")
    assert torch.equal(model.bert.encoder.layer[1].output.dense.weight, stored["encoder.layer.1.output.dense.weight"])
    assert start.config.num_labels == 2  # as it was


@pytest.mark.parametrize(("problem", "stated"), [("regression", "regression"), ("ranking", None)])
def test_a_number_has_one_logit(encoder, problem, stated):
    start = _find(encoder, _TEXTS)
    config = fit_head(start, _data(names=(), problem=problem))
    assert (config.num_labels, config.problem_type) == (1, stated)
    assert type(config).from_dict(config.to_dict()).problem_type == stated  # transformers reads it again


def test_a_head_of_another_task_is_not_taken_for_it(tmp_path):
    """Both are called classifier."""
    start = _find(make_checkpoint(tmp_path / "model", Task.TOKEN_CLASSIFICATION), _TEXTS)
    model = build_model(start, fit_head(start, _data(names=("a", "b", "c"))))
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert not start.has_head
    assert model.classifier.weight.shape == stored["classifier.weight"].shape
    assert not torch.equal(model.classifier.weight, stored["classifier.weight"])


def test_the_checkpoint_s_own_head_is_kept(tmp_path):
    start = _find(make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION))
    model = build_model(start, fit_head(start, _data(names=start.labels)))
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert torch.equal(model.classifier.weight, stored["classifier.weight"])


def test_dropout_is_the_training_s_and_not_the_checkpoint_s(encoder):
    start = _find(encoder, _TEXTS)
    for given, expected in ((None, 0.1), (0.0, 0.0)):
        model = build_model(start, fit_head(start, _data(names=("a", "b"))), dropout=given)
        assert {module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)} == {expected}
        assert (model.config.hidden_dropout_prob, model.config.attention_probs_dropout_prob) == (0.1, 0.1)


def test_layers_are_those_that_were_asked_for(tmp_path):
    checkpoint = make_checkpoint(tmp_path / "model")
    start = _find(checkpoint, TrainingTaskOption.FEATURE_EXTRACTION, layers=(2, 0, 2))
    assert start.layers == (0, 2)
    model = build_model(start, fit_head(start, _data(Task.FEATURE_EXTRACTION)))
    whole = build_model(_find(checkpoint), fit_head(_find(checkpoint), _data(Task.FEATURE_EXTRACTION)))
    assert model.config.num_hidden_layers == 2
    ids = torch.tensor([[2, 7, 9, 3]])
    with torch.no_grad():
        assert model.eval()(ids).last_hidden_state.equal(whole.eval()(ids, layer_config=(0, 2)).last_hidden_state)


@pytest.mark.parametrize("layers", [(9,), (0, 3)])
def test_layers_that_are_not_there_are_refused(tmp_path, layers):
    model = make_checkpoint(tmp_path / "model")
    with pytest.raises(
        InputError, match=rf"layers must be indices of the checkpoint's layers, 0 to 2, got {layers[-1]}\."
    ):
        _find(model, layers=layers)


@pytest.mark.parametrize("task", [TrainingTaskOption.QUESTION_ANSWERING, TrainingTaskOption.MULTIPLE_CHOICE])
def test_pairs_need_a_second_token_type(tmp_path, task):
    model = make_encoder(tmp_path / "model", type_vocab_size=1)
    with pytest.raises(CheckpointError, match=rf"type_vocab_size must be at least 2 for {task.value}, got 1"):
        _find(model, task)
    assert _find(model, _TEXTS).task is Task.TEXT_CLASSIFICATION


def test_the_tokenizer_is_told_what_training_needs(tmp_path):
    model = make_encoder(tmp_path / "model")
    edit_json(
        model / "tokenizer_config.json",
        padding_side="left",
        truncation_side="left",
        model_input_names=["input_ids"],
    )
    assert AutoTokenizer.from_pretrained(model).padding_side == "left"
    tokenizer = load_training_tokenizer(_find(model, _TEXTS))
    batch = tokenizer(["good", "the old city"], padding=True, truncation=True, max_length=4)
    assert list(batch) == ["input_ids", "token_type_ids", "attention_mask"]
    assert batch["attention_mask"] == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert tokenizer.convert_ids_to_tokens(batch["input_ids"][1]) == ["[CLS]", "the", "old", "[SEP]"]


def test_a_tokenizer_without_padding_is_refused(tmp_path, monkeypatch):
    start = _find(make_encoder(tmp_path / "model"), _TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    tokenizer.pad_token = None
    monkeypatch.setattr("dynbert_export.training.model.load_tokenizer", lambda _: tokenizer)
    with pytest.raises(CheckpointError, match="A tokenizer must have a token to pad with, got none"):
        load_training_tokenizer(start)


def test_labels_have_no_teacher_unless_there_is_one(encoder):
    assert load_teacher(None, _find(encoder, _TEXTS), _data()) is None


def test_embeddings_are_taught_by_the_whole_checkpoint(embedder):
    start = _find(embedder, layers=(0,))
    teacher = load_teacher(None, start, _data(Task.FEATURE_EXTRACTION, (), None))
    assert len(teacher.model.encoder.layer) == 3
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert len(build_model(start, fit_head(start, _data(Task.FEATURE_EXTRACTION))).encoder.layer) == 1


def test_a_teacher_may_have_any_size_and_its_own_pooling(embedder, tmp_path):
    large = make_checkpoint(tmp_path / "large", num_hidden_layers=5, intermediate_size=128)
    write_sentence_transformers_files(large, mode="cls_token")
    teacher = load_teacher(str(large), _find(embedder), _data(Task.FEATURE_EXTRACTION, (), None))
    assert (len(teacher.model.encoder.layer), teacher.pooling.mode) == (5, PoolingMode.CLS)


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        (
            Task.TEXT_CLASSIFICATION,
            {"labels": ("x", "y", "z")},
            r"the same labels as what it teaches, \('negative', .* got \('x'",
        ),
        (
            Task.TEXT_CLASSIFICATION,
            {"problem_type": "multi_label_classification"},
            "the same problem_type as what it teaches",
        ),
        (Task.TEXT_CLASSIFICATION, {"max_position_embeddings": 32}, "must read inputs of 64 tokens, got 32 positions"),
        (Task.QUESTION_ANSWERING, {}, "must be trained for text-classification, got .* without a head"),
    ],
)
def test_a_teacher_must_fit(tmp_path, task, changes, message):
    start = _find(make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION))
    other = make_checkpoint(tmp_path / "other", task, **changes)
    with pytest.raises(InputError, match=message):
        load_teacher(str(other), start, _data(names=start.labels))


def test_a_teacher_must_have_the_tokenizer(tmp_path):
    start = _find(make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION))
    other = make_checkpoint(tmp_path / "other", Task.TEXT_CLASSIFICATION)
    words = (other / "vocab.txt").read_text(encoding="utf-8").split("\n")
    words[-3:-1] = reversed(words[-3:-1])
    (other / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    (other / "tokenizer.json").unlink()
    with pytest.raises(
        InputError, match="Teacher must have the same tokenizer as what it teaches, got another vocabulary"
    ):
        load_teacher(str(other), start, _data(names=start.labels))


def test_a_teacher_of_embeddings_must_be_as_wide(embedder, tmp_path):
    wide = make_checkpoint(tmp_path / "wide", hidden_size=64)
    with pytest.raises(InputError, match="the same hidden_size as what it teaches, 32, got 64 in"):
        load_teacher(str(wide), _find(embedder), _data(Task.FEATURE_EXTRACTION, (), None))
