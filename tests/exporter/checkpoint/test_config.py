"""config.json: what is taken, and the message for everything that is not."""

from __future__ import annotations

import json

import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_export.checkpoint.load import load_checkpoint, load_model
from dynbert_export.errors import CheckpointError
from dynbert_export.tasks import ARCHITECTURES
from tests.helpers.checkpoints import (
    edit_json,
    make_checkpoint,
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "distilbert"}, "must be a BERT, got model_type 'distilbert' .* BertForQuestionAnswering"),
        ({"model_type": None}, "must be a BERT, got model_type None"),
        ({"architectures": ["BertLMHeadModel"]}, "got BertLMHeadModel in config.json. Pass --task feature-extraction"),
        ({"architectures": ["RobertaForMaskedLM"]}, "Architecture must be one of .*, got RobertaForMaskedLM"),
        ({"is_decoder": True}, "is_decoder must not be set, got True .* Decoders cannot be exported"),
        ({"add_cross_attention": True}, "add_cross_attention must not be set"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "auto_map must not be set.* bring their own code"),
        ({"quantization_config": {"bits": 8}}, "quantization_config must not be set"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number of at least 1, got 0"),
        ({"hidden_size": "big"}, "hidden_size must be a whole number of at least 1, got 'big'"),
        ({"num_attention_heads": 5}, "hidden_size must be a multiple of num_attention_heads, got 32 and 5"),
        ({"hidden_act": "magic"}, "hidden_act must be an activation of transformers, got 'magic'"),
        ({"position_embedding_type": "alibi"}, "position_embedding_type must be one of .*, got 'alibi'"),
        ({"pad_token_id": 200}, "pad_token_id must be an id of the vocabulary, got 200"),
        ({"layer_norm_eps": "small"}, "layer_norm_eps must be a number between 0 and 1, got 'small'"),
        ({"layer_norm_eps": 0}, "layer_norm_eps must be a number between 0 and 1, got 0"),
        ({"pruned_heads": {"0": [4]}}, r"pruned_heads must list heads that the layers have, got \[4\] for layer 0"),
        ({"pruned_heads": {"3": [0]}}, r"pruned_heads must list heads that the layers have, got \[0\] for layer 3"),
        ({"pruned_heads": {"0": 1}}, "pruned_heads must list heads that the layers have, got 1 for layer 0"),
        ({"max_position_embeddings": 2}, "max_position_embeddings must be at least 3, got 2"),
        (
            {"problem_type": "poetry"},
            "problem_type` was not understood: received poetry .* are valid. Get the file again",
        ),
        ({"id2label": {"1": "a", "2": "b"}}, r"id2label must number the labels from 0, got \[1, 2\]"),
        ({"id2label": ["a", "b"]}, "must be the config of a BERT"),
        ({"architectures": ["BertForMaskedLM"]}, "must include cls.predictions.bias, .*dense.weight, .*, got none"),
        ({"architectures": ["BertForPreTraining"]}, "must include .*, cls.seq_relationship.weight, .*, got none"),
        ({"architectures": ["AutoModel"]}, "got AutoModel in config.json"),
        ({"architectures": None}, "got none in config.json. .*, or the task that it was trained for"),
        ({"hidden_size": 64}, r"must fit config.json, got \d+ faults .*word_embeddings.weight must be \[200, 64\]"),
        ({"num_hidden_layers": 4}, r"encoder.layer.3.attention.self.query.weight is missing; .*; and 11 more"),
        ({"num_hidden_layers": 2}, "encoder.layer.2.attention.output.LayerNorm.bias has no place in the model"),
    ],
)
def test_load_checkpoint_refuses_a_config_that_does_not_do(embedder, changes, message):
    edit_json(embedder / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(embedder))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"{", "config.json must be JSON"), (b"\xff\xfe", "must be JSON"), (b"[]", "must hold a JSON object, got list")],
)
def test_load_checkpoint_refuses_a_config_that_cannot_be_read(embedder, content, message):
    (embedder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(embedder))


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("Roberta", "RobertaForMaskedLM"),
        ("DistilBert", "DistilBertForSequenceClassification"),
        ("Albert", "AlbertForQuestionAnswering"),
        ("Electra", "ElectraForPreTraining"),
        ("DebertaV2", "DebertaV2ForTokenClassification"),
    ],
)
def test_models_of_other_families_are_refused_by_their_config_alone(tmp_path, name, architecture):
    import transformers

    config = getattr(transformers, f"{name}Config")(architectures=[architecture])
    config.save_pretrained(tmp_path)  # and nothing else is there
    with pytest.raises(CheckpointError, match=f"must be a BERT, got model_type '{config.model_type}'") as caught:
        load_checkpoint(str(tmp_path))
    assert all(known in str(caught.value) for known in ARCHITECTURES)


