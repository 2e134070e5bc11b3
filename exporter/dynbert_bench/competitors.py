"""The registry: every row of the table, what it is made from, and the settings that are tried for it.

A competitor has several setups where its documentation leaves a choice whose better half depends on the machine or the
input. All are tried in every cell, and the fastest one is measured there; the report names it. A setup whose answers
are not PyTorch's is out of the choice as long as another one's are.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dynbert.manifest import ANYTIME, FULL, Task
from dynbert_bench.options import BALANCED, FAST, Cell, Group, Plan, Shape
from dynbert_bench.store import Blueprint

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BASE_LINE", "Competitor", "Choices", "Registry", "Setup", "own_name"]

BASE_LINE = "base-line"
"""Name of the competitor that speeds are relative to."""

_SEED = 0
_CALIBRATION_SAMPLES = 128
"""Of every quantiser; what the exporter takes where it is told nothing."""
_GATES_OF_RANDOM_WEIGHTS = {"int8_min_span_agreement": 0.0, "int8_min_label_agreement": 0.0}
"""Random weights hardly prefer one answer to another; the benchmark's own column says how alike the outputs are."""
_ONNXRUNTIME = ("onnxruntime",)
_OPENVINO = ("openvino", "nncf")
_OPTIMUM = ("torch", "transformers", "optimum", "optimum-onnx")
_EXPORTER = (
    "torch",
    "transformers",
    "onnx",
    "onnx-ir",
    "onnxscript",
    "onnxruntime",
    "neural-compressor",
    "optimum-onnx",
)


@dataclass(frozen=True)
class Setup:
    """One way to run a competitor."""

    name: str
    """What the report says of its settings."""
    engine: str
    """Name in ``engines.ENGINES``."""
    artifact: Blueprint
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Competitor:
    """One row of the table in one cell."""

    name: str
    label: str
    group: Group | None
    """None for dynbert's own."""
    lengths: str
    """The profile whose lengths it runs: ``full``, ``fast`` or ``balanced``."""
    setups: tuple[Setup, ...]
    checkpoint: Blueprint
    """Whose outputs it must give."""


def own_name(profile: str) -> str:
    """Return the name of the competitor that is dynbert's graph of a profile.

    Args:
        profile: Of the bundle, ``anytime`` included.

    Returns:
        The name.
    """
    return f"dynbert-{profile}"


@dataclass(frozen=True)
class Choices:
    """What the caller chose beside the plan."""

    model: str | None = None
    """Folder of a checkpoint to measure in place of random weights."""
    model_digest: str | None = None
    """Hash of what the folder holds."""
    calibration: str | None = None
    """Calibration file for dynbert and for the peers; None for the built-in texts."""
    without: frozenset[Group] = frozenset()
    """Groups to leave out."""


