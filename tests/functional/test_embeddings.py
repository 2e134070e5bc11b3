"""Embeddings pooled in the graph, and token states pooled by the runtime: two forms of one export."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import dynbert
from dynbert.errors import InputError
from dynbert.manifest import ANYTIME, FULL, Embeddings, Pooling, PoolingMode, Task, read_manifest
from dynbert_export import export
from tests.functional.conftest import BUNDLE_OPTIONS
from tests.helpers.checkpoints import make_checkpoint, write_sentence_transformers_files
from tests.helpers.commands import invoke_dynbert, invoke_export, run_export
from tests.helpers.graphs import assert_informative, make_feed

_LONG = "a good story about the old bridge and the river at night " * 3
_TEXTS = ["the old city was great", _LONG, "water", "what is the new movie about, and who is in it?"]
_MODES = {"mean": ("mean_tokens", True), "cls": ("cls_token", False)}


@pytest.fixture(scope="module", params=["mean", pytest.param("cls", marks=pytest.mark.slow)])
def forms(request, tmp_path_factory):
    """A checkpoint's pooled bundle and its bundle of token states."""
    folder = tmp_path_factory.mktemp(request.param)
    mode, normalize = _MODES[request.param]
    checkpoint = make_checkpoint(folder / "model")
    write_sentence_transformers_files(checkpoint, mode=mode, normalize=normalize)
    bundles = {}
    for embeddings in Embeddings:
        bundles[embeddings] = folder / embeddings.value
        run_export("--model", checkpoint, "-o", bundles[embeddings], *BUNDLE_OPTIONS, "--embeddings", embeddings.value)
    return bundles


def _load(forms, embeddings, precision="fp32"):
    return dynbert.load(forms[embeddings], threads=1, precision=precision)


@pytest.mark.parametrize("choice", [{}, {"length_config": (64, 64, 64)}, {"length_config": (1.0, 1.0, 1.0)}])
def test_both_forms_are_equal_where_nothing_is_dropped(forms, choice):
    pooled, states = (_load(forms, embeddings).encode(_TEXTS, **choice) for embeddings in Embeddings)
    assert_informative(pooled)
    np.testing.assert_allclose(pooled, states, rtol=0, atol=1e-6)


