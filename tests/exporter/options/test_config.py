"""Options: what wins, what follows from what, and the message for every kind of fault."""

from __future__ import annotations

import pydantic
import pytest

from dynbert.errors import InputError
from dynbert.lengths import LengthConfig
from dynbert.manifest import Embeddings, Precision, Task
from dynbert_export.errors import RecipeError
from dynbert_export.options.config import Gates, make_config
from dynbert_export.options.vocabularies import QuantizeOption
from dynbert_export.tasks import Metric

_NEEDED = {"model": "folder", "output": "bundle"}


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
        ({"profiles": {"x": {"layer_config": "0,0"}}}, "Profile x: A layer config must name each layer once, got 0"),
        (
            {"quantize": "none", "precision": "int8"},
            "precision must be fp32 where quantize is none, got int8. Leave precision out, or choose quantize static",
        ),
        ({"quantize": "none", "precision": "both"}, "precision must be fp32 where quantize is none, got both."),
        (
            {"quantize": "none", "target": ["vnni", "avx2"]},
            "target must be left out where quantize is none, got vnni, avx2. It is for INT8 graphs, and there will be",
        ),
        ({"embeddings": "means"}, "embeddings must be one of pooled, token-states, got 'means'."),
        ({"embeddings": None}, "embeddings must be one of pooled, token-states, got None."),
        ({"precision": "fp32", "target": "auto"}, "target must be left out where precision is fp32, got auto."),
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


def test_every_metric_has_a_gate_and_every_gate_a_metric():
    names = sorted(name for name in Gates.model_fields if name.startswith("int8_min_"))
    gates = Gates(**{name: index / 10 for index, name in enumerate(names)})
    thresholds = {metric: gates.int8_min_agreement(metric) for metric in Metric}
    own = {metric: names.index(f"int8_min_{metric}") / 10 for metric in set(Metric) - {Metric.CLOSENESS}}
    assert thresholds == own | {Metric.CLOSENESS: own[Metric.LABEL_AGREEMENT]}
    assert len(set(own.values())) == len(names)


def test_gates_ask_for_nine_tenths_and_more_of_embeddings():
    defaults = {metric: Gates().int8_min_agreement(metric) for metric in Metric}
    assert defaults == dict.fromkeys(Metric, 0.9) | {Metric.COSINE: 0.97}


@pytest.mark.parametrize("embeddings", ["pooled", "token-states", Embeddings.POOLED])
def test_embeddings_are_for_feature_extraction(embeddings):
    config = make_config({**_NEEDED, "embeddings": embeddings})
    config.check_task(Task.FEATURE_EXTRACTION)
    message = rf"^embeddings must be left out for fill-mask, got {embeddings}\. It says what graphs of feature-ext"
    with pytest.raises(InputError, match=message):
        config.check_task(Task.FILL_MASK)


def test_embeddings_are_pooled_where_nothing_is_said_and_then_any_task_will_do():
    config = make_config(_NEEDED)
    assert config.embeddings is Embeddings.POOLED
    for task in Task:
        config.check_task(task)
