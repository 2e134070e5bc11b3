"""What sentence-transformers' files say of a checkpoint: how token states become one embedding.

A module that is not known here would change the embedding, so that a bundle without it would answer something else
than the model does; such a checkpoint is refused. The files are read directly: the package is not needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.manifest import Pooling, PoolingMode, is_file_name
from dynbert_export.checkpoint.source import read_json, read_json_object
from dynbert_export.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EmbeddingFiles", "read_embedding_files"]

_MODULES_FILE = "modules.json"
_KNOWN = ("Transformer", "Pooling", "Normalize", "Dropout")
"""Dropout does nothing outside training."""
_LEGACY_PREFIX = "pooling_mode_"
_MODES = {
    "mean": PoolingMode.MEAN,
    "mean_tokens": PoolingMode.MEAN,
    "cls": PoolingMode.CLS,
    "cls_token": PoolingMode.CLS,
}


@dataclass(frozen=True)
class EmbeddingFiles:
    """What the files say."""

    pooling: Pooling
    max_length: int | None
    """Longest input in tokens; None where they leave it to the tokenizer."""
    lowercase: bool
    """Whether texts are lowercased before the tokenizer sees them."""
    default_prompt: str | None
    """What the package puts before every text; None for nothing."""


def read_embedding_files(folder: Path) -> EmbeddingFiles | None:
    """Read ``modules.json`` and what it points to.

    Args:
        folder: The checkpoint.

    Returns:
        What they say, or None where there is no ``modules.json``.

    Raises:
        CheckpointError: If a file is broken, points out of the folder, or names a module or a pooling that a bundle
            cannot do.
    """
    path = folder / _MODULES_FILE
    if not path.is_file():
        return None
    modules = _read_modules(path)
    transformer = folder / "sentence_bert_config.json"
    settings = read_json_object(transformer) if transformer.is_file() else {}
    if settings.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise CheckpointError(
            f"{transformer} must have the transformer_task feature-extraction, got {settings['transformer_task']!r}."
        )
    max_length = settings.get("max_seq_length")
    if max_length is not None and (type(max_length) is not int or max_length < 1):
        raise CheckpointError(f"max_seq_length must be a whole number of tokens, got {max_length!r} in {transformer}.")
    return EmbeddingFiles(
        pooling=Pooling(mode=_read_mode(folder, modules["Pooling"]), normalize="Normalize" in modules),
        max_length=max_length,
        lowercase=settings.get("do_lower_case") is True,
        default_prompt=_read_default_prompt(folder / "config_sentence_transformers.json"),
    )


def _read_modules(path: Path) -> dict[str, str]:
    """Return class name -> folder of the modules, which must be a Transformer, a Pooling and maybe a Normalize."""
    modules = read_json(path)
    if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
        raise CheckpointError(f"{path} must hold a list of modules, got {type(modules).__name__}.")
    found: dict[str, str] = {}
    for module in modules:
        kind, place = str(module.get("type")), module.get("path")
        name = kind.rpartition(".")[2]
        if not kind.startswith("sentence_transformers.") or name not in _KNOWN or name in found:
            raise CheckpointError(
                f"{path} must have one Transformer, one Pooling and at most one Normalize, got {kind}. "
                "A bundle cannot compute this embedding."
            )
        found[name] = place if isinstance(place, str) else ""
    if [name for name in found if name != "Dropout"] not in (["Transformer", "Pooling"], list(_KNOWN[:3])):
        raise CheckpointError(
            f"{path} must have a Transformer, a Pooling and maybe a Normalize, in this order, got "
            f"{', '.join(found) or 'none'}."
        )
    if found["Transformer"]:
        raise CheckpointError(
            f"{path} must have its Transformer in the same folder, got it in {found['Transformer']!r}. "
            "Load and save the model with a current sentence-transformers."
        )
    return found


def _read_mode(folder: Path, place: str) -> PoolingMode:
    """Return the pooling of the module in a folder of the checkpoint."""
    if not is_file_name(place):
        raise CheckpointError(f"{folder / _MODULES_FILE} must name folders of the checkpoint, got {place!r}.")
    path = folder / place / "config.json"
    settings = read_json_object(path)
    modes = _list_modes(settings)
    if len(modes) != 1 or modes[0] not in _MODES:
        raise CheckpointError(
            f"Pooling must be mean or cls, got {', '.join(modes)} in {path}. A bundle cannot compute this embedding."
        )
    return _MODES[modes[0]]


def _list_modes(settings: dict[str, Any]) -> list[str]:
    """Return the poolings that are on: a name or names in new files, one switch a pooling in old ones."""
    if "pooling_mode" in settings:
        mode = settings["pooling_mode"]
        return [str(item) for item in mode] if isinstance(mode, list) else [str(mode)]
    on = [key for key, value in settings.items() if key.startswith(_LEGACY_PREFIX) and value is True]
    return [key.removeprefix(_LEGACY_PREFIX) for key in on] or ["mean"]  # its own default


def _read_default_prompt(path: Path) -> str | None:
    """Return the prompt that the package would put before every text; None for none."""
    if not path.is_file():
        return None
    settings = read_json_object(path)
    prompts, name = settings.get("prompts"), settings.get("default_prompt_name")
    prompt = prompts.get(name) if isinstance(prompts, dict) and isinstance(name, str) else None
    return prompt if isinstance(prompt, str) and prompt else None
