"""Every head from random weights to graphs that plain onnxruntime runs, against transformers' own classes."""

from __future__ import annotations

import json

import numpy as np
import onnx
import onnxruntime
import pytest

from dynbert.inputs import length_input
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, FULL, Task
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.commands import run_export
from tests.helpers.graphs import assert_informative, make_feed
from tests.helpers.tasks import EVERY_TASK

_LENGTHS = (1, 2, 7, 33, 64)
_CHOICES = 3


def _make_feed(task, batch, tokens):
    """Return texts of unequal length; for multiple choice ``batch`` questions with three choices each."""
    if task is not Task.MULTIPLE_CHOICE:
        return make_feed(batch, tokens)
    rows = make_feed(batch * _CHOICES, tokens)
    return {name: array.reshape(batch, _CHOICES, tokens) for name, array in rows.items()}


def _run(path, feed):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return dict(
        zip(names, session.run(None, {item.name: feed[item.name] for item in session.get_inputs()}), strict=True)
    )


def _run_transformers(folder, feed):
    import torch
    import transformers

    architecture = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    model = getattr(transformers, architecture).from_pretrained(folder).eval()
    with torch.no_grad():
        return model(**{name: torch.from_numpy(array) for name, array in feed.items()})


def _assert_near(got, wanted, mask, tolerance):
    """Compare at valid positions, where an output has positions."""
    assert got.shape == wanted.shape
    valid = mask == 1 if wanted.shape[: mask.ndim] == mask.shape else slice(None)
    assert_informative(wanted[valid])
    np.testing.assert_allclose(got[valid], wanted[valid], rtol=0, atol=tolerance)


def _check_full_graphs(bundle, checkpoint, task, tokens):
    for batch in (1, 2):
        feed = _make_feed(task, batch, tokens)
        expected = _run_transformers(checkpoint, feed)
        fp32, int8 = (_run(bundle / f"{FULL}.{precision}.onnx", feed) for precision in ("fp32", "int8"))
        assert set(fp32) == set(int8)
        for name, array in fp32.items():
            wanted = expected[name].numpy()
            _assert_near(array, wanted, feed["attention_mask"], 1e-4)
            # How well INT8 answers is for the gate to say; here it must run, and not say something else altogether.
            assert int8[name].shape == wanted.shape
            assert np.abs(int8[name] - wanted).mean() < 0.25 * max(np.ptp(wanted), 1)


def _check_dropping_graphs(bundle, task, tokens, profiles):
    feed = _make_feed(task, 2, tokens)
    for precision in ("fp32", "int8"):
        for name, lengths in profiles.items():
            counts = length_input(LengthConfig(lengths), tokens, always_keep_cls_token=True)
            frozen = _run(bundle / f"{name}.{precision}.onnx", feed)
            anytime = _run(bundle / f"{ANYTIME}.{precision}.onnx", {**feed, "length_config": counts})
            assert set(frozen) == set(anytime)
            for output, array in frozen.items():
                _assert_near(anytime[output], array, feed["attention_mask"], 1e-4)


@pytest.mark.parametrize("tokens", _LENGTHS)
@pytest.mark.parametrize("task", EVERY_TASK)
def test_full_graphs_equal_transformers(bundles_for_optimum, checkpoints, task, tokens):
    _check_full_graphs(bundles_for_optimum[task], checkpoints[task], task, tokens)


@pytest.mark.parametrize("task", EVERY_TASK)
def test_every_graph_passes_onnx_own_checks(bundles, task):
    """Other tools infer shapes from the file; what it states must not contradict what is inferred."""
    graphs = sorted(bundles[task].glob("*.onnx"))
    assert graphs
    for path in graphs:
        model = onnx.load(path)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
        if path.name.endswith(".fp32.onnx") and not any(node.domain for node in model.graph.node):
            onnx.checker.check_model(path, full_check=True)


@pytest.mark.parametrize("tokens", _LENGTHS)
@pytest.mark.parametrize("task", EVERY_TASK)
def test_frozen_graphs_equal_the_anytime_graph(bundles, task, tokens):
    _check_dropping_graphs(bundles[task], task, tokens, {"fast": (20, 10, 5), "half": (0.5, 0.3, 0.2)})


