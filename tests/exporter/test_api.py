"""``dynbert_export.export``: its options are those of a recipe, and reach the pipeline."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dynbert_export
from dynbert.errors import InputError
from dynbert.lengths import LengthConfig
from dynbert_export import pipeline
from dynbert_export.api import ExportOptions, TrainingOptions, export, train
from dynbert_export.errors import MissingPackageError, RecipeError
from dynbert_export.options.config import ExportConfig
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.options.training import TrainingConfig
from dynbert_export.training import run


@pytest.fixture
def calls(monkeypatch):
    """Take the place of the pipeline; hold what it was called with."""
    made = []

    def fake(config, *, progress=None):
        made.append((config, progress))
        return "result"

    monkeypatch.setattr(pipeline, "export_bundle", fake)
    return made


def test_export_is_public():
    assert dynbert_export.export is export
    assert dynbert_export.__all__ == ["export", "search", "train"]


def test_options_are_the_fields_of_the_config():
    """Two lists of one thing: the names that type checkers know, and those that are read."""
    assert set(ExportOptions.__annotations__) == set(ExportConfig.model_fields)


def test_options_reach_the_pipeline(calls, tmp_path):
    progress = object()
    result = export(
        model=tmp_path / "model",
        output=str(tmp_path / "out"),
        profiles={"fast": (20, 10, 5)},
        gates={"int8_min_cosine": 0.5},
        seed=7,
        progress=progress,
    )
    [(config, given)] = calls
    assert (result, given) == ("result", progress)
    assert (config.model, config.output) == (str(tmp_path / "model"), tmp_path / "out")
    assert config.length_configs == {"fast": LengthConfig((20, 10, 5))}
    assert (config.gates.int8_min_cosine, config.seed) == (0.5, 7)


@pytest.mark.parametrize(
    "profiles", [{"fast": "20,10,5"}, {"fast": [20, 10, 5]}, {"fast": LengthConfig((20, 10, 5))}, ["fast=20,10,5"]]
)
def test_profiles_may_have_every_form(calls, profiles, tmp_path):
    export(model="m", output=tmp_path / "out", profiles=profiles)
    assert calls[0][0].length_configs == {"fast": LengthConfig((20, 10, 5))}


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_options_win_over_the_recipe(calls, tmp_path, kind):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: theirs\noutput: out\nseed: 3\nquantize: none\n", encoding="utf-8")
    export(recipe=kind(recipe), seed=4)
    [(config, _)] = calls
    assert (config.model, config.output, config.seed) == ("theirs", tmp_path / "out", 4)
    assert config.precision.value == "fp32"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "model must be given"),
        ({"model": "m"}, "output must be given"),
        ({"model": "m", "output": "o", "sead": 1}, r"got sead \(did you mean seed\?\)"),
        ({"model": "m", "output": "o", "seed": "1"}, "seed must be a whole number, got '1'"),
        ({"model": "m", "output": "o", "profiles": {"full": [1]}}, "must not be full or anytime"),
    ],
)
def test_wrong_options_are_refused_before_any_work(calls, options, message):
    with pytest.raises(RecipeError, match=message) as caught:
        export(**options)
    assert isinstance(caught.value, InputError)
    assert calls == []


def test_the_runtime_alone_is_told_what_to_install(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "dynbert_export.options.config", raising=False)
    monkeypatch.delitem(sys.modules, "dynbert_export.options.recipe", raising=False)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    with pytest.raises(MissingPackageError, match=r"got the runtime alone\. Run: pip install 'dynbert\[export\]'"):
        export(model="m", output=tmp_path / "out")


def test_import_is_light():
    code = (
        "import sys, dynbert_export, dynbert_export.cli\n"
        "heavy = {'torch', 'transformers', 'optimum', 'neural_compressor', 'onnx', 'onnxruntime', 'pydantic', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"


def test_options_of_a_training_are_the_fields_of_its_config():
    assert set(TrainingOptions.__annotations__) == set(TrainingConfig.model_fields)


def test_options_reach_the_training(monkeypatch, tmp_path):
    made = []
    monkeypatch.setattr(
        run, "train_checkpoint", lambda config, *, progress: made.append((config, progress)) or "result"
    )
    progress = object()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("seed: 3\nepochs: 2\n", encoding="utf-8")
    result = train(
        recipe=recipe,
        model=tmp_path / "model",
        output=tmp_path / "out",
        data=tmp_path / "a.csv",
        eval_data=tmp_path / "b.csv",
        teacher=tmp_path / "teacher",
        layers=[0, 1],
        profiles={"fast": (20, 10)},
        trainer={"max_grad_norm": 0.5},
        seed=7,
        progress=progress,
    )
    [(config, given)] = made
    assert (result, given) == ("result", progress)
    assert (config.model, config.output) == (str(tmp_path / "model"), tmp_path / "out")
    assert (config.data, config.eval_data, config.teacher) == tuple(
        str(tmp_path / name) for name in ("a.csv", "b.csv", "teacher")
    )
    assert (config.layers, config.seed, config.epochs, config.trainer) == ((0, 1), 7, 2.0, {"max_grad_norm": 0.5})


def test_a_training_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingPackageError, match=r"got no matplotlib\. Run: pip install 'dynbert\[train\]'"):
        train(model="m", output="o", data="d")


@pytest.mark.parametrize("layers", ["0,2", [2, 0], (0, 2)])
def test_profiles_may_leave_out_layers(calls, layers, tmp_path):
    profiles = {"fast": {"length_config": (20, 10, 5), "layer_config": layers}, "short": {"layer_config": layers}}
    export(model="m", output=tmp_path / "out", profiles=profiles)
    assert calls[0][0].profiles == (
        NamedLengths("fast", LengthConfig((20, 10, 5)), (0, 2)),
        NamedLengths("short", None, (0, 2)),
    )
