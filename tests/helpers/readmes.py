"""The code blocks of the READMEs, and a place where they can be run as they stand.

Commands that would change the machine (``make``, ``pip``, ``python3 -m venv``) are replaced by ones that hold their
arguments to the repository instead: the target, the extra and the files must exist. Everything else really runs. A
model hub is stood in for by the hub client's own cache, offline, with tiny checkpoints under the ids that the READMEs
name.
"""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.helpers.checkpoints import make_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynbert.manifest import Task

__all__ = ["REPOSITORY", "Block", "add_to_hub_cache", "read_blocks", "run_blocks", "run_shell", "write_stand_ins"]

REPOSITORY = Path(__file__).parents[2]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMIT = "0" * 40
_SECONDS = 600
"""So that a block which waits for ever fails."""
_PIP = """\
#!{python}
import pathlib, re, sys, tomllib
repository = pathlib.Path({repository!r})
project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
arguments = sys.argv[1:]
if arguments.pop(0) != "install":
    sys.exit("pip: the READMEs only install")
while arguments:
    argument = arguments.pop(0)
    if argument == "-c":
        if not (repository / arguments.pop(0)).is_file():
            sys.exit("pip: no such constraints file")
    elif argument != "-e":
        found = re.fullmatch(r"\\.(?:\\[(\\w+)\\])?", argument)
        if not found or found[1] and found[1] not in project["optional-dependencies"]:
            sys.exit(f"pip: not a part of this repository: {{argument}}")
"""
_MAKE = """\
#!/bin/sh
exec {make} --dry-run --directory {repository} "$@"
"""
_PYTHON3 = """\
#!/bin/sh
[ "$1 $2" = "-m venv" ] || exec {python} "$@"
mkdir -p "$3/bin" && : > "$3/bin/activate"
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a README."""

    language: str
    """``bash``, ``python``, ``yaml`` or ``text``."""
    code: str
    line: int
    """Of the fence, from 1."""


def read_blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a README, in order."""
    text = path.read_text(encoding="utf-8")
    return [Block(found[1], found[2], text.count("\n", 0, found.start()) + 1) for found in _FENCE.finditer(text)]


def add_to_hub_cache(cache: Path, model: str, task: Task, **config: object) -> None:
    """Put a tiny checkpoint where the hub client keeps what it has fetched under an id."""
    folder = cache / f"models--{model.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(_COMMIT, encoding="utf-8")
    make_checkpoint(folder / "snapshots" / _COMMIT, task, **config)


def write_stand_ins(folder: Path) -> None:
    """Write the stand-ins for commands that would change the machine."""
    folder.mkdir()
    values = {"python": sys.executable, "repository": str(REPOSITORY), "make": shutil.which("make")}
    for name, script in (("pip", _PIP), ("make", _MAKE), ("python3", _PYTHON3)):
        path = folder / name
        path.write_text(script.format(**values), encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)


def run_shell(code: str, folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run shell code as a shell would that stops at the first command that fails."""
    return _run(["bash", "-euo", "pipefail", "-c", code], folder, environment)


def run_blocks(
    blocks: Sequence[Block], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run blocks in order, those in Python with one set of variables, in a process that has them all to itself."""
    lines = ["import subprocess"]
    for block in blocks:
        where = f"block at line {block.line}"
        if block.language == "python":
            lines.append(f"exec(compile({block.code!r}, {where!r}, 'exec'))")
        elif block.language == "bash":
            lines.append(f"subprocess.run(['bash', '-euo', 'pipefail', '-c', {block.code!r}], check=True)")
        else:
            raise ValueError(f"the {where} must be bash or python, got {block.language!r}")
    return _run([sys.executable, "-c", "\n".join(lines)], folder, environment)


def _run(command: list[str], folder: Path, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=dict(environment), capture_output=True, text=True, check=False, timeout=_SECONDS
    )