@pytest.mark.parametrize("choice", [{"profile": "fast"}, {"profile": "half"}, {"length_config": (12, 6, 3)}])
def test_a_mean_is_another_where_tokens_are_dropped_and_cls_the_same(forms, choice):
    pooled, states = (_load(forms, embeddings).encode(_LONG, **choice) for embeddings in Embeddings)
    difference = np.abs(pooled - states).max()
    is_cls = read_manifest(forms[Embeddings.POOLED]).model.pooling.mode is PoolingMode.CLS
    assert difference < 1e-6 if is_cls else difference > 1e-3


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_a_list_gives_what_each_text_gives_alone(forms, precision):
    for choice in ({}, {"profile": "fast"}, {"profile": "half"}, {"length_config": (0.8, 0.5, 0.2)}):
        model = _load(forms, Embeddings.POOLED, precision)
        together = model.encode(_TEXTS, **choice)
        assert (together.shape, together.dtype) == ((4, 32), np.float32)
        for text, embedding in zip(_TEXTS, together, strict=True):
            np.testing.assert_allclose(embedding, model.encode(text, **choice), rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_one_run_of_plain_onnxruntime_gives_the_vectors(forms, precision):
    feed = make_feed(3, 40)
    for profile in (FULL, "fast", "half"):
        session = onnxruntime.InferenceSession(forms[Embeddings.POOLED] / f"{profile}.{precision}.onnx")
        [embeddings] = session.run(None, {item.name: feed[item.name] for item in session.get_inputs()})
        expected = _load(forms, Embeddings.POOLED, precision).run(feed, profile=profile)
        assert_informative(embeddings)
        np.testing.assert_allclose(embeddings, expected["sentence_embedding"], rtol=0, atol=1e-5)
        assert embeddings.shape == (3, 32)


def test_pooled_graphs_put_nothing_back(forms):
    for path in forms[Embeddings.POOLED].glob("*.onnx"):
        operators = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
        assert not {"ScatterElements", "ScatterND"} & operators, path.name
    operators = {node.op_type for node in onnx.load(forms[Embeddings.TOKEN_STATES] / "fast.int8.onnx").graph.node}
    assert "ScatterND" in operators


@pytest.mark.parametrize("embeddings", list(Embeddings))
def test_both_forms_verify_and_say_what_they_are(forms, embeddings):
    result = invoke_dynbert("verify", forms[embeddings], "--threads", "1")
    assert result.exit_code == 0, result.output
    manifest = read_manifest(forms[embeddings])
    assert manifest.model.embeddings is embeddings
    assert {(graph.profile, graph.quality is None) for graph in manifest.graphs} == {
        (FULL, False),
        ("fast", False),
        ("half", False),
        (ANYTIME, True),
    }
    assert all(graph.agreement.value > 0.97 for graph in manifest.graphs if graph.agreement)
    assert all(graph.invariance.max_abs_difference < 5e-3 for graph in manifest.graphs if graph.invariance)
    card = (forms[embeddings] / "README.md").read_text(encoding="utf-8")
    assert ("sentence_embedding" in card) is (embeddings is Embeddings.POOLED)


def test_another_pooling_needs_token_states(forms):
    other = Pooling(mode=PoolingMode.MEAN, normalize=False)
    assert _load(forms, Embeddings.TOKEN_STATES).encode(_TEXTS, pooling=other).shape == (4, 32)
    with pytest.raises(InputError, match="export with --embeddings token-states"):
        _load(forms, Embeddings.POOLED).encode(_TEXTS, pooling=other)


def test_optimum_asks_for_token_states(forms):
    from optimum.onnxruntime import ORTModelForFeatureExtraction

    feed = make_feed(1, 8)
    model = ORTModelForFeatureExtraction.from_pretrained(forms[Embeddings.POOLED], file_name="full.fp32.onnx")
    with pytest.raises(KeyError, match="last_hidden_state"):
        model(**feed)
    model = ORTModelForFeatureExtraction.from_pretrained(forms[Embeddings.TOKEN_STATES], file_name="full.fp32.onnx")
    assert model(**feed).last_hidden_state.shape == (1, 8, 32)


@pytest.mark.slow
def test_graphs_that_may_drop_cls_give_what_pytorch_gives(tmp_path):
    """CLS is put back where it is read; the gate of parity holds it to PyTorch."""
    for mode in _MODES:
        checkpoint = make_checkpoint(tmp_path / mode / "model")
        write_sentence_transformers_files(checkpoint, mode=_MODES[mode][0])
        result = export(
            model=checkpoint,
            output=tmp_path / mode / "out",
            profiles={"fast": (20, 10, 5)},
            always_keep_cls_token=False,
            quantize="none",
            threads=1,
        )
        assert all(graph.parity.max_abs_difference < 1e-5 for graph in result.manifest.graphs)
        assert_informative(dynbert.load(result.bundle, threads=1).encode(_TEXTS, profile="fast"))


@pytest.mark.parametrize("embeddings", ["pooled", "token-states"])
def test_the_option_is_refused_for_another_task(checkpoints, tmp_path, embeddings):
    options = ("--model", checkpoints[Task.TEXT_CLASSIFICATION], "-o", tmp_path / "out", "--embeddings", embeddings)
    result = invoke_export(*options)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"Error: embeddings must be left out for text-classification, got {embeddings}. "
        "It says what graphs of feature-extraction give."
    )
    assert list(tmp_path.iterdir()) == []
    forced = (*options, "--task", "feature-extraction", "--quantize", "none")
    assert invoke_export(*forced).exit_code == 0


def test_a_recipe_may_say_so(checkpoints, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("embeddings: token-states\nquantize: none\n", encoding="utf-8")
    run_export("--recipe", recipe, "--model", checkpoints[Task.FEATURE_EXTRACTION], "-o", tmp_path / "out")
    assert read_manifest(tmp_path / "out").model.embeddings is Embeddings.TOKEN_STATES
