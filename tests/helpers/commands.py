"""Running ``dynbert-export``: inside the tests' process where that will do, since its imports take seconds."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

from click.testing import CliRunner

if TYPE_CHECKING:
    from click.testing import Result

__all__ = ["invoke_export", "run_export", "start_export"]


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
    )
