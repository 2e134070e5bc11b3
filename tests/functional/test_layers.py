"""``dynbert-export`` with profiles that leave out layers: from the command to answers, and the same from a recipe."""

from __future__ import annotations

import json

import numpy as np
import pytest

import dynbert
from dynbert.inputs import arrange_rows
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, FULL, Precision, Task, read_manifest
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.commands import invoke_dynbert, invoke_export, run_export
from tests.helpers.graphs import assert_informative, make_feed
from tests.helpers.shared import SharedFolders, shared_folder

_TASKS = [Task.QUESTION_ANSWERING, Task.TEXT_CLASSIFICATION, Task.FEATURE_EXTRACTION]
_EACH = [
    pytest.param(task, id=task.value, marks=pytest.mark.slow if task is Task.TEXT_CLASSIFICATION else ())
    for task in _TASKS
]
_LAYERS = {"fast": (0, 3), "part": (1, 2), "short": (0, 2)}
_LENGTHS = {"fast": (20, 20, 10, 5), "part": (1.0, 0.5, 0.3, 0.1), "short": None}
_OPTIONS = (
    *("--length-config", "fast=20,20,10,5", "--length-config", "part=1.0,0.5,0.3,0.1"),
    *("--layer-config", "fast=3,0", "--layer-config", "part=1,2", "--layer-config", "short=0,2"),
    *("--precision", "both", "--target", "avx2"),
)
_TEXTS = ["the old city was great", "a good story about the bridge and the river at night", "water"]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return SharedFolders(
        shared_folder(tmp_path_factory, "checkpoints-of-four-layers"),
        _TASKS,
        lambda task, folder: make_checkpoint(folder, task, num_hidden_layers=4),
    )


@pytest.fixture(scope="module")
def bundles(checkpoints, tmp_path_factory):
    """One bundle a task; the profiles leave out the middle, both ends, and every other layer."""
    return SharedFolders(
        shared_folder(tmp_path_factory, "bundles-of-some-layers"),
        _TASKS,
        lambda task, folder: run_export("--model", checkpoints[task], "-o", folder, *_OPTIONS),
    )


@pytest.mark.parametrize("task", _EACH)
def test_manifest_and_runtime_say_which_layers_run(bundles, task):
    manifest = read_manifest(bundles[task])
    found = {profile.name: (profile.length_config, profile.layer_config) for profile in manifest.profiles}
    assert found == {FULL: (None, None), ANYTIME: (None, None)} | {
        name: (_LENGTHS[name], layers) for name, layers in _LAYERS.items()
    }
    profiles = dynbert.load(bundles[task]).profiles
    assert {name: profile.layer_config for name, profile in profiles.items()} == {FULL: None, **_LAYERS}
    for graph in manifest.graphs:
        layers = _LAYERS.get(graph.profile, range(4))
        assert all(int(product.split(".layer.")[1].split(".")[0]) in layers for product in graph.fp32_products)
        if graph.precision is Precision.FP32:
            assert graph.parity.near_ties == 0
            assert 0 < graph.parity.max_abs_difference < 1e-4


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("task", _EACH)
def test_answers_are_pytorch_s_with_these_layers(bundles, checkpoints, task, precision):
    import torch

    from dynbert_export.checkpoint.load import load_checkpoint, load_model

    model = load_model(load_checkpoint(str(checkpoints[task])), is_pooled=task is Task.FEATURE_EXTRACTION)
    bundle = dynbert.load(bundles[task], threads=1, precision=precision)
    feed = arrange_rows(make_feed(1, 40), task)
    for name, layers in _LAYERS.items():
        lengths = None if _LENGTHS[name] is None else LengthConfig(_LENGTHS[name])
        with torch.inference_mode():
            expected = model(
                **{key: torch.from_numpy(array) for key, array in feed.items()},
                length_config=lengths,
                layer_config=layers,
                return_dict=True,
            )
        for output, array in bundle.run(feed, profile=name).items():
            wanted = expected[output].numpy()
            assert_informative(wanted)
            if precision == "fp32":
                np.testing.assert_allclose(array, wanted, rtol=0, atol=1e-4)
            else:  # by other tokens kept, too
                cosine = (array * wanted).sum() / np.sqrt((array**2).sum() * (wanted**2).sum())
                assert 0.9 < cosine < 1 - 1e-9


