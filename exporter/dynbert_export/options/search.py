"""The options of a search: one frozen config, given by a recipe (YAML), by the caller, or by both.

``SearchConfig`` is the only home of each option's default, as ``ExportConfig`` is of an export's. Those of the export
that a search makes first are a section of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from dynbert.manifest import Target
from dynbert_export.errors import RecipeError
from dynbert_export.options.config import ExportConfig, Section, make_config, validate_options
from dynbert_export.options.profiles import NamedLengths, make_profiles
from dynbert_export.options.vocabularies import (
    LengthOption,
    PrecisionOption,
    QuantizeOption,
    QueryOption,
    SamplerOption,
    TrainingTaskOption,
)
from dynbert_export.tasks import MIN_INPUT_TOKENS

__all__ = ["SearchConfig", "make_search_config"]

_SHARED = ("model", "revision", "task", "max_length", "calibration")
"""Options that an export has as well: they are the search's, where it is not given them itself."""
_DECIDED = (*_SHARED, "output", "precision", "overwrite")
"""Options of an export that are left to the search."""
RECIPE_ENDINGS = (".yaml", ".yml")


class SearchConfig(Section):
    """All options of a search."""

    model: Annotated[str, Field(min_length=1)]
    """Hub id, or folder of a checkpoint that has the task's head."""
    data: Annotated[str, Field(min_length=1)]
    """File of labelled data, or name of a data set on the hub."""
    study: Annotated[Path, Field(strict=False)]
    """File of the study: every trial, in SQLite. ``STUDY.work`` beside it has the working bundle."""
    output: Annotated[Path, Field(strict=False)]
    """The recipe to write, .yaml; a .json and a .png of the same name stand beside it."""
    export: Mapping[str, Any] = {}
    """Options of ``ExportConfig`` for the working bundle and for the recipe that is written. Its profiles are tried
    first."""
    revision: str | None = None
    """Branch, tag or commit of the model's hub id."""
    task: Annotated[TrainingTaskOption, Field(strict=False)] = TrainingTaskOption.AUTO
    max_length: Annotated[int | None, Field(ge=MIN_INPUT_TOKENS)] = None
    """Longest input in tokens; longer texts are cut, longer contexts of questions read in windows. None for what the
    checkpoint says."""
    calibration: Annotated[Path | None, Field(strict=False)] = None
    """Texts that INT8 ranges come from; None for those of the part of the data that is searched by."""

    split: str = "validation"
    """Of a data set on the hub."""
    text_column: str | None = None
    """Name, or number from 1; several joined by commas become one text. None: by the usual names."""
    pair_column: str | None = None
    label_column: str | None = None
    choice_columns: Annotated[tuple[str, ...], Field(strict=False)] = ()
    problem_type: str | None = None
    """Text classification; None asks the checkpoint and the labels."""
    test: str | None = None
    """Data that decides nothing, for the final numbers; None keeps a part of ``data`` aside."""
    test_split: str = "test"
    """Of a data set on the hub, where ``test`` names one."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Share of ``data`` that is kept aside where there is no ``test``."""
    metric: str | None = None
    """What is maximised; None for the task's main one."""
    queries: Annotated[QueryOption, Field(strict=False)] = QueryOption.FULL
    """Retrieval: which graph embeds queries. Passages are embedded by the candidate."""

    trials: Annotated[int, Field(ge=1)] = 100
    """Configs to try in all, by all runs and workers of the study."""
    minutes: Annotated[float | None, Field(gt=0)] = None
    """No trial begins later than this; None for no bound."""
    profiles: Annotated[int, Field(ge=1, le=20)] = 3
    """Profiles to choose along the front."""
    keep_quality: Annotated[float, Field(gt=0, le=1)] = 0.9
    """A profile must have at least this share of the quality of full; what is surely below it is not tried to the
    end."""
    sampler: Annotated[SamplerOption, Field(strict=False)] = SamplerOption.EVOLUTION
    lengths: Annotated[LengthOption, Field(strict=False)] = LengthOption.FRACTIONS
    leave_out_layers: Annotated[int | None, Field(ge=0)] = None
    """Layers that a config may leave out at most; 0 for none, None for a third of the model's."""
    compare_random: bool = False
    """Whether as many trials of random search are made to compare with."""
    threads: Annotated[int, Field(ge=1)] = 1
    """Threads that graphs are judged and timed on; an export's own are an option of its recipe."""
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] = 0
    """Of everything random: what is kept aside, what is proposed."""
    overwrite: bool = False
    """Whether a recipe at ``output`` is replaced."""

    @model_validator(mode="after")
    def _check_output(self) -> SearchConfig:
        if self.output.suffix.lower() not in RECIPE_ENDINGS:
            raise ValueError(f"output must end in {' or '.join(RECIPE_ENDINGS)}, got {self.output}. It is a recipe.")
        return self

    @model_validator(mode="after")
    def _check_held_out(self) -> SearchConfig:
        if self.test is not None and "held_out" in self.model_fields_set:
            raise ValueError("held_out and test must not be given together, got both. Either says what is kept aside.")
        return self

    def list_export_options(self, machine: Target | None) -> dict[str, Any]:
        """Return the options of an export for the machine that the search is made on.

        Args:
            machine: Its best INT8 instruction set; None if it has none.

        Returns:
            Those of ``export``, without its profiles; where they name no target, the machine's, if it is not the one
            that an export is for anyway.
        """
        options = {name: value for name, value in self.export.items() if name != "profiles"}
        is_fp32 = options.get("quantize") == QuantizeOption.NONE.value
        if is_fp32 or "target" in options or machine not in {Target.AVX2, Target.ARM64}:
            return options
        return {**options, "target": machine.value}

    @property
    def known(self) -> tuple[NamedLengths, ...]:
        """The profiles of the export's options."""
        return make_profiles(self.export.get("profiles", {}))

    def make_export(self, bundle: Path, *, calibration: Path | None, machine: Target | None) -> ExportConfig:
        """Return the options of the working bundle's export.

        Args:
            bundle: Folder of the bundle.
            calibration: Texts that INT8 ranges come from.
            machine: Its best INT8 instruction set; None if it has none.

        Returns:
            Both precisions of ``full`` and ``anytime``, since quality is compared with fp32; where INT8 was not asked
            for, fp32 alone.
        """
        is_fp32 = self.export.get("quantize") == QuantizeOption.NONE.value
        return make_config(
            self.list_export_options(machine),
            {
                "model": self.model,
                "revision": self.revision,
                "task": self.task.value,
                "max_length": self.max_length,
                "calibration": calibration,
                "output": bundle,
                "precision": (PrecisionOption.FP32 if is_fp32 else PrecisionOption.BOTH).value,
            },
        )


def make_search_config(
    recipe: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    export: Mapping[str, Any] | None = None,
) -> SearchConfig:
    """Return the checked options.

    Args:
        recipe: What ``load_recipe`` read; None without a recipe.
        overrides: What the caller gives; wins over the recipe.
        export: What ``load_recipe`` read of an export's recipe; in place of the recipe's section ``export``.

    Returns:
        The config.

    Raises:
        RecipeError: With all faults of the search's options, or of the export's.
    """
    given = dict(recipe or {})
    section = given.get("export")
    doubled = [name for name in _DECIDED if isinstance(section, Mapping) and name in section]
    if doubled:
        raise RecipeError(f"export must not have {doubled[0]}: a search has it, or decides it. Write it outside.")
    if export is not None:
        shared = {name: export[name] for name in _SHARED if name in export}
        given = shared | given | {"export": {name: value for name, value in export.items() if name not in _DECIDED}}
    config = validate_options(SearchConfig, given, overrides, purpose="a search")
    make_config({"quantize": "static", **config.export}, {"model": "-", "output": Path("-")})
    return config
