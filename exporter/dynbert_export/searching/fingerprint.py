"""What a study is of: the options, data and checkpoint that decide what its trials say, and the machine of its times.

A trial of another checkpoint, other data or another processor would be compared with numbers that it has nothing to do
with, so a study that was begun otherwise is refused, and what differs is named.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from dynbert.cpu import cpu_name, int8_target
from dynbert.errors import InputError
from dynbert.tokenization import TOKENIZER_FILE
from dynbert_export.checkpoint.file_names import CONFIG_FILE
from dynbert_export.checkpoint.weights import find_weights
from dynbert_export.searching.data import digest_data

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dynbert_export.checkpoint.load import Checkpoint
    from dynbert_export.options.search import SearchConfig
    from dynbert_export.searching.splitting import Part

__all__ = ["check_same", "make_fingerprint"]

_METHOD = 3
"""Raised when trials of one version and of the next must not be compared."""
_DECIDING = (
    *("task", "max_length", "metric", "queries", "lengths", "leave_out_layers"),
    *("keep_quality", "seed", "threads", "problem_type"),
)
"""Options whose values are part of the fingerprint; of others the contents are, or they may change."""
_TOKENIZER_FILES = (TOKENIZER_FILE, "vocab.txt")


def make_fingerprint(config: SearchConfig, checkpoint: Checkpoint, parts: tuple[Part, Part]) -> dict[str, Any]:
    """Return the fingerprint of a search.

    Args:
        config: The options.
        checkpoint: What is searched for.
        parts: The data, as ``read_parts`` gives it.

    Returns:
        Name of what differs where it does -> JSON value.
    """
    options = config.model_dump(mode="json", include=set(_DECIDING))
    calibration = config.calibration
    searched, aside = parts
    return {
        "method": _METHOD,
        **options,
        "task": checkpoint.task.value,
        "max_length": checkpoint.max_length,
        "export options": {name: str(value) for name, value in sorted(config.export.items()) if name != "profiles"},
        "checkpoint": _digest_files([path for path in _files_of(checkpoint.folder) if path.is_file()]),
        "data": digest_data(searched),
        "data kept aside": digest_data(aside),
        "calibration": None if calibration is None or not calibration.is_file() else _digest_files([calibration]),
        "processor": cpu_name(),
        "instructions": None if (target := int8_target()) is None else target.value,
    }


def check_same(begun: Mapping[str, Any], asked: Mapping[str, Any], place: Path) -> None:
    """Refuse to go on with what was begun otherwise.

    Args:
        begun: The fingerprint that is stored.
        asked: The one of this run.
        place: The study, or its working folder.

    Raises:
        InputError: If they differ.
    """
    other = sorted(name for name in begun.keys() | asked.keys() if begun.get(name) != asked.get(name))
    if other:
        raise InputError(
            f"A study must be gone on with by what it was begun with, got another {', '.join(other)} for {place}. "
            "Give the same options and data, or another --study."
        )


def _files_of(folder: Path) -> list[Path]:
    """Return the files that decide what a checkpoint answers."""
    return [folder / CONFIG_FILE, *(folder / name for name in _TOKENIZER_FILES), *find_weights(folder)]


def _digest_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
