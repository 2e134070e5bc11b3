"""The files by which sentence-transformers makes the embeddings that the runtime makes of token states.

Without them it takes a bundle for a plain BERT: means of token states, not normalised, of as many tokens as the model
has positions. They are written from what was found out about the checkpoint, never copied from it, and in the terms of
the package's version 2, which later ones read too. Normalize has a folder in ``modules.json``, and none on disk: no
version looks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynbert.manifest import PoolingMode
from dynbert_export.checkpoint.file_names import CONFIG_FILE, MODULES_FILE, PACKAGE_FILE, TRANSFORMER_FILE
from dynbert_export.checkpoint.json_files import write_json

if TYPE_CHECKING:
    from pathlib import Path

    from dynbert.manifest import Pooling
    from dynbert_export.checkpoint.embedding_files import PackageSettings

__all__ = ["write_sentence_transformers_files"]

_POOLING_SWITCHES = {
    PoolingMode.CLS: "pooling_mode_cls_token",
    PoolingMode.MEAN: "pooling_mode_mean_tokens",
}
"""A switch that the file lacks is on for the mean, and off for all others."""


def write_sentence_transformers_files(
    folder: Path, pooling: Pooling, settings: PackageSettings, *, dimensions: int, max_length: int
) -> None:
    """Write ``modules.json`` and what it points to, and the package's settings.

    Args:
        folder: The staged bundle, with config and tokenizer, which sees to lower case.
        pooling: How the runtime makes embeddings.
        settings: What the package does beside that.
        dimensions: Numbers of a token's state.
        max_length: Longest input in tokens; longer ones are cut.
    """
    names = ["Transformer", "Pooling", *(["Normalize"] if pooling.normalize else [])]
    places = ["" if name == "Transformer" else f"{index}_{name}" for index, name in enumerate(names)]
    modules = [
        {"idx": index, "name": str(index), "path": place, "type": f"sentence_transformers.models.{name}"}
        for index, (name, place) in enumerate(zip(names, places, strict=True))
    ]
    write_json(folder / MODULES_FILE, modules)
    write_json(folder / TRANSFORMER_FILE, {"max_seq_length": max_length, "do_lower_case": False})
    pooling_folder = folder / places[1]
    pooling_folder.mkdir()
    switches = {switch: mode is pooling.mode for mode, switch in _POOLING_SWITCHES.items()}
    prompt = {} if settings.include_prompt else {"include_prompt": False}
    write_json(pooling_folder / CONFIG_FILE, {"word_embedding_dimension": dimensions, **switches, **prompt})
    write_json(folder / PACKAGE_FILE, _list_package_settings(settings))


def _list_package_settings(settings: PackageSettings) -> dict[str, Any]:
    """Return the package's own settings under its names."""
    return {
        "prompts": dict(settings.prompts),
        "default_prompt_name": settings.default_prompt_name,
        "similarity_fn_name": settings.similarity,
        **({} if settings.dimensions is None else {"truncate_dim": settings.dimensions}),
    }
