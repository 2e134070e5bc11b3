"""``STUDY.work``: the working bundle, what can be frozen of it, and scores, all of it made once and found again.

Processes that work on one study take turns by a lock on a file, which the system lets go of when a process dies,
however it dies. What is written appears whole.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.manifest import MANIFEST_FILE, check_files, read_manifest
from dynbert_export.pipeline import export_bundle
from dynbert_export.searching.disk import explain_disk, write_json_whole
from dynbert_export.searching.fingerprint import check_same
from dynbert_export.searching.graphs import SearchGraphs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from filelock import BaseFileLock
    from numpy.typing import NDArray

    from dynbert_export.options.config import ExportConfig
    from dynbert_export.progress import Progress

__all__ = ["Workplace"]

_POLL_SECONDS = 0.2
_LOCK, _END_LOCK = "lock", "end.lock"


@dataclass(frozen=True)
class Workplace:
    """The folder beside a study."""

    folder: Path

    @classmethod
    def of(cls, study: Path) -> Workplace:
        """Return the folder of a study.

        Args:
            study: The study's file.

        Returns:
            The folder, which need not be there.
        """
        study = Path(os.path.abspath(study))  # noqa: PTH100  (resolve() would follow a link)
        return cls(study.with_name(f"{study.name}.work"))

    @property
    def calibration(self) -> Path:
        """The texts that the working bundle was calibrated on, where the caller gave none."""
        return self.folder / "calibration.jsonl"

    @property
    def bundle(self) -> Path:
        """The working bundle."""
        return self.folder / "bundle"

    @property
    def sources(self) -> Path:
        """The graphs that lengths can be frozen into."""
        return self.folder / "sources"

    @property
    def frozen(self) -> Path:
        """Graphs with lengths frozen in: of the time model, and of the end."""
        return self.folder / "frozen"

    @property
    def report(self) -> Path:
        """What the end found, for other workers of the study."""
        return self.folder / "report.json"

    def lock(self) -> BaseFileLock:
        """Return the lock that processes of the study take turns by; make the folder if it is absent.

        Returns:
            The lock, not taken.

        Raises:
            ExportError: If the disk refuses.
        """
        return self._lock(_LOCK)

    def lock_end(self) -> BaseFileLock:
        """Return the lock under which one process concludes the study while the others wait for what it found.

        It is taken before ``lock``, never behind it.

        Returns:
            The lock, not taken.

        Raises:
            ExportError: If the disk refuses.
        """
        return self._lock(_END_LOCK)

    def _lock(self, name: str) -> BaseFileLock:
        from filelock import FileLock

        with explain_disk(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / name, poll_interval=_POLL_SECONDS)

    def check(self, fingerprint: Mapping[str, Any]) -> None:
        """See that the folder is of this search, and note so where it is new.

        Args:
            fingerprint: Of the search.

        Raises:
            InputError: If it is of another one, or holds other things.
            ExportError: If the disk refuses.
        """
        path = self.folder / "fingerprint.json"
        if path.is_file():
            check_same(_read_json(path), fingerprint, self.folder)
            return
        others = sorted(
            each.name for each in self.folder.iterdir() if each.name not in {_LOCK, _END_LOCK} and each.name[0] != "."
        )
        if others:
            raise InputError(
                f"A study's working folder must be new or dynbert's own, got other files in {self.folder}: "
                f"{', '.join(others[:3])}. Move it away, or choose another --study."
            )
        with explain_disk(self.folder):
            write_json_whole(path, fingerprint)

    def make_bundle(self, config: ExportConfig, progress: Progress, *, threads: int) -> SearchGraphs:
        """Export the working bundle, unless it is there already.

        Args:
            config: Of the export; its output is ``bundle``.
            progress: Told of the export's stages and notes.
            threads: Threads that its graphs compute on.

        Returns:
            The graphs.

        Raises:
            ExportError: If the export fails.
        """
        if not (self.bundle / MANIFEST_FILE).is_file():
            for unfinished in self.folder.glob(f".{self.bundle.name}.*"):  # of a process that was killed
                shutil.rmtree(unfinished, ignore_errors=True)
            export_bundle(config, progress=progress, sources=self.sources)
        manifest = read_manifest(self.bundle)
        check_files(self.bundle, manifest.entries)
        return SearchGraphs(self.bundle, manifest, self.sources, threads)

    def write_scores(self, key: str, resampled: Mapping[int, NDArray[np.float64]]) -> None:
        """Keep a finished candidate's resampled quality.

        Args:
            key: What tells candidates apart.
            resampled: Number of a part of the examination -> [resamples].

        Raises:
            ExportError: If the disk refuses.
        """
        path = self._scores(key)
        with explain_disk(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_name(f"{path.stem}.{os.getpid()}.part.npz")
            np.savez(unfinished, **{f"part_{number}": values for number, values in resampled.items()})
            unfinished.replace(path)

    def read_scores(self, key: str) -> dict[int, NDArray[np.float64]]:
        """Return a finished candidate's resampled quality.

        Args:
            key: What tells candidates apart.

        Returns:
            Number of a part -> [resamples]; nothing where it was not kept: the folder was removed since.
        """
        path = self._scores(key)
        if not path.is_file():
            return {}
        with np.load(path, allow_pickle=False) as arrays:
            return {int(name.removeprefix("part_")): arrays[name] for name in arrays.files}

    def _scores(self, key: str) -> Path:
        return self.folder / "scores" / f"{key}.npz"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise InputError(f"{path} must be readable JSON, got: {err}. Remove {path.parent} to begin anew.") from err
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold an object, got {type(value).__name__}. Remove {path.parent} to begin anew.")
    return value
