"""The ``dynbert-search`` command without a search: options, errors, what is printed where."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import dynbert
from dynbert.errors import InputError
from dynbert.scoring.records import DataError
from dynbert_export import search_cli
from dynbert_export.api import SearchOptions
from dynbert_export.errors import CheckpointError, ExportError
from dynbert_export.options.search import SearchConfig, make_search_config
from dynbert_export.searching import run
from tests.helpers.searching import make_report

_GIVEN = ("--model", "m", "--data", "d.csv", "--study", "s.db", "-o", "o.yaml")


@pytest.fixture
def invoke(monkeypatch):
    """Run the command with a search that keeps the config and, where told to, fails."""
    seen = []

    def invoke_command(*arguments, failure=None):
        def fake(config, *, progress=None):
            seen.append(config)
            if progress is not None:
                with progress.stage("a stage"):
                    progress.note("mind [this]")
            if failure is not None:
                raise failure
            return run.SearchResult(Path("o.yaml"), make_report())

        monkeypatch.setattr(run, "search_lengths", fake)
        result = CliRunner().invoke(search_cli.main, [str(argument) for argument in arguments])
        return result, seen[-1] if seen else None

    return invoke_command


def test_version_is_printed(invoke):
    result, _ = invoke("--version")
    assert (result.exit_code, result.stdout) == (0, f"dynbert-search, version {dynbert.__version__}\n")


def test_help_names_every_option(invoke):
    result, config = invoke("-h")
    assert (result.exit_code, config) == (0, None)
    names = {"choice_columns": "choice-column", "export": "export-recipe"}
    assert all(f"--{names.get(name, name.replace('_', '-'))}" in result.output for name in SearchConfig.model_fields)


def test_every_option_reaches_the_config(invoke):
    arguments = (
        "--model m --data d --study s --output o.yaml --task multiple-choice --split x --text-column t --pair-column p "
        "--label-column l --choice-column a --choice-column b --problem-type ranking --test e --test-split y "
        "--metric f1 --queries candidate --calibration c.txt --trials 7 --minutes 1.5 --profiles 4 --keep-quality 0.8 "
        "--sampler tpe --lengths both --leave-out-layers 1 --compare-random --max-length 99 --threads 3 --seed 8 "
        "--revision r --overwrite"
    )
    result, config = invoke(*arguments.split())
    assert result.exit_code == 0, result.output
    expected = {
        "model": "m",
        "data": "d",
        "study": "s",
        "output": "o.yaml",
        "task": "multiple-choice",
        "split": "x",
        "text_column": "t",
        "pair_column": "p",
        "label_column": "l",
        "choice_columns": ["a", "b"],
        "problem_type": "ranking",
        "test": "e",
        "test_split": "y",
        "metric": "f1",
        "queries": "candidate",
        "calibration": "c.txt",
        "trials": 7,
        "minutes": 1.5,
        "profiles": 4,
        "keep_quality": 0.8,
        "sampler": "tpe",
        "lengths": "both",
        "leave_out_layers": 1,
        "compare_random": True,
        "max_length": 99,
        "threads": 3,
        "seed": 8,
        "revision": "r",
        "overwrite": True,
    }
    assert config == make_search_config(overrides=expected)


def test_options_that_are_not_given_have_the_config_s_defaults(invoke):
    result, config = invoke(*_GIVEN)
    assert result.exit_code == 0
    assert config == SearchConfig(model="m", data="d.csv", study=Path("s.db"), output=Path("o.yaml"))


def test_the_table_goes_to_standard_output_and_progress_to_standard_error(invoke):
    result, _ = invoke(*_GIVEN)
    assert "fp32 full" in result.stdout
    assert "Hypervolume: " in result.stdout
    assert "Note: mind [this]" in result.stderr
    assert result.stderr.splitlines()[-1] == "o.yaml: a recipe for dynbert-export; .json and .png beside it"


def test_nothing_is_printed_when_quiet(invoke):
    result, _ = invoke(*_GIVEN, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("failure", "exit_code"),
    [
        (InputError("a wrong option"), 2),
        (DataError("a bad row"), 1),
        (CheckpointError("a bad checkpoint"), 1),
        (ExportError("a full disk"), 1),
    ],
)
def test_expected_error_is_one_line_and_an_exit_code(invoke, failure, exit_code):
    result, _ = invoke(*_GIVEN, failure=failure)
    assert result.exit_code == exit_code
    assert result.stderr.splitlines()[-1] == f"Error: {failure}"
    assert "Traceback" not in result.output


def test_expected_error_keeps_its_traceback_when_debugging(invoke):
    failure = DataError("a bad row")
    result, _ = invoke(*_GIVEN, "--debug", failure=failure)
    assert (result.exception, result.exit_code) == (failure, 1)


def test_interrupt_aborts_and_the_signal_handler_is_put_back(invoke):
    before = signal.getsignal(signal.SIGTERM)
    result, _ = invoke(*_GIVEN, failure=KeyboardInterrupt())
    assert (result.exit_code, "Aborted!" in result.stderr) == (1, True)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "4 faults in the options:\n- model must be given"),
        ((*_GIVEN, "--trials", "0"), "trials must be at least 1, got 0"),
        ((*_GIVEN, "--held-out", "1"), "held_out must be less than 1"),
        ((*_GIVEN, "--sampler", "luck"), "'luck' is not one of 'evolution', 'nsga2', 'tpe', 'random'"),
        ((*_GIVEN, "--lengths", "words"), "'words' is not one of 'fractions', 'counts', 'both'"),
        ((*_GIVEN, "--test", "t.csv", "--held-out", "0.2"), "held_out and test must not be given together"),
        ((*_GIVEN[:-1], "o.txt"), "output must end in .yaml or .yml, got o.txt"),
        ((*_GIVEN, "--recipe", "none.yaml"), "must be a readable YAML file, got none.yaml"),
    ],
)
def test_wrong_options_are_refused_before_any_work(invoke, arguments, message):
    result, config = invoke(*arguments)
    assert (result.exit_code, config) == (2, None)
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("package", ["optuna", "sqlalchemy", "filelock", "matplotlib", "scipy", "seqeval", "pyarrow"])
def test_a_missing_package_is_one_line_before_any_work(invoke, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    result, config = invoke(*_GIVEN)
    assert (result.exit_code, config) == (1, None)
    assert result.stderr == (
        f"Error: The search's packages must be installed, got no {package}. Run: pip install 'dynbert[search]'\n"
    )


def test_the_function_has_the_options_of_the_config():
    assert set(SearchOptions.__annotations__) == set(SearchConfig.model_fields)


def test_the_command_is_light():
    """Help needs none of the heavy packages."""
    code = (
        "import sys\n"
        "from dynbert_export.search_cli import main\n"
        "try:\n"
        "    main(['--version'])\n"
        "except SystemExit as end:\n"
        "    heavy = {'torch', 'transformers', 'optuna', 'sqlalchemy', 'pydantic', 'rich'}\n"
        "    print(end.code, sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.splitlines() == [f"dynbert-search, version {dynbert.__version__}", "0 []"]
