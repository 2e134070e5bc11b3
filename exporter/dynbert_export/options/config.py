"""The options of an export: one frozen config, given by a recipe (YAML), by the caller, or by both.

``ExportConfig`` is the only home of each option's default; the command line and ``dynbert_export.export`` fill it and
declare none of their own. What the caller gives wins over the recipe, option by option; ``profiles`` and ``gates``
count as one option each. All faults are reported at once.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path  # noqa: TC003  (pydantic reads the annotations at run time)
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, ValidationError, model_validator

from dynbert.errors import InputError
from dynbert.manifest import Embeddings, Precision, Task
from dynbert_export.errors import RecipeError
from dynbert_export.options.faults import explain_faults
from dynbert_export.options.profiles import NamedLengths, make_profiles
from dynbert_export.options.vocabularies import (
    AUTO,
    NONE,
    CalibrationMethod,
    PrecisionOption,
    QuantizeOption,
    TargetOption,
    TaskOption,
    make_targets,
)
from dynbert_export.tasks import MIN_INPUT_TOKENS, Metric

if TYPE_CHECKING:
    from dynbert.lengths import LengthConfig

__all__ = ["ExportConfig", "Gates", "Section", "make_config", "validate_options"]

Options = TypeVar("Options", bound="Section")


class Section(BaseModel):
    """Base of the recipe's sections: frozen, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


def _check_alpha(given: object) -> object:
    """Hold ``smooth_quant_alpha`` to its rule; pydantic would report each kind that it may have."""
    is_number = isinstance(given, int | float) and not isinstance(given, bool)
    if not (given in {AUTO, NONE} if isinstance(given, str) else is_number and 0 <= given <= 1):  # type: ignore[operator]
        raise ValueError(
            f"smooth_quant_alpha must be a number from 0 to 1, {AUTO} or {NONE}, got {reprlib.repr(given)}."
        )
    return given


