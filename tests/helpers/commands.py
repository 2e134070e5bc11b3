"""Running ``dynbert`` and ``dynbert-export``: inside the tests' process where that will do; imports take seconds."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

if TYPE_CHECKING:
    from click.testing import Result

__all__ = ["BUNDLE_OPTIONS", "invoke_dynbert", "invoke_export", "run_export", "start_export"]

BUNDLE_OPTIONS = (
    *("--length-config", "fast=20,10,5", "--length-config", "half=0.5,0.3,0.2"),
    *("--precision", "both", "--target", "avx2"),  # exact on every processor that tests may meet
)
"""A profile of counts and one of fractions, in both precisions."""


def invoke_dynbert(*arguments: Any, stdin: str | None = None) -> Result:
    """Run ``dynbert`` in this process, whatever comes of it."""
    from dynbert.cli import main

    return CliRunner().invoke(main, [*map(str, arguments)], input=stdin)


def invoke_export(*arguments: Any) -> Result:
    """Run the command on one thread in this process, whatever comes of it."""
    from dynbert_export.cli import main

    return CliRunner().invoke(main, [*map(str, arguments), "--threads", "1"])


def run_export(*arguments: Any) -> Result:
    """Run the command in this process; it must succeed."""
    result = invoke_export(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def start_export(*arguments: Any) -> subprocess.Popen[str]:
    """Start the command in a process of its own, as a shell would."""
    code = "from dynbert_export.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments), "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell ignores Ctrl-C and would hand that down; the command is tried with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- no threads use the child
    )
