"""Checkpoints: what is found out about good ones, and the message for every kind of broken one."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

from dynbert.errors import InputError
from dynbert.inputs import INPUT_NAMES, arrange_rows
from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert_export.checkpoint.load import load_checkpoint, load_model, load_tokenizer, save_tokenizer
from dynbert_export.errors import CheckpointError
from dynbert_export.options.vocabularies import TaskOption
from dynbert_export.tasks import ARCHITECTURES, HEADS
from tests.helpers.checkpoints import (
    LABELS,
    VOCABULARY,
    edit_json,
    make_checkpoint,
    write_sentence_transformers_files,
    write_tokenizer,
)

_TEXTS = ["the city was great", "a good story about the old bridge and the river at night", "water"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """One checkpoint a task, to be copied or only read."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {task: make_checkpoint(folder / task.value, task) for task in Task}


@pytest.fixture
def embedder(checkpoints, tmp_path):
    """A feature extraction checkpoint of the test's own."""
    return shutil.copytree(checkpoints[Task.FEATURE_EXTRACTION], tmp_path / "model")


@pytest.fixture
def classifier(checkpoints, tmp_path):
    """A text classification checkpoint of the test's own."""
    return shutil.copytree(checkpoints[Task.TEXT_CLASSIFICATION], tmp_path / "model")


def _rewrite_weights(folder, change):
    """Replace the weights by what ``change`` makes of them."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in change(load_file(path)).items()}, path)


def _run(model, tokenizer, task=Task.FEATURE_EXTRACTION):
    """Return the first output, ``[texts, values]``; both outputs of pretraining side by side."""
    import torch

    rows = tokenizer(_TEXTS, padding=True, return_tensors="np")
    feed = arrange_rows({name: rows[name] for name in INPUT_NAMES}, task)
    with torch.no_grad():
        outputs = model(**{name: torch.from_numpy(array) for name, array in feed.items()}).to_tuple()
    heads = outputs[: 2 if task is Task.PRETRAINING else 1]
    return np.concatenate([output.numpy().reshape(len(_TEXTS), -1) for output in heads], axis=1)


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
    result, expected = _run(model, tokenizer, task), _run(reference, tokenizer, task)
    assert np.std(expected) > 0.01
    np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("task", sorted(set(Task) - {Task.FEATURE_EXTRACTION}))
def test_any_bert_can_be_exported_for_its_features(checkpoints, task):
    import transformers

    checkpoint = load_checkpoint(str(checkpoints[task]), task=TaskOption.FEATURE_EXTRACTION)
    assert (checkpoint.task, checkpoint.architecture) == (Task.FEATURE_EXTRACTION, "BertModel")
    reference = transformers.AutoModel.from_pretrained(checkpoints[task], add_pooling_layer=False)
    tokenizer = load_tokenizer(checkpoint)
    np.testing.assert_allclose(_run(load_model(checkpoint), tokenizer), _run(reference, tokenizer), atol=1e-5)


def _add_prefix(state):
    return {f"bert.{name}": tensor for name, tensor in state.items()}


def _use_old_names(state):
    import torch

    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in state.items()
    }
    return old | {"embeddings.position_ids": torch.arange(64)[None]}


def _drop_pooler(state):
    return {name: tensor for name, tensor in state.items() if "pooler" not in name}


def _add_other_heads(state):
    import torch

    return state | {"cls.predictions.bias": torch.zeros(200), "cls.seq_relationship.bias": torch.zeros(2)}


@pytest.mark.parametrize("change", [_add_prefix, _use_old_names, _drop_pooler, _add_other_heads])
def test_weights_may_have_the_names_of_other_times_and_other_heads(embedder, change):
    before = _run_checkpoint(embedder)
    _rewrite_weights(embedder, change)
    np.testing.assert_array_equal(_run_checkpoint(embedder), before)


def _run_checkpoint(folder):
    checkpoint = load_checkpoint(str(folder))
    return _run(load_model(checkpoint), load_tokenizer(checkpoint))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_other_float_formats_become_float32(embedder, dtype):
    import torch

    before = _run_checkpoint(embedder)
    _rewrite_weights(embedder, lambda state: {name: tensor.to(getattr(torch, dtype)) for name, tensor in state.items()})
    assert load_model(load_checkpoint(str(embedder))).dtype == torch.float32
    np.testing.assert_allclose(_run_checkpoint(embedder), before, atol=0.2)


def test_weights_in_shards_and_in_pickled_files_are_read(embedder):
    import torch
    from safetensors.torch import load_file
    from transformers import BertModel

    before = _run_checkpoint(embedder)
    state = load_file(embedder / "model.safetensors")
    (embedder / "model.safetensors").unlink()
    torch.save(state, embedder / "pytorch_model.bin")
    np.testing.assert_array_equal(_run_checkpoint(embedder), before)
    (embedder / "pytorch_model.bin").unlink()
    model = BertModel.from_pretrained(None, config=load_config(embedder), state_dict=state)
    model.save_pretrained(embedder, max_shard_size="40KB")
    assert len(list(embedder.glob("model-*.safetensors"))) > 1
    np.testing.assert_array_equal(_run_checkpoint(embedder), before)


def load_config(folder):
    from transformers import BertConfig

    return BertConfig.from_pretrained(folder)


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
        ({"max_position_embeddings": 2}, "max_position_embeddings must be at least 3, got 2"),
        (
            {"problem_type": "poetry"},
            "problem_type` was not understood: received poetry .* are valid. Get the file again",
        ),
        ({"id2label": {"1": "a", "2": "b"}}, r"id2label must number the labels from 0, got \[1, 2\]"),
        ({"id2label": ["a", "b"]}, "must be the config of a BERT"),
        ({"length_config": "9,10"}, "model that can be built, got: .*must not increase"),
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
    ("file", "message"),
    [
        ("config.json", r"must have a readable config.json, got .*\(No such file"),
        ("model.safetensors", "must have weights, model.safetensors or pytorch_model.bin, got neither"),
    ],
)
def test_load_checkpoint_names_the_file_that_is_missing(embedder, file, message):
    (embedder / file).unlink()
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(embedder))


def test_load_checkpoint_needs_a_tokenizer(embedder):
    (embedder / "tokenizer.json").unlink()
    load_checkpoint(str(embedder))  # vocab.txt is enough
    (embedder / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match=r"must have a tokenizer, tokenizer.json or vocab.txt, got neither"):
        load_checkpoint(str(embedder))


@pytest.mark.parametrize("content", [b"", b"short", b"\x10\0\0\0\0\0\0\0not a header", "truncated"])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_load_checkpoint_refuses_broken_weights(embedder, name, content):
    path = embedder / "model.safetensors"
    if content == "truncated":
        content = path.read_bytes()[:-100]
    path.unlink()
    (embedder / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=f"Weights must be readable, got a broken file .*{name}"):
        load_checkpoint(str(embedder))


class _Trap:
    """Would write a file if it were unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (type(self.path).touch, (self.path,))


