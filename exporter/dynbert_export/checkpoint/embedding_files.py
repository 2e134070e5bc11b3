"""What sentence-transformers' files say of a checkpoint: how token states become one embedding.

A module that is not known here would change the embedding, so that a bundle without it would answer something else
than the model does; such a checkpoint is refused. The files are read directly: the package is not needed. What a bundle
gives sentence-transformers in turn, ``bundle/sentence_transformers_files.py`` writes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dynbert.manifest import Pooling, PoolingMode, is_file_name
from dynbert_export.checkpoint.file_names import CONFIG_FILE, MODULES_FILE, PACKAGE_FILE, TRANSFORMER_FILE
from dynbert_export.checkpoint.json_files import read_json, read_json_object
from dynbert_export.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["EmbeddingFiles", "PackageSettings", "read_embedding_files"]

_KNOWN = ("Transformer", "Pooling", "Normalize", "Dropout")
"""Dropout does nothing outside training."""
_SIMILARITIES = ("cosine", "dot", "euclidean", "manhattan")
_LEGACY_PREFIX = "pooling_mode_"
_MODES = {
    "mean": PoolingMode.MEAN,
    "mean_tokens": PoolingMode.MEAN,
    "cls": PoolingMode.CLS,
    "cls_token": PoolingMode.CLS,
}


@dataclass(frozen=True)
class PackageSettings:
    """What sentence-transformers does before and after it embeds: a bundle computes none of it, but passes it on."""

    prompts: Mapping[str, str] = field(default_factory=dict)
    """Name -> what it can put before a text."""
    default_prompt_name: str | None = None
    """The prompt that it puts before every text; None for none."""
    include_prompt: bool = True
    """Whether a prompt's tokens are pooled."""
    similarity: str | None = None
    """How it compares embeddings; None for its default."""
    dimensions: int | None = None
    """The first so many numbers of an embedding are given; None for all."""

    @property
    def default_prompt(self) -> str | None:
        """What stands before every text; None for nothing."""
        return None if self.default_prompt_name is None else self.prompts[self.default_prompt_name] or None


@dataclass(frozen=True)
class EmbeddingFiles:
    """What the files say."""

    pooling: Pooling
    max_length: int | None
    """Longest input in tokens; None where they leave it to the tokenizer."""
    lowercase: bool
    """Whether texts are lowercased before the tokenizer sees them."""
    package: PackageSettings


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
    path = folder / MODULES_FILE
    if not path.is_file():
        return None
    modules = _read_modules(path)
    transformer = folder / TRANSFORMER_FILE
    settings = read_json_object(transformer) if transformer.is_file() else {}
    if settings.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise CheckpointError(
            f"{transformer} must have the transformer_task feature-extraction, got {settings['transformer_task']!r}."
        )
    max_length = settings.get("max_seq_length")
    if max_length is not None and (type(max_length) is not int or max_length < 1):
        raise CheckpointError(f"max_seq_length must be a whole number of tokens, got {max_length!r} in {transformer}.")
    mode, include_prompt = _read_pooling(folder, modules["Pooling"])
    return EmbeddingFiles(
        pooling=Pooling(mode=mode, normalize="Normalize" in modules),
        max_length=max_length,
        lowercase=settings.get("do_lower_case") is True,
        package=_read_package_settings(folder / PACKAGE_FILE, include_prompt=include_prompt),
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


def _read_pooling(folder: Path, place: str) -> tuple[PoolingMode, bool]:
    """Return the pooling of the module in a folder of the checkpoint, and whether it pools a prompt's tokens."""
    if not is_file_name(place):
        raise CheckpointError(f"{folder / MODULES_FILE} must name folders of the checkpoint, got {place!r}.")
    path = folder / place / CONFIG_FILE
    settings = read_json_object(path)
    modes = _list_modes(settings)
    if len(modes) != 1 or modes[0] not in _MODES:
        raise CheckpointError(
            f"Pooling must be mean or cls, got {', '.join(modes)} in {path}. A bundle cannot compute this embedding."
        )
    return _MODES[modes[0]], settings.get("include_prompt") is not False


def _list_modes(settings: dict[str, Any]) -> list[str]:
    """Return the poolings that are on: a name or names in new files, one switch a pooling in old ones."""
    if "pooling_mode" in settings:
        mode = settings["pooling_mode"]
        return [str(item) for item in mode] if isinstance(mode, list) else [str(mode)]
    on = [key for key, value in settings.items() if key.startswith(_LEGACY_PREFIX) and value is True]
    return [key.removeprefix(_LEGACY_PREFIX) for key in on] or ["mean"]  # its own default


def _read_package_settings(path: Path, *, include_prompt: bool) -> PackageSettings:
    """Return what the package's own file says; what is not of its kind is left out, as nothing here depends on it."""
    settings = read_json_object(path) if path.is_file() else {}
    prompts, name = settings.get("prompts"), settings.get("default_prompt_name")
    if not isinstance(prompts, dict):
        prompts = {}
    known = {key: prompt for key, prompt in prompts.items() if isinstance(prompt, str)}
    similarity, dimensions = settings.get("similarity_fn_name"), settings.get("truncate_dim")
    return PackageSettings(
        prompts=known,
        default_prompt_name=name if isinstance(name, str) and name in known else None,
        include_prompt=include_prompt,
        similarity=similarity if similarity in _SIMILARITIES else None,
        dimensions=dimensions if type(dimensions) is int and dimensions > 0 else None,
    )
