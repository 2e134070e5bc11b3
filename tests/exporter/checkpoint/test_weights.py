"""Weights: every form in which they are stored, and the message for those that do not fit."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from dynbert.manifest import Task
from dynbert_export.checkpoint.load import load_checkpoint, load_model
from dynbert_export.errors import CheckpointError
from tests.helpers.checkpoints import (
    edit_json,
    rewrite_weights,
    run_checkpoint,
)


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
    before = run_checkpoint(embedder)
    rewrite_weights(embedder, change)
    np.testing.assert_array_equal(run_checkpoint(embedder), before)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_weights_of_other_float_formats_become_float32(embedder, dtype):
    import torch

    before = run_checkpoint(embedder)
    rewrite_weights(embedder, lambda state: {name: tensor.to(getattr(torch, dtype)) for name, tensor in state.items()})
    assert load_model(load_checkpoint(str(embedder))).dtype == torch.float32
    np.testing.assert_allclose(run_checkpoint(embedder), before, atol=0.2)


def test_weights_in_shards_and_in_pickled_files_are_read(embedder):
    import torch
    from safetensors.torch import load_file
    from transformers import BertConfig, BertModel

    before = run_checkpoint(embedder)
    state = load_file(embedder / "model.safetensors")
    (embedder / "model.safetensors").unlink()
    torch.save(state, embedder / "pytorch_model.bin")
    np.testing.assert_array_equal(run_checkpoint(embedder), before)
    (embedder / "pytorch_model.bin").unlink()
    model = BertModel.from_pretrained(None, config=BertConfig.from_pretrained(embedder), state_dict=state)
    model.save_pretrained(embedder, max_shard_size="40KB")
    assert len(list(embedder.glob("model-*.safetensors"))) > 1
    np.testing.assert_array_equal(run_checkpoint(embedder), before)


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


def test_pickled_code_is_neverrun_model(embedder, tmp_path):
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
    rewrite_weights(embedder, lambda state: state | {name: torch.full((32,), float("nan"))})
    checkpoint = load_checkpoint(str(embedder))
    with pytest.raises(CheckpointError, match=f"must be finite, got infinity or NaN in {name}"):
        load_model(checkpoint)
    rewrite_weights(embedder, lambda state: state | {name: torch.zeros(32, dtype=torch.int8)})
    with pytest.raises(CheckpointError, match=f"{name} must be float32, float16 or bfloat16"):
        load_checkpoint(str(embedder))


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
    before = run_checkpoint(folder)
    rewrite_weights(folder, change)
    np.testing.assert_array_equal(run_checkpoint(folder), before)
    model = load_model(load_checkpoint(str(folder)))
    assert model.cls.predictions.decoder.weight is model.bert.embeddings.word_embeddings.weight
    assert model.cls.predictions.decoder.bias is model.cls.predictions.bias


def test_tied_weights_that_differ_are_refused_unless_the_config_unties_them(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints[Task.FILL_MASK], tmp_path / "model")
    before = run_checkpoint(folder)
    name = "cls.predictions.decoder.weight"
    rewrite_weights(folder, lambda state: _store_both_names(state) | {name: _store_both_names(state)[name] * 2})
    with pytest.raises(CheckpointError, match=f"must be equal where config.json ties them, got others in {name} than"):
        load_model(load_checkpoint(str(folder)))
    edit_json(folder / "config.json", tie_word_embeddings=False)
    assert np.abs(run_checkpoint(folder) - before).max() > 0.1
    rewrite_weights(folder, lambda state: {key: tensor for key, tensor in state.items() if key != name})
    with pytest.raises(CheckpointError, match=f"must include {name}, got none"):
        load_checkpoint(str(folder))
