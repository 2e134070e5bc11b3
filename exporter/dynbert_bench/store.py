"""Prepared artifacts: checkpoints, graphs, inputs, each made once in a process of its own and used again.

An artifact is known by its blueprint: what kind it is, with which settings, from which other artifacts, by which
versions of which packages, and by which source code of dynbert. Any change gives another key, hence another folder, so
a run never measures what an older exporter wrote.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

import dynbert.lengths
from dynbert_bench.protocol import MakeSpec
from dynbert_export import errors
from dynbert_export.errors import ExportError
from dynbert_export.progress import Progress, SilentProgress

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "WORKER_MODULE",
    "PreparationError",
    "Blueprint",
    "Store",
    "child_environment",
    "code_digest",
    "last_lines",
    "package_version",
]

WORKER_MODULE = "dynbert_bench.worker"
_BLUEPRINT_FILE = "blueprint.json"
_MAX_SECONDS = 3600
"""An artifact that takes longer is given up; the slowest, a BERT-base, takes a few minutes."""
_KEY_CHARACTERS = 16
_MAKER_PREFIX = "make_"
"""How the names of the modules begin that make artifacts."""


class PreparationError(ExportError):
    """An artifact could not be made; the message has the reason."""


@dataclass(frozen=True)
class Blueprint:
    """How an artifact is made."""

    kind: str
    """Name among the worker's makers."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values that JSON knows."""
    sources: Mapping[str, Blueprint] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    """Distributions whose version matters."""

    @property
    def key(self) -> str:
        """Hash of all that the artifact depends on, the code of dynbert included."""
        text = json.dumps(self.describe(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_CHARACTERS]

    def describe(self) -> dict[str, Any]:
        """Return what the key is made of, for people to read."""
        return {
            "kind": self.kind,
            "settings": dict(self.settings),
            "sources": {name: source.key for name, source in self.sources.items()},
            "packages": {name: package_version(name) for name in self.packages},
            "code": code_digest(),
        }


class Store:
    """A folder of artifacts.

    Args:
        folder: Where; made if absent.
        progress: Told what is made.
    """

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self.folder = folder
        self._progress = progress or SilentProgress()
        self._failures: dict[str, str] = {}

    def get(self, blueprint: Blueprint) -> Path:
        """Return the folder of an artifact, made now where it is not there yet, its sources first.

        Args:
            blueprint: How it is made.

        Returns:
            The folder.

        Raises:
            PreparationError: If it, or a source of it, cannot be made; not tried twice in a run.
        """
        folder = self.folder / f"{blueprint.kind}-{blueprint.key}"
        if (folder / _BLUEPRINT_FILE).is_file():
            return folder
        if folder.name in self._failures:
            raise PreparationError(self._failures[folder.name])
        sources = {name: str(self.get(source)) for name, source in blueprint.sources.items()}
        try:
            with self._progress.stage(f"make {blueprint.kind} {_brief(blueprint)}"):
                self._make(blueprint, sources, folder)
        except PreparationError as err:
            self._failures[folder.name] = str(err)
            raise
        return folder

    def _make(self, blueprint: Blueprint, sources: dict[str, str], folder: Path) -> None:
        """Make an artifact beside its place and move it there when it is whole."""
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        spec = MakeSpec(kind=blueprint.kind, settings=dict(blueprint.settings), sources=sources, folder=str(partial))
        spec_file, log = (folder.with_name(f"{folder.name}{suffix}") for suffix in (".spec.json", ".log"))
        spec_file.write_bytes(msgspec.json.encode(spec))
        command = [sys.executable, "-m", WORKER_MODULE, "make", str(spec_file)]
        with log.open("wb") as stream:
            try:
                result = subprocess.run(  # noqa: S603 -- our own module
                    command, stdout=stream, stderr=stream, env=child_environment(), timeout=_MAX_SECONDS, check=False
                )
            except subprocess.TimeoutExpired as err:
                raise PreparationError(f"{blueprint.kind} must be made within {_MAX_SECONDS} s, got more.") from err
        if result.returncode != 0:
            raise PreparationError(
                f"{blueprint.kind} must be made without an error, got exit code {result.returncode}: {last_lines(log)} "
                f"The whole log: {log}"
            )
        text = json.dumps(blueprint.describe(), indent=2, sort_keys=True)
        (partial / _BLUEPRINT_FILE).write_text(text + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)


def child_environment(*, threads: int | None = None) -> dict[str, str]:
    """Return the environment of a child process.

    Args:
        threads: Threads of the numeric libraries that read it from there; None leaves it to them.

    Returns:
        This process's environment. OpenVINO's packages send usage data but where ``CI`` says that nobody is there.
    """
    environment = {**os.environ, "CI": "true", "NNCF_CI": "1", "TOKENIZERS_PARALLELISM": "false"}
    if threads is not None:
        environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return environment


def last_lines(log: Path) -> str:
    """Return the end of a child's log on one line: the exception that ended it.

    Args:
        log: The file.

    Returns:
        At most a few hundred characters.
    """
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:400] if lines else "it printed nothing."


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Return a hash of the source that artifacts come from: both packages, but of this one the makers alone."""
    digest = hashlib.sha256()
    for root in (Path(dynbert.lengths.__file__).parent, Path(errors.__file__).parent):
        for path in sorted(root.rglob("*.py")):
            if path.parent == Path(__file__).parent and not path.name.startswith(_MAKER_PREFIX):
                continue
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:_KEY_CHARACTERS]


def package_version(name: str) -> str | None:
    """Return the installed version of a distribution.

    Args:
        name: Of the distribution.

    Returns:
        The version; None where it is not installed.
    """
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _brief(blueprint: Blueprint) -> str:
    return ", ".join(str(value) for value in blueprint.settings.values() if isinstance(value, str | int))
