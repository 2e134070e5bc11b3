"""Recipes and options: what is read, what wins, and the message for every kind of fault."""

from __future__ import annotations

import re
from pathlib import Path

import pydantic
import pytest

from dynbert.errors import InputError, LengthConfigError
from dynbert.lengths import LengthConfig
from dynbert.manifest import Precision, Task
from dynbert_export.errors import RecipeError
from dynbert_export.options.profiles import Profile, make_profiles, parse_profile
from dynbert_export.options.recipe import ExportConfig, Gates, load_recipe, make_config
from dynbert_export.options.vocabularies import (
    CalibrationMethod,
    PrecisionOption,
    QuantizeOption,
    TargetOption,
    TaskOption,
)

_NEEDED = {"model": "folder", "output": "bundle"}


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
        max_length: 384
        quantize: dynamic
        precision: both
        target: avx2
        smooth_quant_alpha: 0.5
        calibration_method: percentile
        calibration: /data/squad.json
        calibration_samples: 10
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
            Profile("fast", fast),
            Profile("balanced", LengthConfig((0.9, 0.8, 0.7))),
            Profile("reference", fast),
        ),
        always_keep_cls_token=False,
        max_length=384,
        quantize=QuantizeOption.DYNAMIC,
        precision=PrecisionOption.BOTH,
        target=(TargetOption.AVX2,),
        smooth_quant_alpha=0.5,
        calibration_method=CalibrationMethod.PERCENTILE,
        calibration=Path("/data/squad.json"),
        calibration_samples=10,
        gates=Gates(fp32_max_abs_difference=1e-3, int8_min_span_agreement=0.8, max_fp32_share=0.25),
        opset=18,
        threads=2,
        seed=7,
        overwrite=True,
    )
    assert list(config.length_configs) == ["fast", "balanced", "reference"]
    unused = set(ExportConfig.model_fields) - config.model_fields_set
    assert not unused, "a new option: add it to this test"


def test_make_config_lets_the_caller_win_option_by_option():
    recipe = {**_NEEDED, "seed": 1, "opset": 18, "profiles": {"fast": "2,1", "slow": "2,2"}}
    config = make_config(recipe, {"seed": 2, "profiles": ["quick=2,1"]})
    assert (config.seed, config.opset) == (2, 18)
    assert config.length_configs == {"quick": LengthConfig((2, 1))}


def test_make_config_is_frozen_and_leaves_its_arguments_alone():
    recipe, overrides = dict(_NEEDED), {"seed": 2}
    config = make_config(recipe, overrides)
    assert (recipe, overrides) == (_NEEDED, {"seed": 2})
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        config.seed = 3


