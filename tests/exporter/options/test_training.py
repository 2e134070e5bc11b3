"""The options of a training: defaults, a recipe with every one of them, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynbert.errors import InputError
from dynbert.lengths import LengthConfig
from dynbert_export.errors import RecipeError
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.options.recipe import load_recipe
from dynbert_export.options.training import TrainingConfig, make_training_config
from dynbert_export.options.vocabularies import MixedPrecision, TrainingTaskOption

_GIVEN = {"model": "m", "output": "o", "data": "d"}


def test_a_recipe_may_give_every_option(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        """
        model: owner/name
        output: out
        data: owner/set
        eval_data: owner/other
        split: train[:10]
        eval_split: test
        eval_share: 0.2
        revision: main
        task: multiple-choice
        text_column: question
        pair_column: context
        label_column: answer
        choice_columns: [a, b]
        problem_type: ranking
        layers: [0, 2]
        max_length: 128
        profiles: {fast: [9, 8], balanced: "0.9,0.8"}
        ratio_bound: 0.3
        least_lengths: null
        random_models: 0
        layer_dropout: 0.2
        always_keep_cls_token: false
        plain_epochs: 0
        temperature: 2
        distillation_weight: 0.5
        hidden_weight: 1
        dropout: 0.2
        teacher: owner/teacher
        teacher_weight: 1
        similarity_weight: 0
        contrastive_weight: 1e-1
        epochs: 4
        max_steps: 100
        batch_size: 8
        eval_batch_size: 16
        gradient_accumulation: 4
        learning_rate: 3e-5
        scheduler: cosine
        warmup_ratio: 0
        weight_decay: 0
        mixed_precision: bf16
        eval_every: 50
        early_stopping: 3
        report_to: [tensorboard]
        trainer: {max_grad_norm: 0.5}
        threads: 2
        seed: 7
        resume: true
        overwrite: false
        """,
        encoding="utf-8",
    )
    config = make_training_config(load_recipe(path))
    assert (config.model, config.data, config.teacher) == ("owner/name", "owner/set", "owner/teacher")
    assert config.output == tmp_path / "out"
    assert (config.task, config.mixed_precision) == (TrainingTaskOption.MULTIPLE_CHOICE, MixedPrecision.BF16)
    assert (config.choice_columns, config.layers, config.report_to) == (("a", "b"), (0, 2), ("tensorboard",))
    assert config.profiles == (
        NamedLengths("fast", LengthConfig((9, 8))),
        NamedLengths("balanced", LengthConfig((0.9, 0.8))),
    )
    assert (config.contrastive_weight, config.learning_rate, config.trainer) == (0.1, 3e-5, {"max_grad_norm": 0.5})
    unused = set(TrainingConfig.model_fields) - config.model_fields_set
    assert not unused, "a new option: add it to this test"


def test_defaults_are_those_of_the_papers():
    config = make_training_config(overrides=_GIVEN)
    assert (config.ratio_bound, config.random_models, config.layer_dropout, config.temperature) == (0.2, 2, 0.0, 1.0)
    assert (config.epochs, config.batch_size, config.learning_rate, config.weight_decay) == (3.0, 32, 5e-5, 0.01)
    assert (config.resume, config.overwrite, config.profiles) == (False, False, ())


def test_names_of_files_beside_a_recipe_are_paths(tmp_path):
    (tmp_path / "texts.csv").write_text("", encoding="utf-8")
    path = tmp_path / "recipe.yaml"
    path.write_text("{model: ./model, output: out, data: texts.csv, teacher: owner/name}", encoding="utf-8")
    config = make_training_config(load_recipe(path))
    assert (config.model, config.data) == (str(tmp_path / "model"), str(tmp_path / "texts.csv"))
    assert (config.output, config.teacher) == (tmp_path / "out", "owner/name")


@pytest.mark.parametrize("given", ["0.5,0.4", [0.5, 0.4], LengthConfig((0.5, 0.4))])
def test_least_lengths_have_the_forms_of_a_length_config(given):
    assert make_training_config(overrides=_GIVEN | {"least_lengths": given}).least_lengths == LengthConfig((0.5, 0.4))


def test_options_of_the_caller_win():
    config = make_training_config(_GIVEN | {"seed": 1, "epochs": 9}, {"seed": 2})
    assert (config.seed, config.epochs, config.output) == (2, 9.0, Path("o"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ratio_bound": 1.0}, "ratio_bound must be less than 1.0, got 1.0"),
        ({"ratio_bound": 0}, "ratio_bound must be more than 0.0, got 0"),
        ({"least_lengths": [9, 8]}, "least_lengths must be fractions of the input's length, got the counts 9,8"),
        ({"least_lengths": "0.4,0.5"}, "must not increase"),
        ({"least_lengths": 0.5}, "least_lengths: A length config must be a sequence of numbers, got float"),
        ({"least_lengths": [0.5, 0.4], "ratio_bound": 0.2}, "ratio_bound and least_lengths must not be given together"),
        ({"random_models": -1}, "random_models must be at least 0, got -1"),
        ({"layer_dropout": 1.0}, "layer_dropout must be less than 1.0, got 1.0"),
        ({"eval_share": 1.0}, "eval_share must be less than 1.0, got 1.0"),
        ({"dropout": 1.0}, "dropout must be less than 1.0, got 1.0"),
        ({"temperature": 0.0}, "temperature must be more than 0.0, got 0"),
        ({"teacher_weight": 1.5}, "teacher_weight must be at most 1.0, got 1.5"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"epochs": 0.0}, "epochs must be more than 0.0, got 0"),
        ({"max_length": 2}, "max_length must be at least 3, got 2"),
        ({"layers": []}, r"^layers must be a list of at least 1, got \[\]\.$"),
        ({"layers": [-1]}, r"^layers.0 must be at least 0, got -1\.$"),
        ({"choice_columns": "a"}, r"^choice_columns must be a list, got 'a'\.$"),
        ({"trainer": [1]}, r"^trainer must be a mapping, got \[1\]\.$"),
        ({"task": "fill-mask"}, "task must be one of .*, got 'fill-mask'"),
        ({"mixed_precision": "fp8"}, "mixed_precision must be one of .*, got 'fp8'"),
        ({"seed": "1"}, "seed must be a whole number, got '1'"),
        ({"learning_rat": 1.0}, r"got learning_rat \(did you mean learning_rate\?\)"),
        ({"profiles": {"full": [0.5]}}, "must not be full or anytime"),
        ({"profiles": {"fast": {"layer_config": [0]}}}, "Profile fast must have no layer_config in a training, got 0"),
        ({"resume": True, "overwrite": True}, r"resume and overwrite must not be given together, got both\."),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(RecipeError, match=message) as caught:
        make_training_config(overrides=_GIVEN | options)
    assert isinstance(caught.value, InputError)


def test_all_faults_are_told_at_once():
    with pytest.raises(RecipeError) as caught:
        make_training_config({"batch_size": 0}, {"seed": -1})
    faults = str(caught.value).splitlines()
    assert faults[0] == "5 faults in the options:"
    assert len(faults) == 6
    assert any("data must be given" in fault for fault in faults)
