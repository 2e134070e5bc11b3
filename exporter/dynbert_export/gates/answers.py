"""Agreement: does an INT8 graph answer what the fp32 graph of the same profile answers, on texts that were held out?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dynbert.manifest import FULL, Agreement, Precision, Quality
from dynbert_export.errors import GateError
from dynbert_export.evaluation.agreement import Outputs
from dynbert_export.evaluation.running import largest_difference, run_graph

if TYPE_CHECKING:
    from pathlib import Path

    from dynbert_export.data.prepared import EvaluationData
    from dynbert_export.evaluation.agreement import AnswerMeasure
    from dynbert_export.variants import Variant

__all__ = ["AnswerGate", "Answers", "References"]


@dataclass(frozen=True)
class Answers:
    """What the answers of graphs say of them, by file."""

    agreements: dict[Path, Agreement]
    """INT8 graphs against the fp32 graph of the same profile."""
    qualities: dict[Path, Quality]
    """Every profile but ``anytime`` against the fp32 graph that drops nothing."""
    misses: tuple[str, ...] = ()
    """The INT8 graphs that agree less with fp32 than their gate asks for, each with its agreement."""

    def joined(self, other: Answers) -> Answers:
        """Return what is said of the graphs of both."""
        return Answers(self.agreements | other.agreements, self.qualities | other.qualities, self.misses + other.misses)


References: TypeAlias = Mapping[str, Sequence[Outputs]]
"""Variant's name -> what its fp32 graph answers to each held-out text."""


@dataclass(frozen=True)
class AnswerGate:
    """What the graphs of an export are asked, how their answers are compared, and how much INT8 must agree."""

    variants: tuple[Variant, ...]
    evaluation: EvaluationData
    measure: AnswerMeasure
    least: float
    """Agreement with fp32 that every INT8 graph must have."""
    always_keep_cls_token: bool
    """As the graphs were traced."""
    threads: int | None
    """Threads that compute; None for the usable cores."""

    def answer(self, files: Mapping[str, Path]) -> References:
        """Run the graphs of one precision on the held-out texts.

        Args:
            files: Variant's name -> graph.

        Returns:
            Variant's name -> outputs, one mapping a text.
        """
        return {
            variant.name: run_graph(
                files[variant.name],
                self.evaluation.feeds,
                config=variant.input_config,
                always_keep_cls_token=self.always_keep_cls_token,
                threads=self.threads,
                keep=self.measure.compared_part,
            )
            for variant in self.variants
        }

    def judge(self, files: Mapping[str, Path], precision: Precision, references: References) -> Answers:
        """Compare the answers of one precision's graphs on the held-out texts.

        Args:
            files: Variant's name -> graph.
            precision: Of the graphs.
            references: What the fp32 graphs answer.

        Returns:
            What was found. Nothing is raised where a gate is missed: see ``check``.
        """
        agreements: dict[Path, Agreement] = {}
        qualities: dict[Path, Quality] = {}
        misses: list[str] = []
        measure, feeds = self.measure, self.evaluation.feeds
        answers = references if precision is Precision.FP32 else self.answer(files)
        for variant in self.variants:
            path, own, outputs = files[variant.name], references[variant.name], answers[variant.name]
            if precision is Precision.INT8:
                agreement = measure.agreement(own, outputs, feeds)
                agreements[path] = Agreement(
                    inputs=self.evaluation.samples,
                    max_abs_difference=largest_difference(own, outputs, feeds),
                    metric=measure.metric.value,
                    value=agreement,
                )
                if not agreement >= self.least:
                    misses.append(f"{path.name} {agreement:.4f}")
            if not variant.is_anytime:
                qualities[path] = Quality(
                    metric=measure.metric.value,
                    value=measure.agreement(references[FULL], outputs, feeds),
                    data=self.evaluation.name,
                    samples=self.evaluation.samples,
                )
        return Answers(agreements, qualities, tuple(misses))

    def check(self, answers: Answers, *, remark: str = "") -> None:
        """Hold the INT8 graphs to the gate.

        Args:
            answers: Of the INT8 graphs.
            remark: What was done to hold the gate, for the message.

        Raises:
            GateError: If an INT8 graph agrees less with fp32 than the gate asks for; names all that do.
        """
        if not answers.misses:
            return
        raise GateError(
            f"INT8 graphs must agree with fp32 by at least {self.least:g} "
            f"({self.measure.metric.value} on {self.evaluation.name}), got {', '.join(answers.misses)}{remark}. "
            "Calibrate on texts of your own (--calibration), lower the gate in a recipe, or export fp32 "
            "(--quantize none)."
        )
