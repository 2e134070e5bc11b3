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

    from dynbert_export.job import Job

__all__ = ["Answers", "References", "answer", "check_answers", "judge"]


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


def answer(job: Job, files: Mapping[str, Path]) -> References:
    """Run the graphs of one precision on the held-out texts.

    Args:
        job: The export.
        files: Variant's name -> graph.

    Returns:
        Variant's name -> outputs, one mapping a text.
    """
    return {
        variant.name: run_graph(
            files[variant.name],
            job.data.evaluation.feeds,
            config=variant.input_config,
            always_keep_cls_token=job.config.always_keep_cls_token,
            threads=job.config.threads,
            keep=job.measure.compared_part,
        )
        for variant in job.variants
    }


def judge(job: Job, files: Mapping[str, Path], precision: Precision, references: References) -> Answers:
    """Compare the answers of one precision's graphs on the held-out texts.

    Args:
        job: The export.
        files: Variant's name -> graph.
        precision: Of the graphs.
        references: What the fp32 graphs answer.

    Returns:
        What was found. Nothing is raised where a gate is missed: see ``check_answers``.
    """
    agreements: dict[Path, Agreement] = {}
    qualities: dict[Path, Quality] = {}
    misses: list[str] = []
    measure, feeds = job.measure, job.data.evaluation.feeds
    least = job.config.gates.int8_min_agreement(measure.metric)
    answers = references if precision is Precision.FP32 else answer(job, files)
    for variant in job.variants:
        path, own, outputs = files[variant.name], references[variant.name], answers[variant.name]
        if precision is Precision.INT8:
            agreement = measure.agreement(own, outputs, feeds)
            agreements[path] = Agreement(
                inputs=job.data.evaluation.samples,
                max_abs_difference=largest_difference(own, outputs, feeds),
                metric=measure.metric.value,
                value=agreement,
            )
            if not agreement >= least:
                misses.append(f"{path.name} {agreement:.4f}")
        if not variant.is_anytime:
            qualities[path] = Quality(
                metric=measure.metric.value,
                value=measure.agreement(references[FULL], outputs, feeds),
                data=job.data.evaluation.name,
                samples=job.data.evaluation.samples,
            )
    return Answers(agreements, qualities, tuple(misses))


def check_answers(job: Job, answers: Answers, *, remark: str = "") -> None:
    """Hold the INT8 graphs to their gate.

    Args:
        job: The export.
        answers: Of the INT8 graphs.
        remark: What was done to hold the gate, for the message.

    Raises:
        GateError: If an INT8 graph agrees less with fp32 than its gate asks for; names all that do.
    """
    if not answers.misses:
        return
    metric = job.measure.metric
    raise GateError(
        f"INT8 graphs must agree with fp32 by at least {job.config.gates.int8_min_agreement(metric):g} "
        f"({metric.value} on {job.data.evaluation.name}), got {', '.join(answers.misses)}{remark}. Calibrate on texts "
        "of your own (--calibration), lower the gate in a recipe, or export fp32 (--quantize none)."
    )
