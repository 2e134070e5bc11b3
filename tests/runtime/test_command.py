"""What all commands share: how errors and warnings look, and what a command ends with."""

from __future__ import annotations

import warnings

import click
import pytest
from click.testing import CliRunner

from dynbert.command import report_problems
from dynbert.errors import BundleError, DynbertError, InputError, LengthConfigError, ProfileError


def run_command(act, *, debug=False):
    @click.command
    def main():
        with report_problems(debug=debug):
            act()

    return CliRunner().invoke(main)


def fail(error):
    raise error


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (DynbertError, 1),
        (BundleError, 1),
        (InputError, 2),
        (LengthConfigError, 2),
        (ProfileError, 2),
        (type("FurtherError", (InputError,), {}), 2),
    ],
)
def test_error_is_one_line_and_its_class_s_exit_code(error, exit_code):
    assert error.exit_code == exit_code
    result = run_command(lambda: fail(error("x must be y, got z.")))
    assert (result.exit_code, result.stderr, result.stdout) == (exit_code, "Error: x must be y, got z.\n", "")


def test_error_keeps_its_traceback_when_debugging():
    error = InputError("x must be y, got z.")
    result = run_command(lambda: fail(error), debug=True)
    assert result.exception is error
    assert result.output == ""


def test_a_bug_is_not_hidden():
    bug = ValueError("a bug")
    assert run_command(lambda: fail(bug)).exception is bug


def test_interrupt_aborts():
    result = run_command(lambda: fail(KeyboardInterrupt()))
    assert (result.exit_code, result.stderr) == (1, "\nAborted!\n")


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize("debug", [False, True])
def test_warning_is_one_line(debug):
    result = run_command(lambda: warnings.warn("mind this", UserWarning, stacklevel=1), debug=debug)
    assert (result.exit_code, result.stderr, result.stdout) == (0, "Warning: mind this\n", "")


@pytest.mark.filterwarnings("always")
def test_warnings_are_as_before_afterwards():
    before = warnings.showwarning
    run_command(lambda: fail(InputError("x")))
    assert warnings.showwarning is before