def test_paths_of_a_recipe_are_relative_to_its_folder(tmp_path, monkeypatch):
    (tmp_path / "recipes" / "checkpoint").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    path = _write(Path("recipes"), "{model: checkpoint, output: ../bundle, calibration: texts.txt}")
    config = make_config(load_recipe(path))
    assert config.model == str(Path("recipes/checkpoint"))
    assert config.output == Path("recipes/../bundle")
    assert config.calibration == Path("recipes/texts.txt")


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
    ("values", "message"),
    [
        ({"task": "translation"}, "task must be one of auto, question-answering, .*, got 'translation'."),
        ({"target": "sse"}, "target must be one of auto, vnni, amx, avx2, arm64, got 'sse'."),
        ({"target": []}, r"target must be one of auto, vnni, amx, avx2, arm64, or a list of them, got \[\]."),
        ({"target": None}, "target must be one of auto, .*, or a list of them, got None."),
        ({"target": ["vnni", "sse", 3]}, "target must be one of auto, vnni, amx, avx2, arm64, got 'sse', 3."),
        ({"quantize": True}, "quantize must be one of static, dynamic, none, got True."),
        ({"model": 3}, "model must be text, got 3."),
        ({"model": ""}, "model must be a hub id or a folder, got ''."),
        ({"output": None}, "output must be a path, got None."),
        ({"max_length": 2}, "max_length must be at least 3, got 2."),
        ({"max_length": "384"}, "max_length must be a whole number, got '384'."),
        ({"max_length": 38.5}, "max_length must be a whole number, got 38.5."),
        ({"threads": True}, "threads must be a whole number, got True."),
        ({"threads": 0}, "threads must be at least 1, got 0."),
        ({"calibration_samples": 0}, "calibration_samples must be at least 1, got 0."),
        ({"calibration": 3}, "calibration must be a path, got 3."),
        ({"opset": 16}, "opset must be at least 17, got 16."),
        ({"opset": 21}, "opset must be at most 20, got 21."),
        ({"seed": -1}, "seed must be at least 0, got -1."),
        ({"seed": 1 << 32}, "seed must be less than 4294967296, got 4294967296."),
        ({"overwrite": 1}, "overwrite must be true or false, got 1."),
        ({"overwrite": "no"}, "overwrite must be true or false, got 'no'."),
        (
            {"calibration_method": "kl"},
            "calibration_method must be one of auto, minmax, percentile, entropy, got 'kl'.",
        ),
        ({"smooth_quant_alpha": 1.5}, "smooth_quant_alpha must be a number from 0 to 1, auto or none, got 1.5."),
        ({"smooth_quant_alpha": "much"}, "smooth_quant_alpha must be a number from 0 to 1, auto or none, got 'much'."),
        ({"smooth_quant_alpha": True}, "smooth_quant_alpha must be .*, got True."),
        ({"smooth_quant_alpha": None}, "smooth_quant_alpha must be .*, got None."),
        ({"smooth_quant_alpha": float("nan")}, "smooth_quant_alpha must be .*, got nan."),
        ({"gates": {"max_fp32_share": 1.5}}, "gates.max_fp32_share must be at most 1.0, got 1.5."),
        ({"gates": 3}, "gates must be a mapping, got 3."),
        ({"gates": {"fp32_max_abs_difference": 0}}, "gates.fp32_max_abs_difference must be more than 0.0, got 0."),
        ({"gates": {"int8_min_cosine": 2}}, "gates.int8_min_cosine must be at most 1.0, got 2."),
        ({"gates": {"int8_min_cosine": float("nan")}}, "gates.int8_min_cosine must be .*, got nan."),
        ({1: 2}, "Keys must be text, got 1."),
        ({"profiles": None}, "Profiles must be a mapping from name to length config, got NoneType."),
        ({"profiles": [3]}, "Profiles must be a mapping"),
        ({"profiles": {"x": "3,4"}}, "Profile x: A length config must not increase"),
        (
            {"quantize": "none", "precision": "int8"},
            "precision must be fp32 where quantize is none, got int8. Leave precision out, or choose quantize static",
        ),
        ({"quantize": "none", "precision": "both"}, "precision must be fp32 where quantize is none, got both."),
    ],
)
def test_make_config_names_the_option_the_rule_and_the_value(values, message):
    with pytest.raises(RecipeError, match=message) as caught:
        make_config({**_NEEDED, **values})
    assert "\n" not in str(caught.value), "one fault, one line"


@pytest.mark.parametrize("alpha", [0, 0.35, 1, 1.0, "auto", "none"])
def test_smooth_quant_alpha_is_a_number_or_a_word(alpha):
    assert make_config({**_NEEDED, "smooth_quant_alpha": alpha}).smooth_quant_alpha == alpha


def test_make_config_needs_a_model_and_an_output():
    with pytest.raises(RecipeError) as caught:
        make_config()
    assert str(caught.value).splitlines() == [
        "2 faults in the options:",
        "- model must be given. Pass it as an option or in the recipe.",
        "- output must be given. Pass it as an option or in the recipe.",
    ]


def test_make_config_names_all_unknown_keys_and_all_other_faults_at_once():
    values = {
        **_NEEDED,
        "max-length": 3,
        "colour": "red",
        "gates": {"int8_min_cosin": 0.9},
        "opset": 3,
        "profiles": {"full": "1", "Fast": "0,x", "a/b": "1", "ok": "1", "OK": "1", True: "1"},
    }
    with pytest.raises(RecipeError) as caught:
        make_config(values)
    heading, unknown, *rest = str(caught.value).splitlines()
    assert heading == "7 faults in the options:"
    assert "colour" in unknown
    assert "max-length (did you mean max_length?)" in unknown
    assert "gates.int8_min_cosin (did you mean gates.int8_min_cosine?)" in unknown
    assert "calibration_samples" in unknown, "the known keys are listed"
    for line in ("opset must be at least 17", "must not be full or anytime", "Profile Fast: Length 1", "'a/b'", "True"):
        assert any(line in fault for fault in rest), line
    assert any("must differ, and not only in case, got 'ok' and 'OK'" in fault for fault in rest)


def test_values_in_messages_are_short():
    with pytest.raises(RecipeError) as caught:
        make_config({**_NEEDED, "task": "x" * 100_000, "seed": list(range(100_000))})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("quantize", ["none", QuantizeOption.NONE])
