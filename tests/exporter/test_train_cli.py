"""The ``dynbert-train`` command without a training: options, errors, what is printed where."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import dynbert
from dynbert.errors import InputError
from dynbert.lengths import LengthConfig
from dynbert.scoring.records import DataError
from dynbert_export import train_cli
from dynbert_export.errors import CheckpointError, ExportError
from dynbert_export.options.training import TrainingConfig, make_training_config
from dynbert_export.training import run, workers

_GIVEN = ("--model", "m", "--data", "d.csv", "-o", "out")


@pytest.fixture
def invoke(monkeypatch):
    """Run the command with a training that keeps the config and, where told to, fails."""
    seen = []

    def invoke_command(*arguments, failure=None):
        def fake(config, *, progress=None):
            seen.append(config)
            if progress is not None:
                with progress.stage("a stage"):
                    progress.note("mind [this]")
            if failure is not None:
                raise failure
            return run.TrainingResult(Path("out"), "f1", {"full": 0.91239, "fast": 0.5}, {"full": 0.25})

        monkeypatch.setattr(run, "train_checkpoint", fake)
        result = CliRunner().invoke(train_cli.main, [str(argument) for argument in arguments])
        return result, seen[-1] if seen else None

    return invoke_command


def test_version_is_printed(invoke):
    result, _ = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"dynbert-train, version {dynbert.__version__}\n")


def test_help_names_every_option(invoke):
    result, config = invoke("-h")
    assert (result.exit_code, config) == (0, None)
    missing = set(TrainingConfig.model_fields) - {
        # Said by a recipe, or in Python.
        *("always_keep_cls_token", "distillation_weight", "eval_batch_size", "eval_share", "scheduler"),
        *("similarity_weight", "teacher_weight", "trainer"),
    }
    names = {"profiles": "length-config", "layers": "layer", "choice_columns": "choice-column"}
    assert all(f"--{names.get(name, name.replace('_', '-'))}" in result.output for name in missing)


def test_every_option_reaches_the_config(invoke):
    arguments = (
        "--model m --data d --output o --task multiple-choice --eval-data e --split s --eval-split v --text-column t "
        "--pair-column p --label-column l --choice-column a --choice-column b --problem-type ranking "
        "--length-config fast=9,8 --length-config 0.9,0.8 --ratio-bound 0.3 --random-models 0 --layer-dropout 0.1 "
        "--plain-epochs 0 --temperature 2 --hidden-weight 1 --dropout 0.2 --teacher c --contrastive-weight 0.5 "
        "--epochs 2 --max-steps 9 --batch-size 3 --gradient-accumulation 2 --learning-rate 1e-3 --warmup-ratio 0 "
        "--weight-decay 0 --mixed-precision no --eval-every 4 --early-stopping 2 --report-to tensorboard "
        "--layer 0 --layer 2 --max-length 99 --threads 3 --seed 8 --revision r --overwrite"
    )
    result, config = invoke(*arguments.split())
    assert result.exit_code == 0, result.output
    expected = {
        "model": "m",
        "data": "d",
        "output": "o",
        "task": "multiple-choice",
        "eval_data": "e",
        "split": "s",
        "eval_split": "v",
        "text_column": "t",
        "pair_column": "p",
        "label_column": "l",
        "choice_columns": ["a", "b"],
        "problem_type": "ranking",
        "profiles": {"fast": LengthConfig((9, 8)), "custom": LengthConfig((0.9, 0.8))},
        "ratio_bound": 0.3,
        "random_models": 0,
        "layer_dropout": 0.1,
        "plain_epochs": 0,
        "temperature": 2,
        "hidden_weight": 1,
        "dropout": 0.2,
        "teacher": "c",
        "contrastive_weight": 0.5,
        "epochs": 2,
        "max_steps": 9,
        "batch_size": 3,
        "gradient_accumulation": 2,
        "learning_rate": 1e-3,
        "warmup_ratio": 0,
        "weight_decay": 0,
        "mixed_precision": "no",
        "eval_every": 4,
        "early_stopping": 2,
        "report_to": ["tensorboard"],
        "layers": [0, 2],
        "max_length": 99,
        "threads": 3,
        "seed": 8,
        "revision": "r",
        "overwrite": True,
    }
    assert config == make_training_config(overrides=expected)


def test_least_lengths_reach_the_config(invoke):
    _, config = invoke(*_GIVEN, "--least-lengths", "0.5,0.4")
    assert config.least_lengths == LengthConfig((0.5, 0.4))


def test_options_that_are_not_given_have_the_config_s_defaults(invoke):
    result, config = invoke(*_GIVEN)
    assert result.exit_code == 0
    assert config == TrainingConfig(model="m", output=Path("out"), data="d.csv")


def test_options_win_over_the_recipe(invoke, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("model: theirs\ndata: owner/set\noutput: out\nseed: 3\nepochs: 9\n", encoding="utf-8")
    result, config = invoke("--recipe", recipe, "--seed", "4")
    assert result.exit_code == 0, result.output
    assert (config.model, config.seed, config.epochs) == ("theirs", 4, 9.0)


def test_the_table_goes_to_standard_output_and_progress_to_standard_error(invoke):
    result, _ = invoke(*_GIVEN)
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["profile", "f1", "before", "after"],
        ["---------", "-----------", "-------"],
        ["full", "0.2500", "0.9124"],
        ["fast", "0.5000"],
    ]
    assert "Note: mind [this]" in result.stderr
    assert result.stderr.splitlines()[-1] == "out: a checkpoint for dynbert-export; training.png shows the curve"


def test_nothing_is_printed_when_quiet(invoke):
    result, _ = invoke(*_GIVEN, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_one_of_several_processes_prints(invoke, monkeypatch):
    monkeypatch.setattr(workers, "is_writer", lambda: False)
    result, config = invoke(*_GIVEN)
    assert (result.exit_code, result.stdout, result.stderr, config is None) == (0, "", "", False)


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
@pytest.mark.parametrize(
    ("failure", "exit_code"),
    [
        (InputError("a wrong option"), 2),
        (DataError("a bad row"), 1),
        (CheckpointError("a bad checkpoint"), 1),
        (ExportError("a full disk"), 1),
    ],
)
def test_expected_error_is_one_line_and_an_exit_code(invoke, failure, exit_code, quiet):
    result, _ = invoke(*_GIVEN, *quiet, failure=failure)
    assert result.exit_code == exit_code
    assert result.stderr.splitlines()[-1] == f"Error: {failure}"
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_expected_error_keeps_its_traceback_when_debugging(invoke):
    failure = DataError("a bad row")
    result, _ = invoke(*_GIVEN, "--debug", failure=failure)
    assert (result.exception, result.exit_code) == (failure, 1)


def test_bug_is_not_hidden(invoke):
    assert isinstance(invoke(*_GIVEN, failure=KeyError("a bug"))[0].exception, KeyError)


def test_interrupt_aborts_and_the_signal_handler_is_put_back(invoke):
    before = signal.getsignal(signal.SIGTERM)
    result, _ = invoke(*_GIVEN, failure=KeyboardInterrupt())
    assert (result.exit_code, "Aborted!" in result.stderr) == (1, True)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "3 faults in the options:\n- model must be given"),
        (("--model", "m", "-o", "o"), "data must be given"),
        ((*_GIVEN, "--ratio-bound", "1"), "ratio_bound must be less than 1.0, got 1.0"),
        ((*_GIVEN, "--least-lengths", "9,8"), "least_lengths must be fractions of the input's length, got"),
        ((*_GIVEN, "--task", "poetry"), "'poetry' is not one of 'auto', 'question-answering'"),
        ((*_GIVEN, "--resume", "--overwrite"), "resume and overwrite must not be given together"),
        ((*_GIVEN, "--length-config", "0.5,0.9"), "must not increase"),
        ((*_GIVEN, "--recipe", "none.yaml"), "must be a readable YAML file, got none.yaml"),
    ],
)
def test_wrong_options_are_refused_before_any_work(invoke, arguments, message):
    result, config = invoke(*arguments)
    assert (result.exit_code, config) == (2, None)
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("package", ["accelerate", "datasets", "matplotlib", "scipy", "seqeval", "pyarrow"])
def test_a_missing_package_is_one_line_before_any_work(invoke, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    result, config = invoke(*_GIVEN)
    assert (result.exit_code, config) == (1, None)
    assert result.stderr == (
        f"Error: The trainer's packages must be installed, got no {package}. Run: pip install 'dynbert[train]'\n"
    )


def test_the_runtime_alone_is_told_what_to_install(invoke, monkeypatch):
    monkeypatch.delitem(sys.modules, "dynbert_export.options.training", raising=False)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    result, config = invoke(*_GIVEN)
    assert (result.exit_code, config) == (1, None)
    assert "got the runtime alone. Run: pip install 'dynbert[train]'" in result.stderr


def test_the_module_runs_as_the_command_and_is_light():
    """As torchrun starts it; help needs none of the heavy packages."""
    code = (
        "import runpy, sys\n"
        "sys.argv = ['dynbert-train', '--version']\n"
        "try:\n"
        "    runpy.run_module('dynbert_export.train_cli', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    print(end.code, sorted({'torch', 'transformers', 'datasets', 'pydantic', 'rich'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines() == [f"dynbert-train, version {dynbert.__version__}", "0 []"]