class Gates(Section):
    """What a graph must hold, or the export fails."""

    fp32_max_abs_difference: Annotated[float, Field(gt=0)] = 1e-4
    """Largest difference between torch and the fp32 graph, on valid positions of the outputs."""
    int8_min_cosine: Annotated[float, Field(ge=-1, le=1)] = 0.97
    """Feature extraction: mean cosine between the embeddings of the INT8 and the fp32 graph."""
    int8_min_label_agreement: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Text classification and next-sentence prediction: mean agreement of labels, 1 where all are equal, see
    ``agreement.py``; for a regression the mean closeness of the numbers."""
    int8_min_rank_correlation: Annotated[float, Field(ge=-1, le=1)] = 0.9
    """Text classification by one logit that ranks: Spearman's correlation of the scores. Hand-measured on the built-in
    texts, INT8 against fp32 (``agreement`` in an export's manifest): 0.97 to 0.99 with nothing dropped and 0.94 to 0.99
    with half of the tokens, for heads with random weights on all-MiniLM-L6-v2 and on tiny BERTs, whose scores are
    nearer to each other than trained ones."""
    int8_min_span_agreement: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Question answering: mean agreement of answer spans, 1 where all are equal."""
    int8_min_token_agreement: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Token classification: mean agreement of the tokens' labels."""
    int8_min_mask_agreement: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Fill-mask: mean agreement of the tokens that are foretold behind masks."""
    int8_min_choice_agreement: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Multiple choice: mean agreement of the choices."""
    int8_min_pretraining_agreement: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Pretraining: the mean of the agreements of both heads."""
    max_fp32_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the quantisable products that may stay fp32 to hold the gate above; 0 for none, 1 for all but one."""
    refuse_dominated: bool = True
    """Where graphs are evaluated on labelled data: whether a profile fails that is faster on no input than another
    which answers better."""

    def int8_min_agreement(self, metric: Metric) -> float:
        """Return the threshold of a metric.

        Args:
            metric: How the answers of the graphs are compared.

        Returns:
            The least agreement between INT8 and fp32.
        """
        return {
            Metric.COSINE: self.int8_min_cosine,
            Metric.LABEL_AGREEMENT: self.int8_min_label_agreement,
            Metric.CLOSENESS: self.int8_min_label_agreement,
            Metric.RANK_CORRELATION: self.int8_min_rank_correlation,
            Metric.SPAN_AGREEMENT: self.int8_min_span_agreement,
            Metric.TOKEN_AGREEMENT: self.int8_min_token_agreement,
            Metric.MASK_AGREEMENT: self.int8_min_mask_agreement,
            Metric.CHOICE_AGREEMENT: self.int8_min_choice_agreement,
            Metric.PRETRAINING_AGREEMENT: self.int8_min_pretraining_agreement,
        }[metric]


class ExportConfig(Section):
    """All options of an export. The fields are the keys of a recipe."""

    model: Annotated[str, Field(min_length=1)]
    """Hub id, or folder of a checkpoint."""
    output: Annotated[Path, Field(strict=False)]
    """Folder of the bundle; missing parents are made."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; None for its default branch."""
    task: Annotated[TaskOption, Field(strict=False)] = TaskOption.AUTO
    profiles: Annotated[tuple[InstanceOf[NamedLengths], ...], BeforeValidator(make_profiles)] = ()
    """Beside ``full`` and ``anytime``. A recipe writes a mapping from name to length config, or to a mapping with
    ``length_config``, ``layer_config`` (indices of the layers that run) or both."""
    always_keep_cls_token: bool = True
    """Whether CLS is kept whatever its significance."""
    max_length: Annotated[int | None, Field(ge=MIN_INPUT_TOKENS)] = None
    """Longest input in tokens; None for what the checkpoint says."""
    embeddings: Annotated[Embeddings, Field(strict=False)] = Embeddings.POOLED
    """What the graphs of feature extraction give; for the other tasks it must not be given."""
    quantize: Annotated[QuantizeOption, Field(strict=False)] = QuantizeOption.STATIC
    precision: Annotated[PrecisionOption, Field(strict=False)] = PrecisionOption.INT8
    """Where it is not given and ``quantize`` is ``none``, it is ``fp32``."""
    target: Annotated[tuple[InstanceOf[TargetOption], ...], BeforeValidator(make_targets)] = (TargetOption.AUTO,)
    """One, or a list: the bundle then holds INT8 graphs for each number range that these need."""
    smooth_quant_alpha: Annotated[float | str, BeforeValidator(_check_alpha)] = 0.7
    """SmoothQuant: how much of the activations' range moves into the weights. ``none`` leaves it out; ``auto`` tries
    several numbers, and none."""
    calibration_method: Annotated[CalibrationMethod, Field(strict=False)] = CalibrationMethod.AUTO
    calibration: Annotated[Path | None, Field(strict=False)] = None
    """txt, csv, tsv, jsonl or SQuAD json; None for the sentences that ship with the exporter."""
    calibration_samples: Annotated[int, Field(ge=1)] = 128
    """Most samples that are read from the calibration file; which ones is decided by ``seed``."""
    evaluate: str | None = None
    """Labelled data, a file or a set of the hub: every published graph is evaluated on it, and card and manifest tell
    what was found. None: not."""
    evaluate_split: str = "test"
    """Which part of a set of the hub."""
    text_column: str | None = None
    """Of ``evaluate``, as are the next ones: see ``dynbert.scoring.examples.Columns``. None: guessed."""
    pair_column: str | None = None
    label_column: str | None = None
    choice_columns: Annotated[tuple[str, ...], Field(strict=False)] = ()
    query_profile: str | None = None
    """Of ``evaluate``, for retrieval: the profile that embeds the queries. None: the one that embeds the passages."""
    gates: Gates = Gates()
    opset: Annotated[int, Field(ge=17, le=20)] = 17
    """Version of the ONNX operators: 17 is the first with LayerNormalization, 20 the last that torch's exporter for
    TorchScript writes."""
    threads: Annotated[int | None, Field(ge=1)] = None
    """Threads of the export itself; None for the cores that this process may use."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """Of everything random: which calibration samples, which inputs of the verification."""
    overwrite: bool = False
    """Whether an existing bundle at ``output`` is replaced."""

    @model_validator(mode="before")
    @classmethod
    def _follow_quantize(cls, given: Any) -> Any:
        """Give ``precision`` the default that fits ``quantize: none``."""
        if isinstance(given, Mapping) and given.get("quantize") == "none" and "precision" not in given:
            return {**given, "precision": PrecisionOption.FP32}
        return given

    @model_validator(mode="after")
    def _check_precision(self) -> ExportConfig:
        if self.quantize is QuantizeOption.NONE and self.precision is not PrecisionOption.FP32:
            raise ValueError(
                f"precision must be fp32 where quantize is none, got {self.precision.value}. "
                "Leave precision out, or choose quantize static or dynamic."
            )
        if "target" in self.model_fields_set and Precision.INT8 not in self.precisions:
            reason = "quantize is none" if self.quantize is QuantizeOption.NONE else "precision is fp32"
            raise ValueError(
                f"target must be left out where {reason}, got {', '.join(each.value for each in self.target)}. "
                "It is for INT8 graphs, and there will be none."
            )
        return self

    @model_validator(mode="after")
    def _check_evaluation(self) -> ExportConfig:
        names = ("text_column", "pair_column", "label_column", "choice_columns", "query_profile")
        given = [name for name in names if getattr(self, name)]
        if given and self.evaluate is None:
            raise ValueError(
                f"{given[0]} must be left out where nothing is evaluated, got {getattr(self, given[0])}. "
                "It is about the labelled data that evaluate names."
            )
        return self

    @property
    def length_configs(self) -> dict[str, LengthConfig | None]:
        """Name -> length config of the profiles, in their order; None where a profile drops no tokens."""
        return {profile.name: profile.lengths for profile in self.profiles}

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions of the bundle's graphs."""
        return {
            PrecisionOption.INT8: (Precision.INT8,),
            PrecisionOption.FP32: (Precision.FP32,),
            PrecisionOption.BOTH: (Precision.INT8, Precision.FP32),
        }[self.precision]

    def check_task(self, task: Task) -> None:
        """Hold the options to the task that the model turns out to have.

        Args:
            task: What the graphs compute.

        Raises:
            InputError: If an option was given that another task alone has.
        """
        if "embeddings" in self.model_fields_set and task is not Task.FEATURE_EXTRACTION:
            raise InputError(
                f"embeddings must be left out for {task.value}, got {self.embeddings.value}. "
                f"It says what graphs of {Task.FEATURE_EXTRACTION.value} give."
            )


def make_config(recipe: Mapping[str, Any] | None = None, overrides: Mapping[str, Any] | None = None) -> ExportConfig:
    """Return the checked options.

    Args:
        recipe: What ``load_recipe`` read; None without a recipe.
        overrides: What the caller gives; wins over the recipe.

    Returns:
        The config.

    Raises:
        RecipeError: With all faults of both: unknown keys, wrong types, values out of range, contradictions.
    """
    inside = [f"gates.{name}" for name in Gates.model_fields]
    return validate_options(ExportConfig, recipe, overrides, purpose="an export", inside=inside)


def validate_options(
    kind: type[Options],
    recipe: Mapping[str, Any] | None,
    overrides: Mapping[str, Any] | None,
    *,
    purpose: str,
    inside: Sequence[str] = (),
) -> Options:
    """Return checked options of any kind.

    Args:
        kind: Their class.
        recipe: What ``load_recipe`` read; None without a recipe.
        overrides: What the caller gives; wins over the recipe.
        purpose: What they are options of, for messages.
        inside: Names of what is inside an option, such as ``gates.int8_min_cosine``.

    Returns:
        The options.

    Raises:
        RecipeError: With all faults of both.
    """
    try:
        return kind.model_validate({**(recipe or {}), **(overrides or {})})
    except ValidationError as err:
        faults = list(explain_faults(err, options=list(kind.model_fields), sections=inside, purpose=purpose))
    message = faults[0] if len(faults) == 1 else "\n- ".join([f"{len(faults)} faults in the options:", *faults])
    raise RecipeError(message)
