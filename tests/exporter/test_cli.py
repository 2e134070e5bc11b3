"""The ``dynbert-export`` command without an export: options, errors, what is printed where."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

import dynbert
from dynbert.errors import BundleError, InputError
from dynbert.lengths import LengthConfig
from dynbert.manifest import Latency
from dynbert_export import cli, pipeline
from dynbert_export.errors import ExportError, GateError
from dynbert_export.options.config import ExportConfig
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.options.vocabularies import TargetOption
from tests.helpers.bundles import make_bundle


@pytest.fixture
def invoke(monkeypatch, tmp_path):
    """Run the command with a pipeline that keeps the config and, where told to, fails."""
    manifest = make_bundle(tmp_path / "toy").manifest
    seen = []

    def run(*arguments, failure=None):
        def fake(config, *, progress=None):
            seen.append(config)
            if progress is not None:
                with progress.stage("a stage"):
                    progress.note("mind [this]")
            if failure is not None:
                raise failure
            latency = (Latency(tokens=16, batch=1, threads=1, median_ms=2.0),)
            return pipeline.ExportResult(Path("out"), msgspec.structs.replace(manifest), latency)

        monkeypatch.setattr(pipeline, "export_bundle", fake)
        result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
        return result, seen[-1] if seen else None

    return run


def test_version_is_printed(invoke):
    result, _ = invoke("--version")
    assert (result.exit_code, dynbert.__version__ in result.output) == (0, True)


def test_the_package_runs_as_the_command():
    command = [sys.executable, "-m", "dynbert_export", "--version"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"dynbert-export, version {dynbert.__version__}\n"


def test_target_is_repeatable(invoke):
    options = ("--model", "m", "-o", "out")
    assert invoke(*options)[1].target == (TargetOption.AUTO,)
    assert invoke(*options, "--target", "avx2")[1].target == (TargetOption.AVX2,)
    assert invoke(*options, "--target", "vnni", "--target", "avx2")[1].target == (TargetOption.VNNI, TargetOption.AVX2)


def test_help_names_every_option(invoke):
    result, config = invoke("-h")
    assert (result.exit_code, config) == (0, None)
    options = (
        "--model --output --task --embeddings --length-config --layer-config --recipe --quantize --calibration "
        "--calibration-method --calibration-samples --evaluate --evaluate-split --text-column --pair-column "
        "--label-column --choice-column --query-profile --target --precision --max-length --opset --threads --seed "
        "--overwrite --debug --quiet"
    )
    assert all(option in result.output for option in options.split())


def test_every_option_reaches_the_config(invoke):
    arguments = (
        "--model m --output o --length-config fast=20,10,5 --length-config 0.9,0.8,0.7 --task feature-extraction "
        "--embeddings token-states "
        "--quantize dynamic --calibration c.txt --calibration-samples 9 --calibration-method entropy --target avx2 "
        "--evaluate e.csv --evaluate-split dev --text-column a,b "
        "--pair-column p --label-column l --choice-column c --query-profile fast "
        "--precision both --max-length 99 "
        "--opset 18 --threads 3 --seed 8 --revision r --overwrite"
    )
    result, config = invoke(*arguments.split())
    assert result.exit_code == 0, result.output
    assert config == ExportConfig.model_validate(
        {
            "model": "m",
            "output": Path("o"),
            "profiles": {"fast": LengthConfig((20, 10, 5)), "custom": LengthConfig((0.9, 0.8, 0.7))},
            "task": "feature-extraction",
            "embeddings": "token-states",
            "quantize": "dynamic",
            "calibration": Path("c.txt"),
            "calibration_samples": 9,
            "calibration_method": "entropy",
            "evaluate": "e.csv",
            "evaluate_split": "dev",
            "text_column": "a,b",
            "pair_column": "p",
            "label_column": "l",
            "choice_columns": ("c",),
            "query_profile": "fast",
            "target": "avx2",
            "precision": "both",
            "max_length": 99,
            "opset": 18,
            "threads": 3,
            "seed": 8,
            "revision": "r",
            "overwrite": True,
        }
    )


def test_options_that_are_not_given_have_the_config_s_defaults(invoke):
    result, config = invoke("--model", "m", "-o", "o")
    assert result.exit_code == 0
    assert config == ExportConfig(model="m", output=Path("o"))


def test_unknown_choice_is_refused(invoke):
    result, config = invoke("--task", "poetry")
    assert (result.exit_code, config) == (2, None)
    assert "'poetry' is not one of 'auto', 'question-answering'" in result.stderr


def test_options_win_over_the_recipe(invoke, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: theirs\noutput: out\nseed: 3\noverwrite: true\n"
        "profiles: {slow: [9, 9, 9]}\ngates: {int8_min_cosine: 0.1}\n",
        encoding="utf-8",
    )
    result, config = invoke("--recipe", recipe, "--seed", "4", "--length-config", "fast=20,10,5")
    assert result.exit_code == 0, result.output
    assert (config.model, config.seed, config.overwrite, config.gates.int8_min_cosine) == ("theirs", 4, True, 0.1)
    assert list(config.length_configs) == ["fast"]


def test_table_goes_to_standard_output_and_progress_to_standard_error(invoke):
    result, _ = invoke("--model", "m", "-o", "o")
    assert "speed-up" in result.stdout
    assert "a stage" not in result.stdout
    assert "a stage" in result.stderr
    assert "Note: mind [this]" in result.stderr
    assert "out: 9 files, 0.0 MB" in result.stderr


def test_nothing_is_printed_when_quiet(invoke):
    result, _ = invoke("--model", "m", "-o", "o", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("quiet", [(), ("--quiet",)])
@pytest.mark.parametrize(
    ("failure", "exit_code"),
    [
        (InputError("a wrong option"), 2),
        (ExportError("a bad checkpoint"), 1),
        (GateError("a missed gate"), 1),
        (BundleError("a graph that does not open"), 1),
    ],
)
def test_expected_error_is_one_line_and_an_exit_code(invoke, failure, exit_code, quiet):
    result, _ = invoke("--model", "m", "-o", "o", *quiet, failure=failure)
    assert result.exit_code == exit_code
    assert result.stderr.splitlines()[-1] == f"Error: {failure}"
    assert "Traceback" not in result.output
    assert result.stdout == ""


def test_expected_error_keeps_its_traceback_when_debugging(invoke):
    failure = GateError("a missed gate")
    result, _ = invoke("--model", "m", "-o", "o", "--debug", failure=failure)
    assert result.exception is failure
    assert result.exit_code == 1


def test_bug_is_not_hidden(invoke):
    result, _ = invoke("--model", "m", "-o", "o", failure=KeyError("a bug"))
    assert isinstance(result.exception, KeyError)


def test_interrupt_aborts(invoke):
    result, _ = invoke("--model", "m", "-o", "o", failure=KeyboardInterrupt())
    assert (result.exit_code, "Aborted!" in result.stderr) == (1, True)


def test_signal_handler_is_put_back(invoke):
    before = signal.getsignal(signal.SIGTERM)
    invoke("--model", "m", "-o", "o")
    invoke("--model", "m", "-o", "o", failure=GateError("a missed gate"))
    assert signal.getsignal(signal.SIGTERM) is before


def test_missing_extra_is_one_line_with_the_remedy(invoke, monkeypatch):
    monkeypatch.delitem(sys.modules, "dynbert_export.options.config", raising=False)
    monkeypatch.setitem(sys.modules, "pydantic", None)
    result, config = invoke("--model", "m", "-o", "o")
    assert (result.exit_code, config) == (1, None)
    assert "pip install 'dynbert[export]'" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "2 faults in the options:\n- model must be given"),
        (("--model", "m"), "output must be given"),
        (("--model", "m", "-o", "o", "--seed", "-1"), "seed must be at least 0, got -1"),
        (("--model", "m", "-o", "o", "--opset", "12"), "opset must be at least 17, got 12"),
        (("--model", "m", "-o", "o", "--precision", "int8", "--quantize", "none"), "precision must be fp32 where"),
        (("--model", "m", "-o", "o", "--recipe", "none.yaml"), "must be a readable YAML file, got none.yaml"),
    ],
)
def test_wrong_options_are_refused_before_any_work(invoke, arguments, message):
    result, config = invoke(*arguments)
    assert (result.exit_code, config) == (2, None)
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_layers_go_to_the_profile_of_their_name(invoke):
    arguments = ("--length-config", "fast=20,10,5", "--layer-config", "fast=2,0", "--layer-config", "short=1")
    result, config = invoke("--model", "m", "-o", "o", *arguments)
    assert result.exit_code == 0, result.output
    assert config.profiles == (
        NamedLengths("fast", LengthConfig((20, 10, 5)), (0, 2)),
        NamedLengths("short", None, (1,)),
    )


def test_wrong_layers_are_refused_with_everything_else(invoke):
    result, config = invoke("--model", "m", "--layer-config", "fast=0,x", "--length-config", "fast=1,2", "--seed", "-1")
    assert (result.exit_code, config) == (2, None)
    faults = result.stderr.splitlines()
    assert "4 faults in the options:" in faults[0]
    assert any("Profile fast: Layer indices must be whole numbers from 0 on, got 'x'." in fault for fault in faults)
    assert any("Profile fast: A length config must not increase" in fault for fault in faults)
