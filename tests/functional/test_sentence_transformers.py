"""sentence-transformers on token states: the runtime's embeddings, and those that it makes of the checkpoint itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
from transformers import BertTokenizerFast

import dynbert
from dynbert.manifest import ANYTIME, read_manifest
from tests.helpers.checkpoints import edit_json, make_checkpoint, write_sentence_transformers_files
from tests.helpers.commands import run_export
from tests.helpers.graphs import assert_informative

_LONG = "a good story about the old bridge and the river at night " * 8  # more tokens than the model has positions
_TEXTS = ["The City was GREAT", _LONG, "water", "what is the new movie about, and who is in it?"]
_TOLERANCE = 1e-3
_TOKEN_STATES = ("--embeddings", "token-states")


def _make_plain(folder):
    """No files of sentence-transformers: means of token states, not normalised."""
    make_checkpoint(folder)


def _make_normalized(folder):
    make_checkpoint(folder)
    write_sentence_transformers_files(folder, max_length=24)


def _make_mean(folder):
    make_checkpoint(folder)
    write_sentence_transformers_files(folder, normalize=False)


def _make_cls(folder):
    make_checkpoint(folder)
    write_sentence_transformers_files(folder, mode="cls_token", normalize=False, max_length=40)


def _make_lowercase(folder):
    """A tokenizer that keeps capital letters, and a package that is told to take them away."""
    make_checkpoint(folder)
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    write_sentence_transformers_files(folder, max_length=32)
    edit_json(folder / "sentence_bert_config.json", do_lower_case=True)


def _make_cased(folder):
    make_checkpoint(folder)
    BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False).save_pretrained(folder)
    write_sentence_transformers_files(folder, max_length=32)


_KINDS = {
    "plain": _make_plain,
    "normalized": _make_normalized,
    "mean": _make_mean,
    "cls": _make_cls,
    "lowercase": _make_lowercase,
    "cased": _make_cased,
}


_INT8_TOO = {"normalized", "cls"}


@pytest.fixture(scope="module", params=list(_KINDS))
def exported(request, tmp_path_factory):
    """A checkpoint, and a bundle of it."""
    folder = tmp_path_factory.mktemp(request.param)
    checkpoint, bundle = folder / "checkpoint", folder / "bundle"
    _KINDS[request.param](checkpoint)
    precision = ("--precision", "both", "--target", "avx2") if request.param in _INT8_TOO else ("--quantize", "none")
    run_export("--model", checkpoint, "-o", bundle, "--length-config", "fast=20,10,5", *precision, *_TOKEN_STATES)
    return checkpoint, bundle


def _open(folder, file=None):
    from sentence_transformers import SentenceTransformer

    if file is None:
        return SentenceTransformer(str(folder), device="cpu")
    return SentenceTransformer(str(folder), device="cpu", backend="onnx", model_kwargs={"file_name": file})


def test_embeddings_are_the_runtime_s(exported):
    _, bundle = exported
    for graph in read_manifest(bundle).graphs:
        if graph.profile == ANYTIME:
            continue
        model = dynbert.load(bundle, threads=1, precision=graph.precision)
        expected = model.encode(_TEXTS, profile=graph.profile, truncate=True)
        package = _open(bundle, graph.file)
        assert_informative(expected)
        assert package.max_seq_length == model.manifest.model.max_length
        np.testing.assert_allclose(package.encode(_TEXTS), expected, rtol=0, atol=_TOLERANCE)  # padded to the longest
        for text, embedding in zip(_TEXTS, expected, strict=True):
            np.testing.assert_allclose(package.encode(text), embedding, rtol=0, atol=_TOLERANCE)


def test_embeddings_are_the_checkpoint_s(exported):
    checkpoint, bundle = exported
    expected = _open(checkpoint).encode(_TEXTS)
    assert_informative(expected)
    np.testing.assert_allclose(_open(bundle, "full.fp32.onnx").encode(_TEXTS), expected, rtol=0, atol=_TOLERANCE)


def test_every_file_is_in_the_manifest(exported):
    _, bundle = exported
    files = {entry.file for entry in read_manifest(bundle).entries}
    on_disk = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert on_disk == files | {"manifest.json"}
    assert {"modules.json", "1_Pooling/config.json", "sentence_bert_config.json"} < files
    assert "config_sentence_transformers.json" in files


def test_prompts_are_passed_on(tmp_path):
    checkpoint, bundle = tmp_path / "checkpoint", tmp_path / "bundle"
    _make_mean(checkpoint)
    settings = {"prompts": {"query": "who is: "}, "default_prompt_name": "query", "similarity_fn_name": "dot"}
    (checkpoint / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    edit_json(checkpoint / "1_Pooling" / "config.json", include_prompt=False)
    run_export("--model", checkpoint, "-o", bundle, "--quantize", "none", *_TOKEN_STATES)
    package, expected = _open(bundle, "full.fp32.onnx"), _open(checkpoint)
    assert (package.prompts["query"], package.default_prompt_name) == ("who is: ", "query")
    assert package.similarity_fn_name == expected.similarity_fn_name
    embeddings = package.encode(_TEXTS)
    np.testing.assert_allclose(embeddings, expected.encode(_TEXTS), rtol=0, atol=_TOLERANCE)
    without = dynbert.load(bundle, threads=1).encode(_TEXTS, truncate=True)
    assert np.abs(embeddings - without).max() > 100 * _TOLERANCE
