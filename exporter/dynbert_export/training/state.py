"""Where an interrupted training is kept, and whether one can be gone on with.

Beside the output folder stands ``OUTPUT.training`` until the training is done: Trainer's states, the log, and what the
training was asked to do. Trainer writes a state's ``trainer_state.json`` last, so that a state without a whole one was
being written when the training ended; it is passed over. Options and data must be those it was begun with.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynbert.errors import InputError
from dynbert_export.checkpoint.json_files import write_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynbert_export.options.training import TrainingConfig

__all__ = ["TrainingState", "open_state"]

_ASKED_FILE = "options.json"
_STATE_FILE = "trainer_state.json"
_STATE_FOLDER = re.compile(r"checkpoint-(\d+)")
_IRRELEVANT = {"output", "resume", "overwrite", "threads", "report_to", "eval_batch_size"}
"""Options that change nothing of what is trained."""


@dataclass(frozen=True)
class TrainingState:
    """The folder of a training that is not done."""

    folder: Path

    @property
    def log(self) -> Path:
        """The metrics, a JSON object a line."""
        return self.folder / "metrics.jsonl"

    def find_checkpoint(self) -> Path | None:
        """Return the newest state that was written to its end.

        Returns:
            Its folder; None where there is none.
        """
        found = [
            (int(match[1]), path) for path in self.folder.iterdir() if (match := _STATE_FOLDER.fullmatch(path.name))
        ]
        return next((path for _, path in sorted(found, reverse=True) if _is_whole(path / _STATE_FILE)), None)

    def remove(self) -> None:
        """Delete the folder, the training being done."""
        shutil.rmtree(self.folder)


def open_state(config: TrainingConfig) -> TrainingState:
    """Make the folder of a training, or find that of the one to go on with.

    Args:
        config: The options.

    Returns:
        The folder.

    Raises:
        InputError: If an interrupted training is there and it was not said what to do with it, or there is none to
            resume, or it was begun with other options or data.
    """
    folder = config.output.with_name(f"{config.output.name}.training")
    asked = _describe(config)
    if config.overwrite and folder.is_dir():
        shutil.rmtree(folder)
    if not folder.exists():
        if config.resume:
            raise InputError(f"A training to resume must be there, got none at {folder}. Leave --resume out.")
        folder.mkdir(parents=True)
        write_json(folder / _ASKED_FILE, asked)
        return TrainingState(folder)
    if not config.resume:
        raise InputError(
            f"Output must have no interrupted training beside it, got {folder}. Pass --resume to go on with it, or "
            "--overwrite to begin anew."
        )
    _check_same(folder / _ASKED_FILE, asked)
    return TrainingState(folder)


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


def _check_same(path: Path, asked: Mapping[str, Any]) -> None:
    """Refuse to go on with a training that was begun otherwise."""
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))
        before, now = (
            {**each["options"], **{f"contents of {k}": v for k, v in each["files"].items()}} for each in (begun, asked)
        )
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise InputError(
            f"A training to resume must have a readable {path.name}, got none in {path.parent}. Pass --overwrite to "
            "begin anew."
        ) from err
    other = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if other:
        raise InputError(
            f"A training must be resumed with the options and data it was begun with, got others: {', '.join(other)}. "
            "Pass --overwrite to begin anew."
        )


def _is_whole(path: Path) -> bool:
    """Return whether a state's last file is there and was written to its end."""
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True
