"""From the fp32 anytime graph to the one that runs as INT8: smoothing, ranges, lowering, and what is chosen of each.

Neural Compressor smooths, quantises the weights and writes the QDQ form. The ranges of the activations are ours
(``ranges.py``), so it calibrates on one input only.

Choices (the way to a range, how much to smooth) are made by trying: ranges from one half of the calibration inputs,
judged on the other half, and the other way round. Judged on the same inputs, ways that clip look better than they are:
all-MiniLM-L6-v2, built-in texts, ``percentile 99.999`` then has less error than ``minmax`` and on news more than twice
as much. For the same reason a way that clips must have clearly less error to win.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dynbert.inputs import INPUT_IDS
from dynbert.manifest import Target, Task
from dynbert_export.agreement import measure_agreement
from dynbert_export.errors import ExportError
from dynbert_export.graph.freeze import task_outputs
from dynbert_export.graph.names import LENGTH_INPUT
from dynbert_export.graph.smoothing import fold_smoothing
from dynbert_export.lower import lower
from dynbert_export.options import AUTO, NONE, CalibrationMethod, QuantizeOption
from dynbert_export.quantize import quantized_activations
from dynbert_export.ranges import METHODS, apply_ranges, observe
from dynbert_export.trial import opened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from dynbert_export.agreement import Outputs
    from dynbert_export.feeds import Feed
    from dynbert_export.job import Job
    from dynbert_export.progress import Progress
    from dynbert_export.quantize import QuantizationEngine
    from dynbert_export.ranges import Histogram, Observation

__all__ = ["Quantized", "full_length_feeds", "measure_error", "quantize"]

_JUDGED_INPUTS = 8
"""Inputs of each half that a choice is judged on, at most: 1024 tokens, under a second for a MiniLM."""
_CLEARLY_LESS = 0.9
"""What clips must have at most this share of the error of what stands before it."""
_ALPHAS = (0.7, 0.8, 0.5, None)
"""Tried where ``smooth_quant_alpha`` is ``auto``; None is no smoothing."""
_METHODS_OF = {
    CalibrationMethod.AUTO: tuple(METHODS),
    CalibrationMethod.MINMAX: ("minmax",),
    CalibrationMethod.PERCENTILE: ("percentile 99.999", "percentile 99.99"),
    CalibrationMethod.ENTROPY: ("entropy",),
}


@dataclass(frozen=True)
class Quantized:
    """An anytime graph in INT8, and what it was made of."""

    graph: ir.Model
    """One INT8 operator a product."""
    source: ir.Model
    """The fp32 graph, smoothed where it was: equal products under equal names, with float weights."""


@dataclass(frozen=True)
class _Smoothed:
    """What one smoothing leads to."""

    alpha: float | None
    """None: not smoothed."""
    source: ir.Model
    qdq: ir.Model
    """Of the source; its ranges are to be replaced."""
    halves: tuple[Observation, Observation]


def quantize(job: Job, anytime: ir.Model, engine: QuantizationEngine, progress: Progress) -> Quantized:
    """Return the anytime graph in INT8.

    Args:
        job: The export.
        anytime: The fp32 graph; not changed.
        engine: The quantiser.
        progress: Told what was chosen, where there was a choice.

    Returns:
        The graph with one INT8 operator a product.

    Raises:
        ExportError: If the engine fails, or leaves a product that cannot be lowered.
    """
    if job.config.quantize is QuantizeOption.DYNAMIC:
        reduce_range = job.target is Target.AVX2
        return Quantized(lower(engine.quantize_dynamic(anytime, reduce_range=reduce_range)), anytime)
    candidates = _candidates(job)
    errors: dict[str, float] = {}
    best: tuple[float, _Smoothed, str] | None = None
    for alpha, methods in candidates.items():
        smoothed = _smooth(job, anytime, engine, alpha)
        for method in methods:
            is_only = len(candidates) == len(methods) == 1
            error = 0.0 if is_only else _cross_error(job, smoothed, method)
            errors[_describe(alpha, method)] = error
            if best is None or error < best[0] * _CLEARLY_LESS:
                best = error, smoothed, method
    if best is None:  # pragma: no cover -- the options leave one way at least
        raise ExportError("INT8 must be tried in at least one way, got none.")
    _, smoothed, method = best
    if len(errors) > 1:
        listed = ", ".join(f"{name} {error:.3g}" for name, error in errors.items())
        progress.note(
            f"Activations quantised with {_describe(smoothed.alpha, method)}: chosen by the error of answers to "
            f"calibration texts that the ranges do not come from ({listed})."
        )
    first, second = smoothed.halves
    histograms = {name: each.merged(second.histograms[name]) for name, each in first.histograms.items()}
    return Quantized(_lower(smoothed.qdq, histograms, method), smoothed.source)


def _candidates(job: Job) -> dict[float | None, tuple[str, ...]]:
    """Return the ways to try: how much to smooth, None for not at all -> ways to a range."""
    methods = _METHODS_OF[job.config.calibration_method]
    alpha = job.config.smooth_quant_alpha
    alphas = {AUTO: _ALPHAS, NONE: (None,)}[alpha] if isinstance(alpha, str) else (alpha,)
    return dict.fromkeys(alphas, methods)


def _describe(alpha: float | None, method: str) -> str:
    return f"{method} ranges, " + ("no smoothing" if alpha is None else f"smoothing {alpha:g}")


def _smooth(job: Job, anytime: ir.Model, engine: QuantizationEngine, alpha: float | None) -> _Smoothed:
    """Smooth, quantise the weights, and observe the activations of both halves of the calibration inputs."""
    feeds = full_length_feeds(job)
    source = anytime if alpha is None else fold_smoothing(engine.smooth(anytime, feeds, alpha=alpha))
    qdq = engine.quantize_static(source, feeds[:1], reduce_range=job.target is Target.AVX2)
    tensors = quantized_activations(source)
    halves = [
        observe(source, tensors, half, keep=_JUDGED_INPUTS, threads=job.config.threads) for half in _halves(feeds)
    ]
    return _Smoothed(alpha, source, qdq, (halves[0], halves[1]))


def full_length_feeds(job: Job) -> list[Feed]:
    """Return the calibration inputs for the anytime graph that drop nothing: ranges must hold for every token.

    Args:
        job: The export.

    Returns:
        The inputs, with the length config.
    """
    return [
        {**feed, LENGTH_INPUT: np.full(job.spec.num_layers, feed[INPUT_IDS].shape[-1], dtype=np.int64)}
        for feed in job.texts.calibration
    ]


def _halves(feeds: Sequence[Feed]) -> tuple[Sequence[Feed], Sequence[Feed]]:
    """Return every other input, and the rest; the same twice where there is only one."""
    return feeds[::2], feeds[1::2] or feeds


def _cross_error(job: Job, smoothed: _Smoothed, method: str) -> float:
    """Return the mean error of each half of the inputs, answered with ranges from the other half."""
    halves = _halves(full_length_feeds(job))
    errors = []
    for own, feeds, other in zip(smoothed.halves, halves, reversed(smoothed.halves), strict=True):
        graph = _lower(smoothed.qdq, other.histograms, method)
        errors.append(measure_error(job, graph, own.outputs, feeds[: len(own.outputs)]))
    return float(np.mean(errors))


def _lower(qdq: ir.Model, histograms: Mapping[str, Histogram], method: str) -> ir.Model:
    return lower(apply_ranges(qdq, {name: METHODS[method](each) for name, each in histograms.items()}))


def measure_error(job: Job, graph: ir.Model, references: Sequence[Outputs], feeds: Sequence[Feed]) -> float:
    """Return how far a graph's answers are from the reference's, without the steps that agreement has.

    Args:
        job: The export.
        graph: An anytime graph.
        references: What is wanted for each feed.
        feeds: Inputs of the graph, without padding.

    Returns:
        Feature extraction: 1 - the mean cosine of embeddings. Other tasks: the squared error of the outputs next to
        their squares. Infinite where an output is not finite.
    """
    names = [name for name in task_outputs(graph) if name in references[0]]
    with opened(graph, threads=job.config.threads) as run:
        outputs = [run(feed) for feed in feeds]
    if job.checkpoint.task is Task.FEATURE_EXTRACTION:
        agreement = measure_agreement(job.checkpoint.task, references, outputs, feeds, pooling=job.checkpoint.pooling)
        return math.inf if math.isnan(agreement) else 1.0 - agreement
    pairs = [(wanted[name], got[name]) for wanted, got in zip(references, outputs, strict=True) for name in names]
    wanted = sum(float(np.square(each, dtype=np.float64).sum()) for each, _ in pairs)
    error = sum(float(np.square(got - each, dtype=np.float64).sum()) for each, got in pairs)
    return error / wanted if math.isfinite(error) and wanted > 0 else math.inf
