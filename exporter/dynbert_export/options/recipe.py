"""The options of an export: one frozen config, given by a recipe (YAML), by the caller, or by both.

``ExportConfig`` is the only home of each option's default; the command line and ``dynbert_export.export`` fill it and
declare none of their own. What the caller gives wins over the recipe, option by option; ``profiles`` and ``gates``
count as one option each. All faults are reported at once.

Relative paths in a recipe are relative to the folder of the recipe, so that a recipe means the same wherever it is
run from. Paths from the caller are relative to the working directory, as everywhere.

YAML is read with PyYAML's safe loader, changed in three ways: a key that stands twice is refused (YAML would let the
last one win), aliases are refused (a few lines of them can stand for gigabytes), and ``1e-4`` is a number (YAML 1.1
wants ``1.0e-4`` and reads the short form as text).
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path  # noqa: TC003  (pydantic reads the annotations at run time)
from typing import TYPE_CHECKING, Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, ValidationError, model_validator

from dynbert.errors import InputError
from dynbert.manifest import Precision
from dynbert_export.errors import RecipeError, collect_faults
from dynbert_export.options.profiles import Profile, make_profiles
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
from dynbert_export.tasks import HEADS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from dynbert.lengths import LengthConfig
    from dynbert.manifest import Task

__all__ = [
    "ExportConfig",
    "Gates",
    "load_recipe",
    "make_config",
]

MIN_INPUT_TOKENS = 3
"""The shortest useful input: CLS, one token, SEP."""
OPSETS = (17, 20)
"""17 is the first with LayerNormalization, 20 the last that torch's TorchScript exporter writes."""

_MAX_RECIPE_BYTES = 1 << 20
_PATH_KEYS = ("output", "calibration")


class _Section(BaseModel):
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


class Gates(_Section):
    """What a graph must hold, or the export fails."""

    fp32_max_abs_difference: Annotated[float, Field(gt=0)] = 1e-4
    """Largest difference between torch and the fp32 graph, on valid positions of the outputs."""
    int8_min_cosine: Annotated[float, Field(ge=-1, le=1)] = 0.97
    """Feature extraction: mean cosine between the embeddings of the INT8 and the fp32 graph."""
    int8_min_label_agreement: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Text classification and next-sentence prediction: mean agreement of labels, 1 where all are equal, see
    ``agreement.py``."""
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
    """Share of the quantisable products that may stay fp32 to hold the gate above; 0 for none."""

    def int8_min_agreement(self, task: Task) -> float:
        """Return the threshold of a task's own metric.

        Args:
            task: The task of the graphs.

        Returns:
            The least agreement between INT8 and fp32.
        """
        threshold: float = getattr(self, f"int8_min_{HEADS[task].metric}")
        return threshold


class ExportConfig(_Section):
    """All options of an export. The fields are the keys of a recipe."""

    model: Annotated[str, Field(min_length=1)]
    """Hub id, or folder of a checkpoint."""
    output: Annotated[Path, Field(strict=False)]
    """Folder of the bundle; missing parents are made."""
    revision: str | None = None
    """Branch, tag or commit of a hub id; None for its default branch."""
    task: Annotated[TaskOption, Field(strict=False)] = TaskOption.AUTO
    profiles: Annotated[tuple[InstanceOf[Profile], ...], BeforeValidator(make_profiles)] = ()
    """Beside ``full`` and ``anytime``. A recipe writes a mapping from name to length config."""
    always_keep_cls_token: bool = True
    """Whether CLS is kept whatever its significance."""
    max_length: Annotated[int | None, Field(ge=MIN_INPUT_TOKENS)] = None
    """Longest input in tokens; None for what the checkpoint says."""
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
    gates: Gates = Gates()
    opset: Annotated[int, Field(ge=OPSETS[0], le=OPSETS[1])] = 17
    """Version of the ONNX operators."""
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
        return self

    @property
    def length_configs(self) -> dict[str, LengthConfig]:
        """Name -> length config of the profiles, in their order."""
        return {profile.name: profile.lengths for profile in self.profiles}

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """The precisions of the bundle's graphs."""
        return {
            PrecisionOption.INT8: (Precision.INT8,),
            PrecisionOption.FP32: (Precision.FP32,),
            PrecisionOption.BOTH: (Precision.INT8, Precision.FP32),
        }[self.precision]

    def check_profiles(self, *, num_layers: int, max_length: int) -> None:
        """Hold the profiles to the model that they are for.

        Args:
            num_layers: Hidden layers of the model.
            max_length: Longest input in tokens.

        Raises:
            InputError: If length configs have a wrong count of entries or exceed the maximum length; all at once.
        """
        faults: list[str] = []
        for profile in self.profiles:
            for check, limit in (
                (profile.lengths.check_layers, num_layers),
                (profile.lengths.check_max_length, max_length),
            ):
                with collect_faults(faults, prefix=f"Profile {profile.name}: "):
                    check(limit)
        if faults:
            raise InputError("\n".join(faults))


