"""The ``dynbert-export`` command as a function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from dynbert_export.errors import explain_missing_export_extra

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynbert.lengths import Length, LengthConfig
    from dynbert_export.pipeline import ExportResult
    from dynbert_export.progress import Progress

__all__ = ["ExportOptions", "export"]


class ExportOptions(TypedDict, total=False):
    """The options of an export: the keys of a recipe. Their meaning and defaults: ``ExportConfig``."""

    model: str | Path
    output: str | Path
    revision: str | None
    task: str
    profiles: Mapping[str, LengthConfig | str | Sequence[Length]] | Sequence[str]
    always_keep_cls_token: bool
    max_length: int | None
    embeddings: str
    quantize: str
    precision: str
    target: str | Sequence[str]
    smooth_quant_alpha: float | str
    calibration_method: str
    calibration: str | Path | None
    calibration_samples: int
    gates: Mapping[str, float]
    opset: int
    threads: int | None
    seed: int
    overwrite: bool


def export(
    *, recipe: str | Path | None = None, progress: Progress | None = None, **options: Unpack[ExportOptions]
) -> ExportResult:
    """Export a BERT checkpoint to a bundle.

    Args:
        recipe: YAML file with options; those given here win over it.
        progress: Told of stages and notes; None for silence.
        **options: ``model`` and ``output`` must be given, here or in the recipe; ``profiles`` is what the command calls
            ``--length-config``: a mapping from name to lengths, or ``[NAME=]LIST`` texts.

    Returns:
        Where the bundle is, its manifest, and the latency of the fp32 graph that drops nothing.

    Raises:
        InputError: If an option breaks a rule; all faults are named at once.
        MissingPackageError: If the export extra is not installed.
        ExportError: If the checkpoint, the calibration file, a gate or the disk fails. Nothing is left behind then.
    """
    with explain_missing_export_extra():
        from dynbert_export.options.config import make_config
        from dynbert_export.options.recipe import load_recipe
        from dynbert_export.pipeline import export_bundle

    given: dict[str, Any] = dict(options)
    if isinstance(given.get("model"), Path):
        given["model"] = str(given["model"])
    config = make_config(load_recipe(Path(recipe)) if recipe is not None else None, given)
    return export_bundle(config, progress=progress)
