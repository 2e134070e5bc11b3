"""Where a checkpoint comes from: a folder, or a hub that is asked for few files and for no code."""

from __future__ import annotations

import re

import pytest

from dynbert.errors import InputError
from dynbert_export.checkpoint.load import load_checkpoint
from dynbert_export.errors import CheckpointError
from tests.helpers.checkpoints import (
    make_checkpoint,
)


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
