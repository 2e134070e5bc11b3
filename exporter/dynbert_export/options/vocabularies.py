"""The closed vocabularies of the export options, apart from the config so that the command line starts without it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from dynbert.manifest import Task

__all__ = [
    "AUTO",
    "NONE",
    "CalibrationMethod",
    "LengthKind",
    "LengthOption",
    "MixedPrecision",
    "PrecisionOption",
    "QuantizeOption",
    "QueryOption",
    "SamplerOption",
    "TargetOption",
    "TaskOption",
    "TrainingTaskOption",
    "make_targets",
]

AUTO = "auto"
"""What an option says that leaves the choice to the exporter."""
NONE = "none"
"""What an option says that leaves a step out."""


class TaskOption(StrEnum):
    """What the graphs shall compute; ``auto`` leaves it to the checkpoint."""

    AUTO = "auto"
    QUESTION_ANSWERING = Task.QUESTION_ANSWERING.value
    TEXT_CLASSIFICATION = Task.TEXT_CLASSIFICATION.value
    TOKEN_CLASSIFICATION = Task.TOKEN_CLASSIFICATION.value
    FILL_MASK = Task.FILL_MASK.value
    NEXT_SENTENCE_PREDICTION = Task.NEXT_SENTENCE_PREDICTION.value
    MULTIPLE_CHOICE = Task.MULTIPLE_CHOICE.value
    PRETRAINING = Task.PRETRAINING.value
    FEATURE_EXTRACTION = Task.FEATURE_EXTRACTION.value


class TrainingTaskOption(StrEnum):
    """What a model is trained for: the tasks whose labels data has, and embeddings; ``auto`` asks the checkpoint."""

    AUTO = "auto"
    QUESTION_ANSWERING = Task.QUESTION_ANSWERING.value
    TEXT_CLASSIFICATION = Task.TEXT_CLASSIFICATION.value
    TOKEN_CLASSIFICATION = Task.TOKEN_CLASSIFICATION.value
    MULTIPLE_CHOICE = Task.MULTIPLE_CHOICE.value
    FEATURE_EXTRACTION = Task.FEATURE_EXTRACTION.value


class MixedPrecision(StrEnum):
    """Number format of a training's products."""

    AUTO = "auto"
    """bfloat16 on a GPU that has it, float32 elsewhere."""
    NO = "no"
    BF16 = "bf16"
    FP16 = "fp16"


class QuantizeOption(StrEnum):
    """How INT8 graphs get their activation ranges."""

    STATIC = "static"
    """From calibration texts."""
    DYNAMIC = "dynamic"
    """At run time, from each batch: an answer then depends on what else is in the batch."""
    NONE = "none"
    """No INT8 graphs."""


class CalibrationMethod(StrEnum):
    """How static ranges follow from what the calibration texts show."""

    AUTO = "auto"
    """Whichever answers most alike, on texts that the ranges do not come from."""
    MINMAX = "minmax"
    """From the smallest value to the largest."""
    PERCENTILE = "percentile"
    """Without the outermost 0.001 % or 0.01 % of each side, whichever answers more alike."""
    ENTROPY = "entropy"
    """Ends that lose least information, as in TensorRT's calibration."""


class TargetOption(StrEnum):
    """An instruction set that INT8 number ranges are chosen for; ``auto`` means VNNI, and so AMX."""

    AUTO = "auto"
    VNNI = "vnni"
    AMX = "amx"
    AVX2 = "avx2"
    ARM64 = "arm64"


class PrecisionOption(StrEnum):
    """Which graphs a bundle holds."""

    INT8 = "int8"
    FP32 = "fp32"
    BOTH = "both"


class LengthKind(StrEnum):
    """What the numbers of a length config are."""

    FRACTIONS = "fractions"
    """Of the input's length."""
    COUNTS = "counts"
    """Of tokens."""


class LengthOption(StrEnum):
    """Which kinds of length configs are searched."""

    FRACTIONS = LengthKind.FRACTIONS.value
    COUNTS = LengthKind.COUNTS.value
    BOTH = "both"

    @property
    def kinds(self) -> tuple[LengthKind, ...]:
        """The kinds."""
        return tuple(LengthKind) if self is LengthOption.BOTH else (LengthKind(self.value),)


class SamplerOption(StrEnum):
    """What proposes the configs of a search."""

    EVOLUTION = "evolution"
    """Children of the best so far (Kim and Cho 2021)."""
    NSGA2 = "nsga2"
    TPE = "tpe"
    RANDOM = "random"


class QueryOption(StrEnum):
    """By which graph queries are embedded while passages are by the one that is judged."""

    FULL = "full"
    """Queries are short, so nothing is won by dropping their tokens, and full finds more."""
    CANDIDATE = "candidate"
    """By the same graph: one vector space, one graph to deploy."""


def make_targets(given: Any) -> tuple[TargetOption, ...]:
    """Return the targets that an option gives: one name, or several.

    Args:
        given: A name, or a list of names.

    Returns:
        The targets in their order, each once.

    Raises:
        ValueError: If there is none, or a name is unknown.
    """
    names = [given] if isinstance(given, str) else given
    known = ", ".join(option.value for option in TargetOption)
    if not isinstance(names, (list, tuple)) or not names:
        raise ValueError(f"target must be one of {known}, or a list of them, got {given!r}.")
    unknown = [name for name in names if name not in list(TargetOption)]
    if unknown:
        raise ValueError(f"target must be one of {known}, got {', '.join(map(repr, unknown))}.")
    return tuple(dict.fromkeys(TargetOption(name) for name in names))