def test_pickled_code_is_never_run(embedder, tmp_path):
    import torch

    (embedder / "model.safetensors").unlink()
    torch.save({"weight": _Trap(tmp_path / "made")}, embedder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"plain tensors, got objects that only code can build .*safetensors"):
        load_checkpoint(str(embedder))
    assert not (tmp_path / "made").exists()
    torch.save([1, 2], embedder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="must hold a state dict of tensors"):
        load_checkpoint(str(embedder))


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ({}, "must hold a weight_map"),
        ({"a": "../model.safetensors"}, r"must name files of its own folder, got '\.\./model"),
        ({"a": "/etc/passwd"}, "must name files of its own folder"),
        ({"a": 3}, "must name files of its own folder, got 3"),
        ({"a": "model-1.safetensors", "b": "model-2.safetensors"}, "got none for model-1.safetensors, model-2.saf"),
    ],
)
def test_load_checkpoint_refuses_a_broken_index(embedder, weight_map, message):
    (embedder / "model.safetensors").unlink()
    index = embedder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(str(embedder))


def test_quantised_and_infinite_weights_are_refused(embedder):
    import torch

    name = "encoder.layer.0.output.dense.bias"
    _rewrite_weights(embedder, lambda state: state | {name: torch.full((32,), float("nan"))})
    checkpoint = load_checkpoint(str(embedder))
    with pytest.raises(CheckpointError, match=f"must be finite, got infinity or NaN in {name}"):
        load_model(checkpoint)
    _rewrite_weights(embedder, lambda state: state | {name: torch.zeros(32, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=f"{name} must be float32, float16 or bfloat16"):
        load_checkpoint(str(embedder))


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


@pytest.mark.parametrize(
    ("labels", "problem_type", "expected"),
    [
        (("one",), None, "multi_label_classification"),
        (("one",), "regression", "regression"),
        (("one", "two"), None, "single_label_classification"),
        (("one", "two"), "multi_label_classification", "multi_label_classification"),
    ],
)
def test_problem_type_is_what_a_pipeline_would_make_of_it(tmp_path, labels, problem_type, expected):
    folder = make_checkpoint(tmp_path, Task.TEXT_CLASSIFICATION, labels=labels, problem_type=problem_type)
    checkpoint = load_checkpoint(str(folder))
    assert (checkpoint.labels, checkpoint.problem_type) == (labels, expected)


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


def test_model_that_is_no_folder_is_a_clear_error(tmp_path):
    for model in (str(tmp_path / "gone"), "./gone", "gone/", "a/b/c", "C:\\models\\bert"):
        with pytest.raises(CheckpointError, match=re.escape(f"Model folder must exist, got none at {model}.")):
            load_checkpoint(model)
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="Model folder must exist, got a file at"):
        load_checkpoint(str(tmp_path / "file"))
    with pytest.raises(InputError, match="revision must go with a hub id, got 'main'"):
        load_checkpoint(str(tmp_path), revision="main")


def test_a_hub_id_is_fetched_safetensors_first_and_without_code(monkeypatch, tmp_path):
    calls = []

    def fetch(model, *, revision, allow_patterns):
        calls.append((model, revision, allow_patterns))
        folder = tmp_path / "0123abc"
        if not folder.exists():
            make_checkpoint(folder)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    checkpoint = load_checkpoint("owner/name", revision="main")
    assert (checkpoint.name, checkpoint.revision) == ("owner/name", "0123abc")
    ((model, revision, patterns),) = calls
    assert (model, revision) == ("owner/name", "main")
    assert "model.safetensors" in patterns
    assert not [pattern for pattern in patterns if pattern.endswith((".bin", ".py", "*"))]


def test_a_hub_id_without_safetensors_is_fetched_pickled(monkeypatch, tmp_path):
    import torch
    from safetensors.torch import load_file

    folder = make_checkpoint(tmp_path / "0123abc")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    patterns = []

    def fetch(model, *, revision, allow_patterns):  # noqa: ARG001  (the real one's signature)
        patterns.append("pytorch_model.bin" in allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    load_checkpoint("name")
    assert patterns == [False, True]


@pytest.mark.parametrize("error", [ConnectionError("no network\nat all"), ValueError("bad id"), FileNotFoundError()])
def test_a_hub_that_does_not_serve_is_a_clear_error(monkeypatch, error):
    def fetch(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    with pytest.raises(CheckpointError, match=r"got 'owner/name' at revision v1 \(.*or pass a folder\.$") as caught:
        load_checkpoint("owner/name", revision="v1")
    assert "\n" not in str(caught.value)


def test_sentence_transformers_files_do_not_touch_a_classifier(classifier):
    (classifier / "modules.json").write_text("not even JSON", encoding="utf-8")
    assert load_checkpoint(str(classifier)).task is Task.TEXT_CLASSIFICATION


def test_load_tokenizer_makes_the_fast_form_from_a_vocabulary(embedder):
    expected = load_tokenizer(load_checkpoint(str(embedder)))(_TEXTS)["input_ids"]
    (embedder / "tokenizer.json").unlink()
    tokenizer = load_tokenizer(load_checkpoint(str(embedder)))
    assert tokenizer(_TEXTS)["input_ids"] == expected
    assert not (embedder / "tokenizer.json").exists(), "the checkpoint is the caller's"


def test_save_tokenizer_leaves_truncation_and_padding_to_the_runtime(embedder, tmp_path):
    from tokenizers import Tokenizer

    tokenizer = load_tokenizer(load_checkpoint(str(embedder)))
    tokenizer(_TEXTS, padding="max_length", truncation=True, max_length=5)
    path = save_tokenizer(tokenizer, tmp_path)
    saved = Tokenizer.from_file(str(path))
    assert (saved.truncation, saved.padding) == (None, None)
    assert tokenizer.backend_tokenizer.padding is not None, "the given one stays as it is"
    assert saved.encode(_TEXTS[1]).ids == tokenizer(_TEXTS[1])["input_ids"]


def test_sentence_transformers_can_ask_for_lowercase(embedder):
    vocabulary = embedder / "vocab.txt"
    from transformers import BertTokenizerFast

    BertTokenizerFast(str(vocabulary), do_lower_case=False).save_pretrained(embedder)
    assert load_tokenizer(load_checkpoint(str(embedder))).tokenize("The CITY") != ["the", "city"]
    write_sentence_transformers_files(embedder)
    edit_json(embedder / "sentence_bert_config.json", do_lower_case=True)
    assert load_tokenizer(load_checkpoint(str(embedder))).tokenize("The CITY") == ["the", "city"]


@pytest.mark.parametrize("content", ["{", "{}", '{"version": "1.0", "model": {"type": "Unheard-of"}}'])
def test_load_tokenizer_refuses_a_broken_file(embedder, content):
    (embedder / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match="tokenizer must be readable"):
        load_tokenizer(load_checkpoint(str(embedder)))


def test_load_tokenizer_refuses_ids_that_the_model_has_not(tmp_path):
    folder = make_checkpoint(tmp_path, vocab_size=len(VOCABULARY) - 1)
    write_tokenizer(folder)
    largest = len(VOCABULARY) - 1
    with pytest.raises(CheckpointError, match=f"must be below the vocab_size of {largest} .*, got {largest} from"):
        load_tokenizer(load_checkpoint(str(folder)))


def test_the_helpers_checkpoints_are_worth_testing_with(checkpoints, tmp_path):
    again = make_checkpoint(tmp_path / "again")
    first = (checkpoints[Task.FEATURE_EXTRACTION] / "model.safetensors").read_bytes()
    assert (again / "model.safetensors").read_bytes() == first, "equal seeds, equal weights"
    tokenizer = load_tokenizer(load_checkpoint(str(again)))
    tokens = tokenizer.tokenize("Wasn't the Zürich express (24 carriages) late?")
    assert "[UNK]" not in tokens
    assert len(tokens) > 10


@pytest.mark.parametrize("task", sorted(task for task in Task if HEADS[task].pairs.is_required))
def test_pairs_are_refused_when_the_model_has_one_token_type(tmp_path, task):
    folder = make_checkpoint(tmp_path / "model", task, type_vocab_size=1)
    with pytest.raises(CheckpointError, match=f"type_vocab_size must be at least 2 for {task.value}, got 1"):
        load_checkpoint(str(folder))


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
    expected = _run(reference, tokenizer, task)
    np.testing.assert_allclose(_run(load_model(checkpoint), tokenizer, task), expected, atol=1e-5)


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


def _store_both_names(state):
    return state | {
        "cls.predictions.decoder.weight": state["bert.embeddings.word_embeddings.weight"].clone(),
        "cls.predictions.decoder.bias": state["cls.predictions.bias"].clone(),
    }


def _store_the_decoders_names(state):
    gone = {"bert.embeddings.word_embeddings.weight", "cls.predictions.bias"}
    return {name: tensor for name, tensor in _store_both_names(state).items() if name not in gone}


@pytest.mark.parametrize("change", [dict, _store_both_names, _store_the_decoders_names])
@pytest.mark.parametrize("task", [Task.FILL_MASK, Task.PRETRAINING])
def test_tied_weights_may_be_stored_under_either_name_or_both(checkpoints, tmp_path, task, change):
    folder = shutil.copytree(checkpoints[task], tmp_path / "model")
    before = _run_checkpoint(folder)
    _rewrite_weights(folder, change)
    np.testing.assert_array_equal(_run_checkpoint(folder), before)
    model = load_model(load_checkpoint(str(folder)))
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.cls.predictions.decoder.bias is model.cls.predictions.bias


def test_tied_weights_that_differ_are_refused_unless_the_config_unties_them(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints[Task.FILL_MASK], tmp_path / "model")
    before = _run_checkpoint(folder)
    name = "cls.predictions.decoder.weight"
    _rewrite_weights(folder, lambda state: _store_both_names(state) | {name: _store_both_names(state)[name] * 2})
    with pytest.raises(CheckpointError, match=f"must be equal where config.json ties them, got others in {name} than"):
        load_model(load_checkpoint(str(folder)))
    edit_json(folder / "config.json", tie_word_embeddings=False)
    assert np.abs(_run_checkpoint(folder) - before).max() > 0.1
    _rewrite_weights(folder, lambda state: {key: tensor for key, tensor in state.items() if key != name})
    with pytest.raises(CheckpointError, match=f"must include {name}, got none"):
        load_checkpoint(str(folder))


def _remove_mask_token(folder, form):
    """Leave one file of the tokenizer, without its mask token."""
    words = [word for word in VOCABULARY if word != "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"] = {word: index for index, word in enumerate(words)}
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "[MASK]"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / {"tokenizer.json": "vocab.txt", "vocab.txt": "tokenizer.json"}[form]).unlink()


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize("task", [Task.FILL_MASK, Task.PRETRAINING])
def test_a_tokenizer_without_a_mask_token_is_refused_where_tokens_are_foretold(checkpoints, tmp_path, task, form):
    folder = shutil.copytree(checkpoints[task], tmp_path / "model")
    assert load_tokenizer(load_checkpoint(str(folder))).mask_token_id == VOCABULARY.index("[MASK]")
    _remove_mask_token(folder, form)
    with pytest.raises(CheckpointError, match=f"must have a mask token for {task.value}, got none in"):
        load_tokenizer(load_checkpoint(str(folder)))
    load_tokenizer(load_checkpoint(str(folder), task=TaskOption.FEATURE_EXTRACTION))


def test_sentence_transformers_files_go_before_the_heads_of_pretraining(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints[Task.FILL_MASK], tmp_path / "model")
    write_sentence_transformers_files(folder)
    assert load_checkpoint(str(folder)).task is Task.FEATURE_EXTRACTION
    assert load_checkpoint(str(folder), task=TaskOption.FILL_MASK).pooling is None


def test_votes_of_padding_are_told(embedder):
    edit_json(embedder / "config.json", count_padded_queries=True)
    assert "depends on padding" in load_checkpoint(str(embedder)).notes[-1]
