"""The commands ``dynbert-export``, ``dynbert-train`` and ``dynbert-search`` as functions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from dynbert_export.errors import check_packages, explain_missing_packages

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynbert.lengths import Length, LengthConfig
    from dynbert_export.pipeline import ExportResult
    from dynbert_export.progress import Progress, StepProgress
    from dynbert_export.searching.run import SearchResult
    from dynbert_export.training.run import TrainingResult

__all__ = ["ExportOptions", "ProfileOptions", "SearchOptions", "TrainingOptions", "export", "search", "train"]


class ProfileOptions(TypedDict, total=False):
    """A profile of an export, either key or both."""

    length_config: LengthConfig | str | Sequence[Length] | None
    """Tokens kept after each layer of the model; without it nothing is dropped."""
    layer_config: str | Sequence[int] | None
    """Indices of the layers that run, in any order; without it all run."""


class ExportOptions(TypedDict, total=False):
    """The options of an export: the keys of a recipe. Their meaning and defaults: ``ExportConfig``."""

    model: str | Path
    output: str | Path
    revision: str | None
    task: str
    profiles: Mapping[str, LengthConfig | str | Sequence[Length] | ProfileOptions] | Sequence[str]
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
    evaluate: str | Path | None
    evaluate_split: str
    text_column: str | None
    pair_column: str | None
    label_column: str | None
    choice_columns: Sequence[str]
    query_profile: str | None
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
            ``--length-config`` and ``--layer-config``: a mapping from name to lengths, or to ``ProfileOptions``; or
            ``[NAME=]LIST`` texts, lengths alone.

    Returns:
        Where the bundle is, its manifest, and the latency of the fp32 graph that drops nothing.

    Raises:
        InputError: If an option breaks a rule; all faults are named at once.
        MissingPackageError: If the export extra is not installed.
        DataError: If the labelled data cannot be used; before anything is made.
        ExportError: If the checkpoint, the calibration file, a gate or the disk fails. Nothing is left behind then.
    """
    with explain_missing_packages("export"):
        from dynbert_export.options.config import make_config
        from dynbert_export.options.recipe import load_recipe
        from dynbert_export.pipeline import export_bundle

    config = make_config(load_recipe(Path(recipe)) if recipe is not None else None, _with_text_names(options))
    return export_bundle(config, progress=progress)


class TrainingOptions(TypedDict, total=False):
    """The options of a training: the keys of its recipe. Their meaning and defaults: ``TrainingConfig``."""

    model: str | Path
    output: str | Path
    data: str | Path
    eval_data: str | Path | None
    split: str
    eval_split: str
    eval_share: float
    revision: str | None
    task: str
    text_column: str | None
    pair_column: str | None
    label_column: str | None
    choice_columns: Sequence[str]
    problem_type: str | None
    layers: Sequence[int] | None
    max_length: int | None
    profiles: Mapping[str, LengthConfig | str | Sequence[Length]] | Sequence[str]
    ratio_bound: float
    least_lengths: LengthConfig | str | Sequence[Length] | None
    random_models: int
    layer_dropout: float
    always_keep_cls_token: bool
    plain_epochs: float | None
    temperature: float
    distillation_weight: float
    hidden_weight: float
    dropout: float | None
    teacher: str | Path | None
    teacher_weight: float
    similarity_weight: float
    contrastive_weight: float
    epochs: float
    max_steps: int | None
    batch_size: int
    eval_batch_size: int
    gradient_accumulation: int
    learning_rate: float
    scheduler: str
    warmup_ratio: float
    weight_decay: float
    mixed_precision: str
    eval_every: int | None
    early_stopping: int | None
    report_to: Sequence[str]
    trainer: Mapping[str, Any]
    threads: int | None
    seed: int
    resume: bool
    overwrite: bool


def train(
    *, recipe: str | Path | None = None, progress: StepProgress | None = None, **options: Unpack[TrainingOptions]
) -> TrainingResult:
    """Train a BERT checkpoint so that its profiles keep their quality when tokens are dropped.

    Args:
        recipe: YAML file with options; those given here win over it.
        progress: Told of stages, steps and notes; None for silence.
        **options: ``model``, ``data`` and ``output`` must be given, here or in the recipe.

    Returns:
        Where the checkpoint is, and how good it is at each profile, before and after.

    Raises:
        InputError: If an option breaks a rule; all faults are named at once.
        MissingPackageError: If the extra train is not installed.
        DataError: If the data cannot be used; before anything is trained.
        ExportError: If the checkpoint or the disk fails.
    """
    with explain_missing_packages("train"):
        check_packages("train")
        from dynbert_export.options.recipe import load_recipe
        from dynbert_export.options.training import make_training_config
        from dynbert_export.training.run import train_checkpoint

    config = make_training_config(load_recipe(Path(recipe)) if recipe is not None else None, _with_text_names(options))
    return train_checkpoint(config, progress=progress)


class SearchOptions(TypedDict, total=False):
    """The options of a search. Their meaning and defaults: ``SearchConfig``."""

    model: str | Path
    data: str | Path
    study: str | Path
    output: str | Path
    export: ExportOptions
    revision: str | None
    task: str
    max_length: int | None
    calibration: str | Path | None
    split: str
    text_column: str | None
    pair_column: str | None
    label_column: str | None
    choice_columns: Sequence[str]
    problem_type: str | None
    test: str | Path | None
    test_split: str
    held_out: float
    metric: str | None
    queries: str
    trials: int
    minutes: float | None
    profiles: int
    keep_quality: float
    sampler: str
    lengths: str
    leave_out_layers: int | None
    compare_random: bool
    threads: int
    seed: int
    overwrite: bool


def search(
    *,
    recipe: str | Path | None = None,
    progress: StepProgress | None = None,
    **options: Unpack[SearchOptions],
) -> SearchResult:
    """Find the best length configs of a checkpoint on this machine and the caller's data.

    Args:
        recipe: YAML file with options; those given here win over it.
        progress: Told of stages, trials and notes.
        **options: ``model``, ``data``, ``study`` and ``output`` must be given, here or in the recipe. ``export`` has
            options of ``export()``: the working bundle and the recipe that is written have them, and its profiles are
            tried first.

    Returns:
        Where the recipe is, and what was found.

    Raises:
        InputError: If an option breaks a rule, or the study is of another search.
        MissingPackageError: If the extra search is not installed.
        DataError: If the data cannot be used; before anything is exported.
        ExportError: If the export or the disk fails, or no config is worth a profile.
    """
    with explain_missing_packages("search"):
        check_packages("search")
        from dynbert_export.options.recipe import load_recipe
        from dynbert_export.options.search import make_search_config
        from dynbert_export.searching.run import search_lengths

    config = make_search_config(load_recipe(Path(recipe)) if recipe is not None else None, _with_text_names(options))
    return search_lengths(config, progress=progress)


def _with_text_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with paths as text where a name of a hub may stand as well."""
    names = ("model", "data", "eval_data", "teacher", "test")
    return {name: str(value) if name in names and isinstance(value, Path) else value for name, value in options.items()}
