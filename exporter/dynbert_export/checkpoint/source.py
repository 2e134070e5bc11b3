"""Where a checkpoint comes from: a folder, or a model hub.

From a hub, only what an export reads is fetched: safetensors where there are any, a pickled ``pytorch_model.bin`` only
where there are none, and never code.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dynbert.errors import InputError
from dynbert.tokenization import TOKENIZER_FILE
from dynbert_export.checkpoint.file_names import (
    CONFIG_FILE,
    MODULES_FILE,
    PACKAGE_FILE,
    PICKLED_WEIGHTS_FILE,
    SAFETENSORS_FILE,
    SPECIAL_TOKENS_FILE,
    TOKENIZER_CONFIG_FILE,
    TRANSFORMER_FILE,
    index_file,
)
from dynbert_export.errors import CheckpointError

__all__ = ["Source", "find_checkpoint"]

_SMALL_FILES = (
    CONFIG_FILE,
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    SPECIAL_TOKENS_FILE,
    "added_tokens.json",
    "vocab.txt",
    MODULES_FILE,
    TRANSFORMER_FILE,
    PACKAGE_FILE,
    f"*_Pooling/{CONFIG_FILE}",
)
_SAFETENSORS = (SAFETENSORS_FILE, index_file(SAFETENSORS_FILE), "model-*.safetensors")
_PICKLES = (PICKLED_WEIGHTS_FILE, index_file(PICKLED_WEIGHTS_FILE), "pytorch_model-*.bin")


@dataclass(frozen=True)
class Source:
    """A checkpoint on disk."""

    folder: Path
    """Holds config.json, the weights and the tokenizer."""
    name: str
    """The hub id, or the folder's name."""
    revision: str | None
    """The commit that a hub served; None for a folder."""


def find_checkpoint(model: str, *, revision: str | None = None) -> Source:
    """Return the folder of a checkpoint, fetched from a hub where it is no folder yet.

    Args:
        model: An existing folder, or a hub id such as ``Intel/dynamic_tinybert``.
        revision: Branch, tag or commit of a hub id; None for its default branch.

    Returns:
        Where it lies. A fetched one lies in the hub client's cache, and is fetched once.

    Raises:
        InputError: If there is a revision of a folder.
        CheckpointError: If the folder does not exist, or the hub cannot serve the id.
    """
    folder = Path(model)
    if folder.is_dir():
        if revision is not None:
            raise InputError(f"A revision must go with a hub id, got {revision!r} with the folder {model}.")
        return Source(folder, name=folder.absolute().name, revision=None)  # a link names what it leads to
    if folder.exists() or _is_path_like(model):
        got = "a file" if folder.exists() else "none"
        raise CheckpointError(f"Model folder must exist, got {got} at {model}. Pass a folder or a hub id.")
    folder = _fetch(model, revision)
    return Source(folder, name=model, revision=folder.name)  # the cache keeps each commit under its hash


def _is_path_like(model: str) -> bool:
    """Return whether the text can only mean a folder: hub ids are ``name`` or ``owner/name``."""
    return model.startswith((".", "/", "~")) or model.endswith("/") or "\\" in model or model.count("/") > 1


def _fetch(model: str, revision: str | None) -> Path:
    """Return the cached folder of a hub id, its files fetched."""
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=[*_SMALL_FILES, *_SAFETENSORS]))
        if not any(folder.glob("*.safetensors")):
            folder = Path(snapshot_download(model, revision=revision, allow_patterns=[*_SMALL_FILES, *_PICKLES]))
    except (OSError, ValueError) as err:  # every error of the hub client and of its network library is one of these
        at = f" at revision {revision}" if revision else ""
        raise CheckpointError(
            f"Model must be an existing folder or a hub id that can be fetched, got {model!r}{at} "
            f"({type(err).__name__}: {_first_line(err)}). Check the id and the network, or pass a folder."
        ) from err
    return folder


def _first_line(err: Exception) -> str:
    lines = str(err).strip().splitlines()
    return lines[0].rstrip(".") if lines else "no details"