def test_precision_follows_quantize_where_it_is_not_given(quantize):
    assert make_config({**_NEEDED, "quantize": quantize}).precisions == (Precision.FP32,)
    assert make_config(_NEEDED).precisions == (Precision.INT8,)
    assert make_config({**_NEEDED, "precision": "both"}).precisions == (Precision.INT8, Precision.FP32)


def test_options_cover_the_vocabulary_of_the_manifest():
    assert {option.value for option in TaskOption} == {"auto", *(task.value for task in Task)}
    assert {option.value for option in PrecisionOption} == {"both", *(precision.value for precision in Precision)}


def test_every_task_has_a_gate_and_every_gate_a_task():
    names = sorted(name for name in Gates.model_fields if name.startswith("int8_min_"))
    gates = Gates(**{name: index / 10 for index, name in enumerate(names)})
    thresholds = {task: gates.int8_min_agreement(task) for task in Task}
    assert sorted(set(thresholds.values())) == [index / 10 for index in range(len(names))]
    assert thresholds[Task.QUESTION_ANSWERING] == names.index("int8_min_span_agreement") / 10
    assert thresholds[Task.NEXT_SENTENCE_PREDICTION] == thresholds[Task.TEXT_CLASSIFICATION]
    defaults = {task: Gates().int8_min_agreement(task) for task in Task}
    assert defaults == dict.fromkeys(Task, 0.9) | {Task.FEATURE_EXTRACTION: 0.97}


@pytest.mark.parametrize(
    ("text", "name", "lengths"),
    [
        ("fast=315,251,242", "fast", (315, 251, 242)),
        ("fast = (315, 251, 242)", "fast", (315, 251, 242)),
        ("0.9,0.8", "custom", (0.9, 0.8)),
        ("v1.2_x-y=1", "v1.2_x-y", (1,)),
    ],
)
def test_parse_profile_reads_name_and_list(text, name, lengths):
    assert parse_profile(text) == Profile(name, LengthConfig(lengths))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Profile custom: Length 0 must be a number"),
        ("fast=", "Profile fast: Length 0 must be a number"),
        ("fast=3,2,zero", "Profile fast: Length 2 must be a number, got 'zero'"),
        ("fast=3,0", "must be at least 1 token, got 0"),
        ("fast=3,-1", "must be at least 1 token, got -1"),
        ("fast=2,3", "must not increase"),
        ("fast=1.5", "fraction in"),
        ("=3,2", "plain file names of at most 64 characters, got ''"),
        ("a=b=3,2", "got 'a=b'"),
        ("../x=3,2", r"got '\.\./x'"),
        (".hidden=3,2", "got '.hidden'"),
        ("a b=3,2", "got 'a b'"),
        ("é=3,2", "plain file names"),
        (f"{'x' * 65}=3,2", "at most 64 characters"),
        ("full=3,2", "must not be full or anytime, got 'full'"),
        ("Anytime=3,2", "must not be full or anytime, got 'Anytime'"),
    ],
)
def test_parse_profile_refuses(text, message):
    with pytest.raises(InputError, match=message):
        parse_profile(text)


@pytest.mark.parametrize("given", [["3,2", "2,1"], ["fast=3,2", "fast=2,1"], {"fast": "3,2", "FAST": "2,1"}])
def test_make_profiles_refuses_two_of_one_name(given):
    with pytest.raises(InputError, match=r"must differ, and not only in case, got .*NAME=LIST"):
        make_profiles(given)


def test_length_config_faults_keep_their_kind():
    with pytest.raises(LengthConfigError):
        parse_profile("fast=2,3")


def test_check_profiles_holds_all_profiles_to_the_model():
    config = make_config({**_NEEDED, "profiles": {"short": "3", "long": "99,2,1", "good": "3,2,1", "half": "0.5,0.4"}})
    with pytest.raises(InputError) as caught:
        config.check_profiles(num_layers=3, max_length=64)
    faults = str(caught.value).splitlines()
    assert [re.match(r"Profile (\w+)", fault).group(1) for fault in faults] == ["short", "long", "half"]
    assert "must have 3 entries, one a layer, got 1" in faults[0]
    assert "must be at most the maximum length of 64 tokens, got 99" in faults[1]
    make_config({**_NEEDED, "profiles": {"good": "3,2,1"}}).check_profiles(num_layers=3, max_length=64)