@dataclass(frozen=True)
class Registry:
    """Lists the competitors of a plan.

    Args:
        plan: What is measured.
        choices: What the caller chose.
    """

    plan: Plan
    choices: Choices = field(default_factory=Choices)

    def checkpoint(self, task: Task) -> Blueprint:
        """Return the blueprint of the model that all competitors but the base line share.

        Args:
            task: Its task.

        Returns:
            The blueprint.
        """
        if self.choices.model is not None:
            settings = {"folder": self.choices.model, "content": self.choices.model_digest}
            return Blueprint("given-checkpoint", settings)
        return self._random_checkpoint(self.plan.shape, task)

    def competitors(self, cell: Cell) -> tuple[Competitor, ...]:
        """Return the rows of a cell.

        Args:
            cell: Its task and shape of input.

        Returns:
            The competitors: base line, peers, dynbert.
        """
        rows = self._question_rows(cell) if cell.task is not Task.TEXT_CLASSIFICATION else self._classifier_rows(cell)
        return tuple(row for row in rows if row.group not in self.choices.without)

    def inputs(self, cell: Cell) -> Blueprint:
        """Return the blueprint of a cell's inputs.

        Args:
            cell: Its task and shape of input.

        Returns:
            The blueprint.
        """
        settings = {"tokens": cell.tokens, "batch": cell.batch, "calibration": self.choices.calibration}
        return Blueprint("inputs", settings, {"checkpoint": self.checkpoint(cell.task)})

    def reference(self, competitor: Competitor, cell: Cell) -> Blueprint:
        """Return the blueprint of the outputs that a competitor must give, and with it all of its checkpoint.

        Args:
            competitor: The competitor.
            cell: Its task and shape of input.

        Returns:
            The blueprint.
        """
        rows = (row for row in self.competitors(cell) if row.checkpoint == competitor.checkpoint)
        lengths = {profile: self._lengths_text(profile) for profile in dict.fromkeys(row.lengths for row in rows)}
        sources = {"checkpoint": competitor.checkpoint, "inputs": self.inputs(cell)}
        return Blueprint("reference", {"lengths": lengths}, sources, ("torch", "transformers"))

    def _question_rows(self, cell: Cell) -> tuple[Competitor, ...]:
        profiles = (FULL, FAST)
        both = [(profile, self._graph(cell.task, profile)) for profile in profiles]
        rows = [self._base_line()]
        rows += [self._torch(cell.task, profile) for profile in profiles]
        rows += [self._onnxruntime(cell.task, profile, graph) for profile, graph in both]
        rows += [self._optimum(cell.task, profile, graph) for profile, graph in both]
        rows += [self._static(cell.task, profile, graph) for profile, graph in both]
        rows += [self._openvino(cell, profile, graph) for profile, graph in both]
        return (*rows, *(self._dynbert(cell.task, profile) for profile in (FULL, BALANCED, FAST, ANYTIME)))

    def _classifier_rows(self, cell: Cell) -> tuple[Competitor, ...]:
        graph = self._graph(cell.task, FULL)
        return (
            self._onnxruntime(cell.task, FULL, graph),
            self._optimum(cell.task, FULL, graph),
            self._openvino(cell, FULL, graph),
            self._dynbert(cell.task, FULL),
        )

    def _base_line(self) -> Competitor:
        shape = self.plan.base_line
        checkpoint = self._random_checkpoint(shape, Task.QUESTION_ANSWERING)
        graph = self._optimum_export(checkpoint, Task.QUESTION_ANSWERING)
        setups = _fused_or_not(graph, shape)
        label = f"{shape.name} fp32, onnxruntime"
        return Competitor(BASE_LINE, label, Group.BASE_LINE, FULL, setups, checkpoint)

    def _torch(self, task: Task, profile: str) -> Competitor:
        checkpoint = self.checkpoint(task)
        lengths = self._lengths_text(profile)
        name = "transformers, SDPA, inference mode" if lengths is None else "dynbert's PyTorch model, inference mode"
        setups = (Setup(name, "torch", checkpoint, {"length_config": lengths}),)
        return Competitor(f"torch-{profile}", f"torch eager fp32, {profile}", Group.TORCH, profile, setups, checkpoint)

    def _onnxruntime(self, task: Task, profile: str, graph: Blueprint) -> Competitor:
        label = f"onnxruntime fp32, {profile}"
        setups = _fused_or_not(graph, self.plan.shape)
        return Competitor(f"ort-fp32-{profile}", label, Group.ONNXRUNTIME, profile, setups, self.checkpoint(task))

    def _optimum(self, task: Task, profile: str, graph: Blueprint) -> Competitor:
        packages = ("optimum-onnx", *_ONNXRUNTIME)
        tools = ("ORTQuantizer", "onnxruntime's quantiser with the same configuration")
        setups = []
        for tool, (name, source) in zip(tools, _graph_forms(graph, self.plan.shape), strict=True):
            settings = {"is_fused": source.kind == "fused"}
            artifact = Blueprint("optimum-dynamic", settings, {"graph": source}, packages)
            setups.append(Setup(f"{name}, {tool}", "onnxruntime", artifact))
        label = f"optimum-onnx dynamic INT8, {profile}"
        return Competitor(f"ort-dynamic-{profile}", label, Group.OPTIMUM, profile, tuple(setups), self.checkpoint(task))

    def _static(self, task: Task, profile: str, graph: Blueprint) -> Competitor:
        checkpoint = self.checkpoint(task)
        setups = tuple(
            Setup(
                f"QDQ, {name}",
                "onnxruntime",
                Blueprint(
                    "stock-static",
                    {"operators": operators, **self._calibration_settings()},
                    {"graph": graph, "checkpoint": checkpoint},
                    _ONNXRUNTIME,
                ),
            )
            for name, operators in (("MatMul only", ["MatMul"]), ("default operators", None))
        )
        label = f"onnxruntime static INT8, {profile}"
        return Competitor(f"ort-static-{profile}", label, Group.ONNXRUNTIME, profile, setups, checkpoint)

    def _openvino(self, cell: Cell, profile: str, graph: Blueprint) -> Competitor:
        checkpoint = self.checkpoint(cell.task)
        origins = ("onnx", "pytorch") if profile == FULL else ("onnx",)
        shapes: tuple[list[int] | None, ...] = (None, [cell.batch, cell.tokens])
        setups = []
        for origin, shape, precision in itertools.product(origins, shapes, (None, "f32")):
            artifact = Blueprint(
                "openvino",
                {"origin": origin, **self._calibration_settings()},
                {"checkpoint": checkpoint, **({"graph": graph} if origin == "onnx" else {})},
                _OPENVINO,
            )
            form = "fixed" if shape else "dynamic"
            name = f"from {origin}, {form} shapes, {precision or 'its default precision'}"
            setups.append(Setup(name, "openvino", artifact, {"shape": shape, "precision": precision}))
        label = f"OpenVINO + NNCF INT8, {profile}"
        return Competitor(f"openvino-{profile}", label, Group.OPENVINO, profile, tuple(setups), checkpoint)

    def _dynbert(self, task: Task, profile: str) -> Competitor:
        checkpoint = self.checkpoint(task)
        label = f"dynbert INT8, {profile}"
        lengths, options = profile, {"profile": profile}
        if profile == ANYTIME:
            label += f" with the lengths of {FAST}"
            lengths, options = FAST, {"length_config": str(self.plan.fast)}
        setups = (Setup("dynbert.load(...).run", "dynbert", self._bundle(checkpoint), options),)
        return Competitor(own_name(profile), label, None, lengths, setups, checkpoint)

    def _random_checkpoint(self, shape: Shape, task: Task) -> Blueprint:
        settings = {
            "task": task.value,
            "layers": shape.layers,
            "hidden": shape.hidden,
            "heads": shape.heads,
            "intermediate": shape.intermediate,
            "vocabulary": shape.vocabulary,
            "positions": max(512, self.plan.max_length),
            "seed": _SEED,
        }
        return Blueprint("checkpoint", settings, packages=("torch", "transformers"))

    def _bundle(self, checkpoint: Blueprint) -> Blueprint:
        is_random = checkpoint.kind == "checkpoint"
        settings = {
            "profiles": {FAST: str(self.plan.fast), BALANCED: str(self.plan.balanced)},
            "gates": _GATES_OF_RANDOM_WEIGHTS if is_random else None,
            **self._calibration_settings(),
        }
        return Blueprint("bundle", settings, {"checkpoint": checkpoint}, _EXPORTER)

    def _calibration_settings(self) -> dict[str, Any]:
        """Return what decides the inputs that dynbert and the peers calibrate on."""
        return {
            "calibration": self.choices.calibration,
            "samples": _CALIBRATION_SAMPLES,
            "max_length": self.plan.max_length,
            "seed": _SEED,
        }

    def _lengths_text(self, profile: str) -> str | None:
        lengths = self.plan.lengths[profile]
        return None if lengths is None else str(lengths)

    def _graph(self, task: Task, profile: str) -> Blueprint:
        """Return the graph that peers start from; at full length it owes nothing to dynbert."""
        checkpoint = self.checkpoint(task)
        if profile == FULL:
            return self._optimum_export(checkpoint, task)
        return Blueprint("source", {"profile": profile}, {"bundle": self._bundle(checkpoint)})

    @staticmethod
    def _optimum_export(checkpoint: Blueprint, task: Task) -> Blueprint:
        return Blueprint("optimum-export", {"task": task.value}, {"checkpoint": checkpoint}, _OPTIMUM)


def _graph_forms(graph: Blueprint, shape: Shape) -> tuple[tuple[str, Blueprint], ...]:
    """Return a graph as it was exported, and after onnxruntime's optimizer for transformers."""
    settings = {"heads": shape.heads, "hidden": shape.hidden}
    fused = Blueprint("fused", settings, {"graph": graph}, _ONNXRUNTIME)
    return (("graph as exported", graph), ("graph from onnxruntime's transformer optimizer", fused))


def _fused_or_not(graph: Blueprint, shape: Shape) -> tuple[Setup, ...]:
    return tuple(Setup(name, "onnxruntime", form) for name, form in _graph_forms(graph, shape))