@pytest.mark.slow
@pytest.mark.parametrize("task", EVERY_TASK)
def test_graphs_of_the_longest_inputs_equal_transformers(tmp_path, task):
    checkpoint = make_checkpoint(tmp_path / "model", task, max_position_embeddings=512)
    profiles = {"fast": (200, 80, 20), "half": (0.8, 0.6, 0.3)}
    configs = [f"--length-config={name}={','.join(map(str, lengths))}" for name, lengths in profiles.items()]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("gates: {int8_min_span_agreement: 0.7}", encoding="utf-8")  # random weights are often undecided
    options = ["--precision", "both", "--target", "avx2", "--recipe", recipe]
    if task is Task.FEATURE_EXTRACTION:
        options += ["--embeddings", "token-states"]
    run_export("--model", checkpoint, "-o", tmp_path / "out", *options, *configs)
    for tokens in (1, 2, 3, 7, 64, 128, 511, 512):
        _check_full_graphs(tmp_path / "out", checkpoint, task, tokens)
        _check_dropping_graphs(tmp_path / "out", task, tokens, profiles)


@pytest.mark.slow
def test_three_heads_come_from_one_checkpoint(checkpoints, tmp_path):
    """The checkpoint of BertForPreTraining has them all; what each head says must not depend on the others."""
    model = checkpoints[Task.PRETRAINING]
    runs = {}
    for task in (Task.PRETRAINING, Task.FILL_MASK, Task.NEXT_SENTENCE_PREDICTION):
        output = tmp_path / task.value
        run_export("--model", model, "-o", output, "--task", task.value, "--quantize", "none")
        runs[task] = _run(output / f"{FULL}.fp32.onnx", make_feed(2, 20))
    both = runs[Task.PRETRAINING]
    for task, name in (
        (Task.FILL_MASK, "prediction_logits"),
        (Task.NEXT_SENTENCE_PREDICTION, "seq_relationship_logits"),
    ):
        assert_informative(both[name])
        np.testing.assert_allclose(runs[task]["logits"], both[name], rtol=0, atol=1e-5)


def test_vocabulary_is_stored_once_and_the_probe_stays_small(tmp_path):
    vocab_size, hidden = 30_000, 32
    model = make_checkpoint(tmp_path / "model", Task.FILL_MASK, vocab_size=vocab_size, num_hidden_layers=1)
    run_export("--model", model, "-o", tmp_path / "out", "--quantize", "dynamic", "--precision", "both")
    for precision in ("int8", "fp32"):
        size = (tmp_path / "out" / f"weights.{precision}.bin").stat().st_size
        assert 1.0 < size / (4 * vocab_size * hidden) < 1.2  # the table, and a little for the layer and the bias
    with np.load(tmp_path / "out" / "probe.npz") as probe:
        outputs = {name: array.nbytes for name, array in probe.items() if name.endswith("/logits")}
        assert probe["input.input_ids"].shape == (1, 8)
    assert len(outputs) == 4
    assert max(outputs.values()) <= 1 << 20


def test_padding_votes_where_the_config_says_so(tmp_path):
    """The reference's rule for a checkpoint: the exported graph answers as the PyTorch model does."""
    import torch

    from dynbert_export.checkpoint.load import load_checkpoint, load_model

    folder = make_checkpoint(tmp_path / "model", Task.QUESTION_ANSWERING, count_padded_queries=True)
    options = ("--length-config", "fast=20,10,5", "--precision", "both", "--target", "avx2")
    result = run_export("--model", folder, "-o", tmp_path / "out", *options)
    assert "depends on padding" in result.stderr
    model = load_model(load_checkpoint(str(folder)))
    feed = make_feed(4, 40)
    with torch.no_grad():
        tensors = {name: torch.from_numpy(array) for name, array in feed.items()}
        expected = model(**tensors, length_config=(20, 10, 5))
        model.config.count_padded_queries = False
        other = model(**tensors, length_config=(20, 10, 5))
    outputs = _run(tmp_path / "out" / "fast.fp32.onnx", feed)
    for name, array in outputs.items():
        _assert_near(array, expected[name].numpy(), feed["attention_mask"], 1e-4)
    assert (expected.start_logits - other.start_logits).abs().max() > 1e-3, "the setting makes a difference"
