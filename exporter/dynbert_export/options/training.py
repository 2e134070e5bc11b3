"""The options of a training: one frozen config, given by a recipe (YAML), by the caller, or by both.

``TrainingConfig`` is the only home of each option's default, as ``ExportConfig`` is of an export's. Where a default is
from a paper, it is named there. What transformers' Trainer can do beyond these options, the section ``trainer`` of a
recipe passes on under Trainer's own names.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  (pydantic reads the annotations at run time)
from pathlib import Path  # noqa: TC003  (pydantic reads the annotations at run time)
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, InstanceOf, model_validator

from dynbert.errors import LengthConfigError
from dynbert.lengths import LengthConfig
from dynbert_export.options.config import Section, validate_options
from dynbert_export.options.profiles import NamedLengths, make_length_profiles
from dynbert_export.options.vocabularies import MixedPrecision, TrainingTaskOption
from dynbert_export.tasks import MIN_INPUT_TOKENS

__all__ = ["TrainingConfig", "make_training_config"]


def _make_least(given: object) -> LengthConfig | None:
    """Return the least lengths, from any form that a caller may give."""
    if given is None:
        return None
    try:
        lengths = LengthConfig.of(given)  # type: ignore[arg-type]  # anything but the accepted forms is refused there
    except LengthConfigError as err:
        raise LengthConfigError(f"least_lengths: {err}") from err
    if not lengths.is_fractional:
        raise LengthConfigError(f"least_lengths must be fractions of the input's length, got the counts {lengths}.")
    return lengths


class TrainingConfig(Section):
    """All options of a training. The fields are the keys of its recipe."""

    model: Annotated[str, Field(min_length=1)]
    """Hub id, or folder of a checkpoint: with the head that is trained, or with none, and then it gets a new one."""
    output: Annotated[Path, Field(strict=False)]
    """Folder of the trained checkpoint; missing parents are made."""
    data: Annotated[str, Field(min_length=1)]
    """File of labelled data, or name of a data set on the hub, ``owner/set`` or ``set:config``."""
    eval_data: str | None = None
    """What the model is judged by while it trains; None holds out a part of ``data``."""
    split: str = "train"
    """Of a data set on the hub."""
    eval_split: str = "validation"
    """Of a data set on the hub, where ``eval_data`` names one."""
    eval_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of ``data`` that is held out where there is no ``eval_data``; at most 1,000 rows."""
    revision: str | None = None
    """Branch, tag or commit of the model's hub id."""
    task: Annotated[TrainingTaskOption, Field(strict=False)] = TrainingTaskOption.AUTO
    text_column: str | None = None
    """Name, or number from 1; several joined by commas become one text. None: by the usual names."""
    pair_column: str | None = None
    label_column: str | None = None
    choice_columns: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Multiple choice."""
    problem_type: str | None = None
    """Text classification: ``single_label_classification``, ``multi_label_classification``, ``regression`` or
    ``ranking``; None asks the checkpoint and the labels."""
    layers: Annotated[tuple[Annotated[int, Field(ge=0)], ...] | None, Field(strict=False, min_length=1)] = None
    """Indices of the checkpoint's layers that the trained model has, the others left out (Sajjad et al. 2020); None for
    all. The rival of dropping tokens: a smaller model of the same time."""
    max_length: Annotated[int | None, Field(ge=MIN_INPUT_TOKENS)] = None
    """Longest input in tokens; longer texts are cut, longer contexts of questions read in windows. None for what the
    checkpoint says."""

    profiles: Annotated[tuple[InstanceOf[NamedLengths], ...], BeforeValidator(make_length_profiles)] = ()
    """Length configs that the model is judged by beside the full one; without any, the smallest that it is trained
    for. They decide which state is best and when to stop early, and nothing of what a step trains."""
    ratio_bound: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """A layer drops at most this share of what enters it (Kim and Cho 2021, section 4: 0.2 for 12 layers)."""
    least_lengths: Annotated[InstanceOf[LengthConfig] | None, BeforeValidator(_make_least)] = None
    """Fractions, one a layer: the least that any step keeps, in place of what ``ratio_bound`` leads to. For profiles of
    another shape than its staircase, such as embeddings', which want their tokens dropped at once."""
    random_models: Annotated[int, Field(ge=0)] = 2
    """Models with random lengths a step, beside the full and the smallest one (Yu and Huang 2019, section 3.1: 2)."""
    layer_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability with which a random model leaves out a layer (Kim and Cho 2021: 0.2, with 12 layers)."""
    always_keep_cls_token: bool = True
    plain_epochs: Annotated[float | None, Field(ge=0)] = None
    """So many of the first epochs train the full model alone, in a third of the time, as Kim and Cho fine-tune before
    they drop. None: one, or half of the training if that is less, where the head is new; none where the checkpoint has
    it."""
    temperature: Annotated[float, Field(gt=0)] = 1.0
    distillation_weight: Annotated[float, Field(ge=0)] = 1.0
    hidden_weight: Annotated[float, Field(ge=0)] = 0.0
    dropout: Annotated[float | None, Field(ge=0, lt=1)] = None
    """Probability with which a number is left out while training. None: the checkpoint's; none at all for embeddings,
    which are to come as near as they can to those of a teacher that leaves nothing out."""
    teacher: str | None = None
    """Folder or hub id of a checkpoint with the same task, labels and tokenizer, which teaches the full model."""
    teacher_weight: Annotated[float, Field(ge=0, le=1)] = 0.5
    similarity_weight: Annotated[float, Field(ge=0)] = 0.0
    """0: with 1 retrieval is as good and vectors are farther from the teacher's (recipes/README.md)."""
    contrastive_weight: Annotated[float, Field(ge=0)] = 0.0

    epochs: Annotated[float, Field(gt=0)] = 3.0
    """Devlin et al. 2019, appendix A.3: 2 to 4. Plain ones included."""
    max_steps: Annotated[int | None, Field(ge=1)] = None
    """Ends the training after so many steps, if it is not over by then; None for none."""
    batch_size: Annotated[int, Field(ge=1)] = 32
    """A device; Devlin et al. 2019: 16 or 32."""
    eval_batch_size: Annotated[int, Field(ge=1)] = 64
    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Devlin et al. 2019: 2e-5 to 5e-5."""
    scheduler: str = "linear"
    """As transformers names it."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Mosbach et al. 2021, section 7."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Devlin et al. 2019, appendix A.2."""
    mixed_precision: Annotated[MixedPrecision, Field(strict=False)] = MixedPrecision.AUTO
    eval_every: Annotated[int | None, Field(ge=1)] = None
    """Steps between evaluations, each of which saves a state to resume from; None for once an epoch."""
    early_stopping: Annotated[int | None, Field(ge=1)] = None
    """Stop after so many evaluations without a better metric; None to go on."""
    report_to: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Trackers that transformers knows, such as ``tensorboard`` or ``wandb``."""
    trainer: Mapping[str, Any] = {}
    """Further arguments of ``transformers.TrainingArguments``; recipes only."""
    threads: Annotated[int | None, Field(ge=1)] = None
    """Threads of PyTorch; None for the cores that this process may use."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    resume: bool = False
    """Go on with an interrupted training of the same output."""
    overwrite: bool = False
    """Whether a checkpoint that a training left at ``output`` is replaced, and an interrupted one begun anew."""

    @model_validator(mode="after")
    def _check_resume(self) -> TrainingConfig:
        if self.resume and self.overwrite:
            raise ValueError("resume and overwrite must not be given together, got both. Which is it to be?")
        return self

    @model_validator(mode="after")
    def _check_least(self) -> TrainingConfig:
        if self.least_lengths is not None and "ratio_bound" in self.model_fields_set:
            raise ValueError(
                "ratio_bound and least_lengths must not be given together, got both. Either says how much is dropped."
            )
        return self


def make_training_config(
    recipe: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None
) -> TrainingConfig:
    """Return the checked options.

    Args:
        recipe: What ``load_recipe`` read; None without a recipe.
        overrides: What the caller gives; wins over the recipe.

    Returns:
        The config.

    Raises:
        RecipeError: With all faults of both: unknown keys, wrong types, values out of range, contradictions.
    """
    return validate_options(TrainingConfig, recipe, overrides, purpose="a training")
