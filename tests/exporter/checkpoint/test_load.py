"""Checkpoints: what is found out about good ones, as what they are exported, and what the model computes."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from dynbert.errors import InputError
from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert_export.checkpoint.load import load_checkpoint, load_model
from dynbert_export.checkpoint.tokenizer import load_tokenizer
from dynbert_export.errors import CheckpointError
from dynbert_export.options.vocabularies import TaskOption
from dynbert_export.tasks import HEADS
from tests.helpers.checkpoints import (
    LABELS,
    edit_json,
    make_checkpoint,
    run_model,
    write_sentence_transformers_files,
)


@pytest.mark.parametrize("task", list(Task))
def test_load_checkpoint_finds_out_what_there_is_to_know(checkpoints, task):
    checkpoint = load_checkpoint(str(checkpoints[task]))
    is_classifier, is_embedder = task is Task.TEXT_CLASSIFICATION, task is Task.FEATURE_EXTRACTION
    has_labels = task in {Task.TEXT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION}
    assert (checkpoint.task, checkpoint.name, checkpoint.revision) == (task, task.value, None)
    assert checkpoint.architecture == checkpoint.config.architectures[0]
    assert checkpoint.labels == (LABELS if has_labels else ())
    assert checkpoint.problem_type == ("single_label_classification" if is_classifier else None)
    assert checkpoint.pooling == (Pooling(mode=PoolingMode.MEAN, normalize=False) if is_embedder else None)
    assert checkpoint.max_length == 64
    assert bool(checkpoint.notes) == is_embedder


@pytest.mark.parametrize("task", list(Task))
def test_load_model_computes_what_transformers_computes(checkpoints, task):
    import torch
    import transformers

    checkpoint = load_checkpoint(str(checkpoints[task]))
    model, tokenizer = load_model(checkpoint), load_tokenizer(checkpoint)
    reference = getattr(transformers, checkpoint.architecture).from_pretrained(checkpoints[task])
    assert not model.training
    assert model.dtype == torch.float32
    result, expected = run_model(model, tokenizer, task), run_model(reference, tokenizer, task)
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("task", sorted(set(Task) - {Task.FEATURE_EXTRACTION}))
def test_any_bert_can_be_exported_for_its_features(checkpoints, task):
    import transformers

    checkpoint = load_checkpoint(str(checkpoints[task]), task=TaskOption.FEATURE_EXTRACTION)
    assert (checkpoint.task, checkpoint.architecture) == (Task.FEATURE_EXTRACTION, "BertModel")
    reference = transformers.AutoModel.from_pretrained(checkpoints[task], add_pooling_layer=False)
    tokenizer = load_tokenizer(checkpoint)
    np.testing.assert_allclose(run_model(load_model(checkpoint), tokenizer), run_model(reference, tokenizer), atol=1e-5)


@pytest.mark.parametrize(
    ("source", "task", "message"),
    [
        (Task.FEATURE_EXTRACTION, TaskOption.QUESTION_ANSWERING, "must be BertForQuestionAnswering, got BertModel"),
        (Task.TEXT_CLASSIFICATION, TaskOption.QUESTION_ANSWERING, "got BertForSequenceClassification in config.json"),
        (
            Task.QUESTION_ANSWERING,
            TaskOption.TEXT_CLASSIFICATION,
            "must be BertForSequenceClassification, got BertForQ",
        ),
    ],
)
def test_a_head_is_exported_only_as_what_it_was_trained_for(checkpoints, source, task, message):
    with pytest.raises(CheckpointError, match=f"{message}.*--task feature-extraction"):
        load_checkpoint(str(checkpoints[source]), task=task)


def test_a_head_without_weights_is_never_made_up(embedder):
    edit_json(embedder / "config.json", architectures=["BertForQuestionAnswering"])
    with pytest.raises(CheckpointError, match=r"must include qa_outputs.weight, qa_outputs.bias, got none"):
        load_checkpoint(str(embedder))
    edit_json(embedder / "config.json", architectures=None)
    with pytest.raises(CheckpointError, match=r"must include classifier.weight, classifier.bias, got none"):
        load_checkpoint(str(embedder), task=TaskOption.TEXT_CLASSIFICATION)


def test_a_checkpoint_that_does_not_say_its_class_can_be_told_its_task(classifier):
    edit_json(classifier / "config.json", architectures=None)
    checkpoint = load_checkpoint(str(classifier), task=TaskOption.TEXT_CLASSIFICATION)
    assert checkpoint.architecture == "BertForSequenceClassification"


def test_max_length_is_the_shortest_limit_unless_it_is_given(embedder):
    assert load_checkpoint(str(embedder)).max_length == 64
    edit_json(embedder / "tokenizer_config.json", model_max_length=48)
    assert load_checkpoint(str(embedder)).max_length == 48
    edit_json(embedder / "tokenizer_config.json", model_max_length=1e30)
    assert load_checkpoint(str(embedder)).max_length == 64
    write_sentence_transformers_files(embedder, max_length=32)
    assert load_checkpoint(str(embedder)).max_length == 32
    assert load_checkpoint(str(embedder), max_length=60).max_length == 60


@pytest.mark.parametrize("max_length", [-1, 0, 2, 65, 512])
def test_max_length_must_be_within_the_models_positions(embedder, max_length):
    with pytest.raises(InputError, match=f"at least 3 and at most 64, .*, got {max_length}"):
        load_checkpoint(str(embedder), max_length=max_length)


def test_sentence_transformers_files_do_not_touch_a_classifier(classifier):
    (classifier / "modules.json").write_text("not even JSON", encoding="utf-8")
    assert load_checkpoint(str(classifier)).task is Task.TEXT_CLASSIFICATION


@pytest.mark.parametrize("task", sorted(task for task in Task if HEADS[task].pairs.is_required))
def test_pairs_are_refused_when_the_model_has_one_token_type(tmp_path, task):
    folder = make_checkpoint(tmp_path / "model", task, type_vocab_size=1)
    with pytest.raises(CheckpointError, match=f"type_vocab_size must be at least 2 for {task.value}, got 1"):
        load_checkpoint(str(folder))


@pytest.mark.parametrize("architecture", ["BertForPreTraining", "BertForMaskedLM"])
@pytest.mark.parametrize("task", [Task.FILL_MASK, Task.NEXT_SENTENCE_PREDICTION, Task.PRETRAINING])
def test_a_checkpoint_of_pretraining_has_three_heads(checkpoints, tmp_path, task, architecture):
    """Whichever class its config names: bert-base-uncased says BertForMaskedLM and has both heads."""
    import transformers

    folder = shutil.copytree(checkpoints[Task.PRETRAINING], tmp_path / "model")
    edit_json(folder / "config.json", architectures=[architecture])
    checkpoint = load_checkpoint(str(folder), task=TaskOption(task.value))
    assert (checkpoint.task, checkpoint.architecture) == (task, HEADS[task].architecture)
    reference = getattr(transformers, checkpoint.architecture).from_pretrained(checkpoints[Task.PRETRAINING])
    tokenizer = load_tokenizer(checkpoint)
    expected = run_model(reference, tokenizer, task)
    np.testing.assert_allclose(run_model(load_model(checkpoint), tokenizer, task), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("source", "task", "message"),
    [
        (
            Task.FILL_MASK,
            Task.NEXT_SENTENCE_PREDICTION,
            "must include pooler.dense.weight, .*cls.seq_relationship.b",
        ),
        (Task.FILL_MASK, Task.PRETRAINING, "must include .*pooler.dense.bias, cls.seq_relationship.weight"),
        (
            Task.NEXT_SENTENCE_PREDICTION,
            Task.FILL_MASK,
            "must be BertForMaskedLM or BertForPreTraining, got BertFor",
        ),
        (Task.NEXT_SENTENCE_PREDICTION, Task.PRETRAINING, "must be BertForPreTraining or BertForMaskedLM, got BertFor"),
        (Task.TEXT_CLASSIFICATION, Task.TOKEN_CLASSIFICATION, "must be BertForTokenClassification, got BertForSeq"),
        (Task.FEATURE_EXTRACTION, Task.MULTIPLE_CHOICE, "must be BertForMultipleChoice, got BertModel in config.json"),
    ],
)
def test_a_head_that_a_checkpoint_lacks_is_never_made_up(checkpoints, source, task, message):
    with pytest.raises(CheckpointError, match=f"{message}.*--task feature-extraction"):
        load_checkpoint(str(checkpoints[source]), task=TaskOption(task.value))


def test_sentence_transformers_files_go_before_the_heads_of_pretraining(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints[Task.FILL_MASK], tmp_path / "model")
    write_sentence_transformers_files(folder)
    assert load_checkpoint(str(folder)).task is Task.FEATURE_EXTRACTION
    assert load_checkpoint(str(folder), task=TaskOption.FILL_MASK).pooling is None


def test_votes_of_padding_are_told(embedder):
    edit_json(embedder / "config.json", count_padded_queries=True)
    assert "depends on padding" in load_checkpoint(str(embedder)).notes[-1]