@pytest.mark.parametrize(
    ("labels", "problem_type", "expected"),
    [
        (("one",), None, "ranking"),
        (("one",), "regression", "regression"),
        (("one",), "multi_label_classification", "multi_label_classification"),
        (("one", "two"), None, "single_label_classification"),
        (("one", "two"), "multi_label_classification", "multi_label_classification"),
    ],
)
def test_problem_type_is_what_the_config_says_and_ranking_for_a_lone_logit(tmp_path, labels, problem_type, expected):
    folder = make_checkpoint(tmp_path, Task.TEXT_CLASSIFICATION, labels=labels, problem_type=problem_type)
    checkpoint = load_checkpoint(str(folder))
    assert (checkpoint.labels, checkpoint.problem_type) == (labels, expected)
    assert checkpoint.notes == ((_RANKING_NOTE,) if expected == "ranking" else ())


_RANKING_NOTE = (
    "The classifier has one logit and config.json states no problem_type: the score is the logit itself (ranking). "
    "State regression there, or multi_label_classification for a probability."
)


@pytest.mark.parametrize("task", sorted(set(Task) - {Task.TEXT_CLASSIFICATION}))
def test_only_text_classification_has_a_problem_type(checkpoints, task):
    assert load_checkpoint(str(checkpoints[task])).problem_type is None


@pytest.mark.parametrize(
    ("value", "lengths"),
    [
        ("(40, 20, 10)", (40, 20, 10)),
        ([0.75, 0.5, 0.25], (0.75, 0.5, 0.25)),
        ([40, 20, 10, 5], (40, 20, 10)),  # as the model reads it
        ([], None),
        (None, None),
    ],
)
def test_length_config_is_read_and_taken_out_of_the_config(embedder, value, lengths):
    path = embedder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"length_config": value}))
    checkpoint = load_checkpoint(str(embedder))
    assert checkpoint.length_config == (None if lengths is None else LengthConfig(lengths))
    assert "length_config" not in checkpoint.config.to_dict()
    assert load_model(checkpoint).length_config is None


def test_length_config_has_no_count_beyond_the_longest_input(embedder):
    edit_json(embedder / "config.json", length_config=[60, 30, 10])
    assert load_checkpoint(str(embedder), max_length=40).length_config == LengthConfig((40, 30, 10))
    edit_json(embedder / "config.json", length_config=[0.9, 0.5, 0.1])
    assert load_checkpoint(str(embedder), max_length=40).length_config == LengthConfig((0.9, 0.5, 0.1))


_EXAMPLES = "Give one number a layer, e.g. 315,251,242,159,142,33 or 0.9,0.8,0.7,0.6,0.5,0.4."
_INCREASE = "A length config must not increase from layer to layer, got 10 after 9 at layer 1 of 9,10,11."
_CODE = "__import__('os').abort()"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("9,10,11", f"{_INCREASE} A dropped token cannot come back."),
        ([9, 8], "A length config must have at least 3 entries, one a layer, got 2: 9,8."),
        (_CODE, f"Length 0 must be a number, got {_CODE!r} in {_CODE!r}. {_EXAMPLES}"),
        (7, f"A length config must be a sequence of numbers, got int. {_EXAMPLES}"),
    ],
)
def test_a_broken_length_config_is_refused_and_never_run(embedder, value, fault):
    path = embedder / "config.json"
    edit_json(path, length_config=value)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(str(embedder))
    assert str(caught.value) == (
        f"length_config in {path} must be the lengths of 3 layers, got: {fault} Or take it out of the file."
    )
