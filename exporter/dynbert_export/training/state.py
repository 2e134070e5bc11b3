"""Where an interrupted training is kept, and whether one can be gone on with.

Beside the output folder stands ``OUTPUT.training`` until the training is done: Trainer's states, the log, and what the
training was asked to do. Trainer writes a state's ``trainer_state.json`` last, so that a state without a whole one was
being written when the training ended; it is passed over. Options and data must be those it was begun with.

States are Trainer's own. Of their files only those are read that torch reads without running code.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynbert.errors import InputError
from dynbert_export.checkpoint.json_files import read_json_object, write_json
from dynbert_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dynbert_export.options.training import TrainingConfig

__all__ = ["TrainingState", "explain_disk", "find_state"]

_ASKED_FILE = "options.json"
_BEFORE_FILE = "before.json"
_STATE_FILE = "trainer_state.json"
_STATE_FOLDER = re.compile(r"checkpoint-(\d+)")
_IRRELEVANT = {"output", "resume", "overwrite", "threads", "report_to"}
"""Options that change nothing of what is trained."""
_DISK_FAULTS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENOTDIR}
)
"""Errors of a disk, and not of the network that a tracker reports to."""
_OVERWRITES = "overwrites"
"""Whether the training was begun with --overwrite, which --resume cannot be given with."""


@dataclass(frozen=True)
class TrainingState:
    """The folder of a training that is not done."""

    folder: Path
    asked: Mapping[str, Any]
    """What decides the weights."""
    is_new: bool
    """Whether the training begins; False where it goes on."""
    may_overwrite: bool
    """Whether a trained checkpoint at the output's place may be replaced: now, or when the training was begun."""

    @property
    def log(self) -> Path:
        """The metrics, a JSON object a line."""
        return self.folder / "metrics.jsonl"

    def begin(self) -> None:
        """Make the folder of a new training, in place of an older one; that of one that goes on stays as it is.

        Raises:
            ExportError: If the disk refuses.
        """
        if not self.is_new:
            return
        with explain_disk(self.folder):
            if self.folder.is_dir():
                shutil.rmtree(self.folder)
            self.folder.mkdir(parents=True)
            _write_whole(self.folder / _ASKED_FILE, {**self.asked, _OVERWRITES: self.may_overwrite})

    @contextlib.contextmanager
    def discarded_on_failure(self) -> Iterator[None]:
        """Remove the folder of a new training if the block fails: nothing was trained that could be gone on with.

        Yields:
            Nothing.
        """
        try:
            yield
        except BaseException:
            if self.is_new:
                shutil.rmtree(self.folder, ignore_errors=True)
            raise

    def find_checkpoint(self) -> Path | None:
        """Return the newest state that was written to its end.

        Returns:
            Its folder; None where there is none.
        """
        found = [
            (int(match[1]), path) for path in self.folder.iterdir() if (match := _STATE_FOLDER.fullmatch(path.name))
        ]
        return next((path for _, path in sorted(found, reverse=True) if _is_whole(path / _STATE_FILE)), None)

    def read_before(self) -> dict[str, float] | None:
        """Return how good the model was before it was trained.

        Returns:
            Profile -> number; None where it was not judged yet.
        """
        path = self.folder / _BEFORE_FILE
        return read_json_object(path) if path.is_file() else None

    def write_before(self, scores: Mapping[str, float]) -> None:
        """Keep how good the model was before it was trained.

        Args:
            scores: Profile -> number.

        Raises:
            ExportError: If the disk refuses.
        """
        with explain_disk(self.folder):
            _write_whole(self.folder / _BEFORE_FILE, scores)

    def remove(self) -> None:
        """Delete the folder, the training being done."""
        shutil.rmtree(self.folder)


def find_state(config: TrainingConfig) -> TrainingState:
    """Find the training to go on with, or the place of a new one; nothing is written yet.

    Args:
        config: The options.

    Returns:
        The training.

    Raises:
        InputError: If an interrupted training is there and it was not said what to do with it, or there is none to
            resume, or it was begun with other options or data.
    """
    output = Path(os.path.abspath(config.output))  # noqa: PTH100  (resolve() would follow a link)
    folder = output.with_name(f"{output.name}.training")
    asked = _describe(config)
    if not config.resume:
        if folder.exists() and not config.overwrite:
            raise InputError(
                f"Output must have no interrupted training beside it, got {folder}. Pass --resume to go on with it, or "
                "--overwrite to begin anew."
            )
        return TrainingState(folder, asked, is_new=True, may_overwrite=config.overwrite)
    if not folder.is_dir():
        raise InputError(f"A training to resume must be there, got none at {folder}. Leave --resume out.")
    begun = _read_asked(folder / _ASKED_FILE)
    _check_same(begun, asked)
    return TrainingState(folder, asked, is_new=False, may_overwrite=begun.get(_OVERWRITES) is True)


@contextlib.contextmanager
def explain_disk(folder: Path) -> Iterator[None]:
    """Say what the disk refused while states were written.

    Args:
        folder: Where to.

    Yields:
        Nothing.

    Raises:
        ExportError: In place of what the disk raised, directly or through the packages that write weights.
    """
    from safetensors import SafetensorError

    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as err:
        if isinstance(err, OSError) and err.errno not in _DISK_FAULTS:
            raise
        if isinstance(err, RuntimeError) and "PytorchStreamWriter" not in str(err):
            raise
        reason = getattr(err, "strerror", None) or str(err).partition("\n")[0]
        raise ExportError(
            f"{folder} must be writable, got: {reason}. What was saved before stays; go on with --resume."
        ) from err


def _describe(config: TrainingConfig) -> dict[str, Any]:
    """Return what decides the weights: the options as JSON values, and digests of the files of data."""
    options = config.model_dump(mode="json", exclude=_IRRELEVANT | {"profiles"})
    options["profiles"] = {profile.name: str(profile.lengths) for profile in config.profiles}
    files = {name: _digest(Path(value)) for name in ("data", "eval_data") if (value := options[name]) is not None}
    return {"options": options, "files": files}


def _digest(path: Path) -> str | None:
    """Return a file's SHA-256; None for what is no file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_asked(path: Path) -> dict[str, Any]:
    """Return what a training was asked to do."""
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(begun[key], dict) for key in ("options", "files")):
            return dict(begun)
        cause: Exception | None = None
    except (OSError, ValueError, KeyError, TypeError) as err:
        cause = err
    raise InputError(
        f"A training to resume must have a readable {path.name}, got none in {path.parent}. Pass --overwrite to "
        "begin anew."
    ) from cause


def _check_same(begun: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Refuse to go on with a training that was begun otherwise."""
    before, now = (
        {**each["options"], **{f"contents of {name}": digest for name, digest in each["files"].items()}}
        for each in (begun, asked)
    )
    other = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if other:
        raise InputError(
            f"A training must be resumed with the options and data it was begun with, got others: {', '.join(other)}. "
            "Pass --overwrite to begin anew."
        )


def _write_whole(path: Path, value: Any) -> None:
    """Write a JSON file that is there as a whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    write_json(part, value)
    part.replace(path)


def _is_whole(path: Path) -> bool:
    """Return whether a state's last file is there and was written to its end."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
