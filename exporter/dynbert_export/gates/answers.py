"""Agreement: does an INT8 graph answer what the fp32 graph of the same profile answers, on texts that were held out?"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dynbert.manifest import FULL, Agreement, Precision, Quality
from dynbert_export.errors import GateError
from dynbert_export.evaluation.agreement import Outputs, compared_part, measure_agreement
from dynbert_export.evaluation.running import largest_difference, run_graph
from dynbert_export.tasks import metric_name

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
    keep = functools.partial(compared_part, job.checkpoint.task, mask_token_id=job.mask_token_id)
    return {
        variant.name: run_graph(
            files[variant.name],
            job.data.evaluation.feeds,
            config=variant.input_config,
            always_keep_cls_token=job.config.always_keep_cls_token,
            threads=job.config.threads,
            keep=keep,
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
    metric = metric_name(job.checkpoint.task, job.checkpoint.problem_type)
    least = job.config.gates.int8_min_agreement(job.checkpoint.task)
    answers = references if precision is Precision.FP32 else answer(job, files)
    for variant in job.variants:
        path, own, outputs = files[variant.name], references[variant.name], answers[variant.name]
        if precision is Precision.INT8:
            agreement = _agreement(job, own, outputs)
            agreements[path] = Agreement(
                inputs=job.data.evaluation.samples,
                max_abs_difference=largest_difference(own, outputs, job.data.evaluation.feeds),
                metric=metric,
                value=agreement,
            )
            if not agreement >= least:
                misses.append(f"{path.name} {agreement:.4f}")
        if not variant.is_anytime:
            qualities[path] = Quality(
                metric=metric,
                value=_agreement(job, references[FULL], outputs),
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
    task = job.checkpoint.task
    metric = metric_name(task, job.checkpoint.problem_type)
    raise GateError(
        f"INT8 graphs must agree with fp32 by at least {job.config.gates.int8_min_agreement(task):g} "
        f"({metric} on {job.data.evaluation.name}), got {', '.join(answers.misses)}{remark}. Calibrate on texts of "
        "your own (--calibration), lower the gate in a recipe, or export fp32 (--quantize none)."
    )


def _agreement(job: Job, reference: Sequence[Outputs], outputs: Sequence[Outputs]) -> float:
    return measure_agreement(
        job.checkpoint.task,
        reference,
        outputs,
        job.data.evaluation.feeds,
        pooling=job.checkpoint.pooling,
        problem_type=job.checkpoint.problem_type,
    )