def load_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe; only its form is checked here, its values in ``make_config``.

    Args:
        path: A YAML file that holds a mapping.

    Returns:
        What the recipe gives. Relative paths in it have become relative to the working directory.

    Raises:
        RecipeError: If the file cannot be read, is not plain YAML, has a key twice, or holds no mapping.
    """
    try:
        if path.stat().st_size > _MAX_RECIPE_BYTES:
            raise RecipeError(f"A recipe must be at most {_MAX_RECIPE_BYTES} bytes, got more in {path}.")
        text = path.read_text(encoding="utf-8")
    except OSError as err:
        raise RecipeError(f"A recipe must be a readable YAML file, got {path} ({err.strerror}).") from err
    except UnicodeDecodeError as err:
        raise RecipeError(f"A recipe must be UTF-8 text, got another encoding in {path} ({err.reason}).") from err
    try:
        values = _RecipeLoader(text).get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as err:  # ValueError: a date such as 2024-13-45
        raise RecipeError(f"A recipe must be plain YAML, got in {path}: {_explain_yaml(err)}") from err
    if not isinstance(values, dict):
        raise RecipeError(
            f"A recipe must be a mapping of options, got {_kind(values)} in {path}. Write for example model: folder."
        )
    return _anchor_paths(values, path.parent)


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
    try:
        return ExportConfig.model_validate({**(recipe or {}), **(overrides or {})})
    except ValidationError as err:
        faults = list(_explain(err))
    message = faults[0] if len(faults) == 1 else "\n- ".join([f"{len(faults)} faults in the options:", *faults])
    raise RecipeError(message)


def _anchor_paths(values: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the values with relative paths put under the recipe's folder; a hub id is left as it is."""
    anchored = dict(values)
    for key in _PATH_KEYS:
        if isinstance(values.get(key), str):
            anchored[key] = folder / values[key]
    model = values.get("model")
    if isinstance(model, str) and model and (model.startswith(".") or (folder / model).is_dir()):
        anchored["model"] = str(folder / model)
    return anchored


class _RecipeLoader(yaml.SafeLoader):
    """PyYAML's safe loader, and stricter: see the header of this module."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # types-PyYAML has none
            raise yaml.composer.ComposerError(None, None, f"the alias *{event.anchor}", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002  (its signature)
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key_node.value!r} stands twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


_RecipeLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+"), list("-+0123456789.")
)


def _explain_yaml(err: Exception) -> str:
    """Return what is wrong and where, in one line."""
    if not isinstance(err, yaml.MarkedYAMLError):
        return str(err).splitlines()[0]
    where = f" (line {err.problem_mark.line + 1})" if err.problem_mark else ""
    problem = err.problem or "no YAML"
    if "could not determine a constructor" in problem:
        problem = f"{problem.split()[-1]}, which asks for an object. Only texts, numbers, lists and mappings are read"
    return f"{problem}{where}."


def _kind(value: object) -> str:
    """Return a YAML value's kind in words."""
    return "nothing" if value is None else {"list": "a list", "str": "a text"}.get(type(value).__name__, "one value")


_RULES = {
    "bool_type": "true or false",
    "float_type": "a number",
    "finite_number": "a finite number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "model_type": "a mapping",
    "path_type": "a path",
    "string_too_short": "a hub id or a folder",
    "string_type": "text",
}
"""pydantic's error types in the words of "X must be RULE"."""


def _explain(error: ValidationError) -> Iterator[str]:
    """Yield each fault as a sentence; unknown keys share one."""
    details = error.errors(include_url=False)
    unknown = [_name(detail) for detail in details if detail["type"] == "extra_forbidden"]
    if unknown:
        yield _explain_unknown(unknown)
    for detail in details:
        if detail["type"] == "missing":
            yield f"{_name(detail)} must be given. Pass it as an option or in the recipe."
        elif detail["type"] == "invalid_key":
            yield f"Keys must be text, got {_name(detail)}. Put it in quotes, or take it out."
        elif detail["type"] == "value_error":
            yield from str(detail["ctx"]["error"]).splitlines()  # ours: a whole sentence already
        elif detail["type"] != "extra_forbidden":
            yield _explain_value(detail)


def _name(detail: ErrorDetails) -> str:
    """Return the key's place, such as ``gates.int8_min_cosine``."""
    return ".".join(str(part) for part in detail["loc"])


def _explain_unknown(keys: list[str]) -> str:
    """Return the sentence about unknown keys, with the known key that each may mean."""
    known = [*ExportConfig.model_fields, *(f"gates.{name}" for name in Gates.model_fields)]
    hints = []
    for key in keys:
        close = get_close_matches(key.replace("-", "_"), known, n=1)
        hints.append(f"{key} (did you mean {close[0]}?)" if close else key)
    return (
        f"Keys must be options of an export, got {', '.join(hints)}. Known are: {', '.join(ExportConfig.model_fields)}."
    )


def _explain_value(detail: ErrorDetails) -> str:
    """Return the sentence about one wrong value."""
    context = detail.get("ctx", {})
    if detail["type"] == "enum":
        rule = "one of " + ", ".join(re.findall(r"'([^']*)'", context["expected"]))
    else:
        rule = _RULES.get(detail["type"], detail["msg"]).format(**context)
    return f"{_name(detail)} must be {rule}, got {reprlib.repr(detail['input'])}."