@pytest.mark.parametrize("task", _EACH)
def test_dynbert_verify_and_info_know_such_profiles(bundles, task):
    result = invoke_dynbert("verify", bundles[task], "--threads", "1")
    assert result.exit_code == 0, result.output
    table = invoke_dynbert("info", bundles[task]).output
    [line] = [line.split() for line in table.splitlines() if line.startswith("part") and "fp32" in line]
    assert line[1:4] == ["1.0,0.5,0.3,0.1", "1,2", "fp32"]
    card = (bundles[task] / "README.md").read_text(encoding="utf-8")
    assert "| short | fp32 | all | 0,2 | `short.fp32.onnx` |" in card


@pytest.mark.slow
def test_a_further_profile_costs_no_weights(bundles, checkpoints, tmp_path):
    task = Task.TEXT_CLASSIFICATION
    run_export("--model", checkpoints[task], "-o", tmp_path / "plain", *_OPTIONS[-4:])
    assert not any(graph.fp32_products for graph in read_manifest(bundles[task]).graphs)
    for name in ("weights.fp32.bin", "weights.int8.bin"):
        assert (bundles[task] / name).stat().st_size == (tmp_path / "plain" / name).stat().st_size


@pytest.mark.parametrize("profile", _LAYERS)
def test_texts_are_answered_the_same_alone_and_together(bundles, profile):
    model = dynbert.load(bundles[Task.FEATURE_EXTRACTION], threads=1, precision="fp32")
    together = model.encode(_TEXTS, profile=profile)
    alone = np.stack([model.encode(text, profile=profile) for text in _TEXTS])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_dynamic_quantisation_leaves_out_layers_too(checkpoints, tmp_path):
    options = ("--layer-config", "short=0,2", "--quantize", "dynamic", "--target", "avx2")
    run_export("--model", checkpoints[Task.TEXT_CLASSIFICATION], "-o", tmp_path / "out", *options)
    assert invoke_dynbert("verify", tmp_path / "out").exit_code == 0
    assert read_manifest(tmp_path / "out").profiles[1].layer_config == (0, 2)


@pytest.mark.slow
def test_a_recipe_gives_the_same_graphs(bundles, checkpoints, tmp_path):
    task = Task.TEXT_CLASSIFICATION
    recipe = tmp_path / "recipe.yaml"
    profiles = {
        name: {"length_config": _LENGTHS[name], "layer_config": layers[::-1]} for name, layers in _LAYERS.items()
    }
    recipe.write_text(json.dumps({"profiles": profiles, "precision": "both", "target": "avx2"}), encoding="utf-8")
    run_export("--model", checkpoints[task], "-o", tmp_path / "out", "--recipe", recipe)
    for path in sorted(bundles[task].glob("*.onnx")):
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--layer-config", "fast=0,4"),
            "Profile fast: Layer indices must be from 0 to 3 for a model of 4 layers, got 4",
        ),
        (("--layer-config", "fast=0,1,2,3,4"), "from 0 to 3 for a model of 4 layers, got 4."),
        (
            ("--layer-config", "fast=0,0"),
            "Profile fast: A layer config must name each layer once, got 0 several times.",
        ),
        (("--layer-config", "fast="), "Profile fast: A layer config must name at least one layer, got none."),
        (("--layer-config", "fast=0,a"), "Profile fast: Layer indices must be whole numbers from 0 on, got 'a'."),
        (("--layer-config", "anytime=0"), "Profile names must not be full or anytime, got 'anytime'."),
    ],
)
def test_wrong_layers_are_a_usage_error(checkpoints, tmp_path, options, message):
    result = invoke_export("--model", checkpoints[Task.TEXT_CLASSIFICATION], "-o", tmp_path / "out", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []
