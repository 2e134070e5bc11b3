"""Recipes: what is read, what paths in them mean, and what is no recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Embeddings
from dynbert_export.errors import RecipeError
from dynbert_export.options.config import ExportConfig, Gates, make_config
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.options.recipe import load_recipe
from dynbert_export.options.training import make_training_config
from dynbert_export.options.vocabularies import (
    CalibrationMethod,
    PrecisionOption,
    QuantizeOption,
    TargetOption,
    TaskOption,
)


def _write(folder, text):
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_load_recipe_reads_every_option(tmp_path):
    path = _write(
        tmp_path,
        """
        model: owner/name
        revision: main
        output: /bundles/one
        task: question-answering
        profiles:
          fast: [9, 8, 7]
          balanced: 0.9, 0.8, 0.7
          reference: "(9, 8, 7)"
        always_keep_cls_token: false
        embeddings: token-states
        max_length: 384
        quantize: dynamic
        precision: both
        target: avx2
        smooth_quant_alpha: 0.5
        calibration_method: percentile
        calibration: /data/squad.json
        calibration_samples: 10
        evaluate: /data/test.csv
        evaluate_split: dev
        text_column: title,body
        pair_column: second
        label_column: mood
        choice_columns: [a, b]
        query_profile: fast
        gates: {fp32_max_abs_difference: 1e-3, int8_min_span_agreement: 0.8, max_fp32_share: 0.25}
        opset: 18
        threads: 2
        seed: 7
        overwrite: true
        """,
    )
    config = make_config(load_recipe(path))
    fast = LengthConfig((9, 8, 7))
    assert config == ExportConfig(
        model="owner/name",
        revision="main",
        output=Path("/bundles/one"),
        task=TaskOption.QUESTION_ANSWERING,
        profiles=(
            NamedLengths("fast", fast),
            NamedLengths("balanced", LengthConfig((0.9, 0.8, 0.7))),
            NamedLengths("reference", fast),
        ),
        always_keep_cls_token=False,
        embeddings=Embeddings.TOKEN_STATES,
        max_length=384,
        quantize=QuantizeOption.DYNAMIC,
        precision=PrecisionOption.BOTH,
        target=(TargetOption.AVX2,),
        smooth_quant_alpha=0.5,
        calibration_method=CalibrationMethod.PERCENTILE,
        calibration=Path("/data/squad.json"),
        calibration_samples=10,
        evaluate="/data/test.csv",
        evaluate_split="dev",
        text_column="title,body",
        pair_column="second",
        label_column="mood",
        choice_columns=("a", "b"),
        query_profile="fast",
        gates=Gates(fp32_max_abs_difference=1e-3, int8_min_span_agreement=0.8, max_fp32_share=0.25),
        opset=18,
        threads=2,
        seed=7,
        overwrite=True,
    )
    assert list(config.length_configs) == ["fast", "balanced", "reference"]
    unused = set(ExportConfig.model_fields) - config.model_fields_set
    assert not unused, "a new option: add it to this test"


def test_paths_of_a_recipe_are_relative_to_its_folder(tmp_path, monkeypatch):
    (tmp_path / "recipes" / "checkpoint").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    path = _write(Path("recipes"), "{model: checkpoint, output: ../bundle, calibration: texts.txt, evaluate: ./a.csv}")
    config = make_config(load_recipe(path))
    assert config.model == str(Path("recipes/checkpoint"))
    assert config.output == Path("recipes/../bundle")
    assert config.calibration == Path("recipes/texts.txt")
    assert config.evaluate == str(Path("recipes/a.csv"))


@pytest.mark.parametrize("model", ["bert-base-uncased", "owner/name", "/nowhere/at/all"])
def test_a_model_that_is_no_folder_beside_the_recipe_stays_as_it_is(tmp_path, model):
    assert load_recipe(_write(tmp_path, f"model: {model}"))["model"] == model


def test_a_model_with_a_leading_dot_is_always_a_path(tmp_path):
    assert load_recipe(_write(tmp_path, "model: ./gone"))["model"] == str(tmp_path / "gone")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a mapping of options, got nothing"),
        ("# nothing here", "got nothing"),
        ("- a", "got a list"),
        ("just text", "got a text"),
        ("42", "got one value"),
        ("model: [", "must be plain YAML, got in .*expected the node content"),
        ("a: 1\nb: 2\na: 3", r"the key 'a' stands twice \(line 3\)"),
        ("gates: {x: 1, x: 2}", "the key 'x' stands twice"),
        ("model: !!python/object/apply:os.system [ls]", r"os.system', which asks for an object.*\(line 1\)"),
        ("model: !!python/name:os.system", "asks for an object"),
        ("model: !custom x", "'!custom', which asks for an object"),
        ("a: &x [1]\nb: *x", r"the alias \*x \(line 2\)"),
        ("a: &x [*x]", r"the alias \*x"),
        ("a: 1\n---\nb: 2", "another document"),
        ("a: 2024-13-45", "month must be in 1..12"),
        ("a: \x07", "special characters are not allowed"),
        ("[" * 5000, "must be plain YAML"),
        ("? [a]\n: b", "unhashable key"),
        (f"a: {'x' * (1 << 20)}", "must be at most 1048576 bytes"),
    ],
)
def test_load_recipe_refuses_what_is_no_plain_mapping(tmp_path, text, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(_write(tmp_path, text))


def test_load_recipe_refuses_files_that_cannot_be_read(tmp_path):
    with pytest.raises(RecipeError, match=r"readable YAML file, got .*gone.yaml \(No such file"):
        load_recipe(tmp_path / "gone.yaml")
    with pytest.raises(RecipeError, match="Is a directory"):
        load_recipe(tmp_path)
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("model: Stra\xdfe".encode("latin-1"))
    with pytest.raises(RecipeError, match="must be UTF-8"):
        load_recipe(latin)


@pytest.mark.parametrize(
    ("written", "targets"),
    [
        ("vnni", (TargetOption.VNNI,)),
        ("[vnni, avx2]", (TargetOption.VNNI, TargetOption.AVX2)),
        ("[avx2, vnni, avx2]", (TargetOption.AVX2, TargetOption.VNNI)),
    ],
)
def test_target_is_one_or_a_list(tmp_path, written, targets):
    recipe = load_recipe(_write(tmp_path, f"model: m\noutput: o\ntarget: {written}"))
    assert make_config(recipe).target == targets


def test_loading_a_recipe_runs_nothing(tmp_path):
    target = tmp_path / "made"
    with pytest.raises(RecipeError):
        load_recipe(_write(tmp_path, f"model: !!python/object/apply:pathlib.Path.touch [{target}]"))
    assert not target.exists()


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[3] / "recipes").glob("*.yaml")), ids=lambda path: path.name
)
def test_recipes_that_ship_are_valid(path):
    make = make_training_config if path.name.startswith("train-") else make_config
    config = make(load_recipe(path))
    assert config.output.parent == path.parent / ".." / "build"


def test_a_recipe_s_profiles_may_leave_out_layers(tmp_path):
    path = _write(
        tmp_path,
        """
        model: owner/name
        output: out
        profiles:
          fast: {length_config: [9, 8, 7], layer_config: [2, 0]}
          short: {layer_config: "0,1"}
          plain: [9, 8, 7]
        """,
    )
    lengths = LengthConfig((9, 8, 7))
    assert make_config(load_recipe(path)).profiles == (
        NamedLengths("fast", lengths, (0, 2)),
        NamedLengths("short", None, (0, 1)),
        NamedLengths("plain", lengths),
    )
