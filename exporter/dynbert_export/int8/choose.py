"""From the fp32 anytime graph to the one that runs as INT8: smoothing, ranges, lowering, embeddings.

Neural Compressor smooths, quantises the weights and writes the QDQ form. The ranges of the activations are ours
(``ranges.py``), so it calibrates on one input only. Products of queries and keys become INT8 as well (``scores.py``),
unless answers show that they should not.

Choices (the way to a range, how much to smooth) are made by trying, see ``calibration.py``; a way that clips must have
clearly less error to win.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert_export.errors import ExportError
from dynbert_export.evaluation.trial import opened
from dynbert_export.int8.embeddings import quantize_embeddings
from dynbert_export.int8.lower import lower
from dynbert_export.int8.neural_compressor import quantized_activations
from dynbert_export.int8.ranges import METHODS, apply_ranges, make_ranges_inputs, minmax, observe, range_inputs
from dynbert_export.int8.scores import find_scores, quantize_scores
from dynbert_export.int8.smoothing import fold_smoothing
from dynbert_export.options.vocabularies import AUTO, NONE, CalibrationMethod

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import onnx_ir as ir

    from dynbert_export.int8.calibration import Calibration
    from dynbert_export.int8.neural_compressor import QuantizationEngine
    from dynbert_export.int8.ranges import Histogram, Observation, Range
    from dynbert_export.progress import Progress
    from dynbert_export.variants import GraphSet

__all__ = ["Quantized", "Ways", "list_ways", "quantize_dynamic", "quantize_static"]

_CLEARLY_LESS = 0.9
"""A way must have less than this share of the error of the best before it: the plainest come first."""
_SCORES_MAY_ADD = 1.25
"""INT8 scores make a graph 5 % faster (exporter/README.md, "What each rewrite buys"), and may raise its error to this
multiple: 1.02 for all-MiniLM-L6-v2, by the errors that ``_with_int8_scores`` compares."""
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
    """One INT8 operator a product, and INT8 embeddings."""
    source: ir.Model
    """The fp32 graph, smoothed where it was: equal products under equal names, with float weights."""
    scores: tuple[str, ...] = ()
    """Names of the products of queries and keys that are INT8; they have no weights."""


@dataclass(frozen=True)
class Ways:
    """What is tried: each way to smooth with each way to find ranges, the plainest first."""

    alphas: tuple[float | None, ...]
    """None for no smoothing."""
    methods: tuple[str, ...]
    """Keys of ``METHODS``."""


def list_ways(method: CalibrationMethod, alpha: float | str) -> Ways:
    """Return the ways that two options leave open.

    Args:
        method: The option ``calibration_method``.
        alpha: The option ``smooth_quant_alpha``.

    Returns:
        At least one way.
    """
    return Ways({AUTO: _ALPHAS, NONE: (None,)}[alpha] if isinstance(alpha, str) else (alpha,), _METHODS_OF[method])


@dataclass(frozen=True)
class _Trial:
    """What one smoothing leads to."""

    alpha: float | None
    """None: not smoothed."""
    source: ir.Model
    qdq: ir.Model
    """Of the source; its ranges are to be replaced."""
    observed: tuple[Observation, Observation]
    """Of each half of the calibration inputs."""


def quantize_dynamic(
    anytime: ir.Model, graph_sets: Iterable[GraphSet], engine: QuantizationEngine
) -> dict[GraphSet, Quantized]:
    """Return the anytime graph in INT8 that finds its ranges at run time.

    Args:
        anytime: The fp32 graph; not changed.
        graph_sets: What to make.
        engine: The quantiser.

    Returns:
        Set -> the graph.

    Raises:
        ExportError: If the engine fails, or leaves a product that cannot be lowered.
    """
    return {
        graph_set: Quantized(
            quantize_embeddings(lower(engine.quantize_dynamic(anytime, reduce_range=graph_set.has_reduced_range))),
            anytime,
        )
        for graph_set in graph_sets
    }


def quantize_static(
    anytime: ir.Model,
    graph_sets: Iterable[GraphSet],
    ways: Ways,
    calibration: Calibration,
    engine: QuantizationEngine,
    progress: Progress,
) -> dict[GraphSet, Quantized]:
    """Return the anytime graph in INT8 with the ranges of the best way.

    Args:
        anytime: The fp32 graph; not changed.
        graph_sets: What to make.
        ways: What to try.
        calibration: What ranges come from, and ways are judged by.
        engine: The quantiser.
        progress: Told what was chosen, where there was a choice.

    Returns:
        Set -> the graph.

    Raises:
        ExportError: If the engine fails, or leaves a product that cannot be lowered.
    """
    feeds = calibration.feeds
    sources = {
        alpha: anytime if alpha is None else fold_smoothing(engine.smooth(anytime, feeds, alpha=alpha))
        for alpha in ways.alphas
    }
    return {graph_set: _choose(graph_set, sources, ways, calibration, engine, progress) for graph_set in graph_sets}


def _choose(
    graph_set: GraphSet,
    sources: Mapping[float | None, ir.Model],
    ways: Ways,
    calibration: Calibration,
    engine: QuantizationEngine,
    progress: Progress,
) -> Quantized:
    """Return the static graph of the best way to smooth and to find ranges."""
    errors: dict[str, float] = {}
    best: tuple[float, _Trial, str] | None = None
    for alpha, source in sources.items():
        trial = _quantize_source(graph_set, source, alpha, calibration, engine)
        is_only = len(sources) == len(ways.methods) == 1
        found = dict.fromkeys(ways.methods, 0.0) if is_only else _cross_errors(trial, ways, calibration)
        for method, error in found.items():
            errors[_describe(alpha, method)] = error
            if best is None or error < best[0] * _CLEARLY_LESS:
                best = error, trial, method
    if best is None:
        raise ExportError("INT8 must be tried in at least one way, got none.")
    _, trial, method = best
    if len(errors) > 1:
        listed = ", ".join(f"{name}: {error:.3g}" for name, error in errors.items())
        progress.note(
            f"INT8 activations have {_describe(trial.alpha, method)}, chosen by the error of answers to "
            f"calibration texts that the ranges do not come from ({listed})."
        )
    first, second = trial.observed
    histograms = {name: each.merged(second.histograms[name]) for name, each in first.histograms.items()}
    lowered = lower(apply_ranges(trial.qdq, _ranges(trial, histograms, method)))
    graph, scores = _with_int8_scores(trial, lowered, histograms, calibration, progress)
    return Quantized(quantize_embeddings(graph), trial.source, scores)


def _with_int8_scores(
    trial: _Trial,
    lowered: ir.Model,
    histograms: Mapping[str, Histogram],
    calibration: Calibration,
    progress: Progress,
) -> tuple[ir.Model, tuple[str, ...]]:
    """Return the graph with INT8 scores and their products' names, unless they cost too much of its accuracy."""
    ranges = {
        product: (minmax(histograms[operands.query]), minmax(histograms[operands.key]))
        for product, operands in find_scores(trial.source).items()
        if operands.query in histograms
    }
    if not ranges:
        return lowered, ()
    quantized = quantize_scores(lowered, ranges)
    in_fp32, in_int8 = (_error_of(trial, graph, calibration) for graph in (lowered, quantized))
    if in_int8 > in_fp32 * _SCORES_MAY_ADD:
        progress.note(
            f"Attention scores stay fp32, chosen by the error of answers to calibration texts "
            f"(fp32: {in_fp32:.3g}, INT8: {in_int8:.3g})."
        )
        return lowered, ()
    return quantized, tuple(ranges)


def _error_of(trial: _Trial, graph: ir.Model, calibration: Calibration) -> float:
    """Return the mean error of a graph on what both halves of the inputs are judged on."""
    measure = calibration.measure
    with opened(graph, threads=calibration.threads) as run:
        errors = [
            measure.error(own.outputs, map(run, half.judged), half.judged)
            for own, half in zip(trial.observed, calibration.halves, strict=True)
        ]
    return sum(errors) / len(errors)


def _describe(alpha: float | None, method: str) -> str:
    return f"{method} ranges, " + ("no smoothing" if alpha is None else f"smoothing {alpha:g}")


def _quantize_source(
    graph_set: GraphSet, source: ir.Model, alpha: float | None, calibration: Calibration, engine: QuantizationEngine
) -> _Trial:
    """Quantise the weights, and observe the activations of both halves of the calibration inputs."""
    qdq = engine.quantize_static(source, calibration.feeds[:1], reduce_range=graph_set.has_reduced_range)
    tensors = list(quantized_activations(source))
    if not graph_set.has_reduced_range:  # scores are INT8 only where a product of full range is exact
        tensors += dict.fromkeys(name for operands in find_scores(source).values() for name in operands)
    first, second = (
        observe(source, tensors, half.inputs, keep=len(half.judged), threads=calibration.threads)
        for half in calibration.halves
    )
    return _Trial(alpha, source, qdq, (first, second))


def _cross_errors(trial: _Trial, ways: Ways, calibration: Calibration) -> dict[str, float]:
    """Return each method's mean error of each half of the inputs, answered with ranges from the other half."""
    errors = dict.fromkeys(ways.methods, 0.0)
    with opened(lower(make_ranges_inputs(trial.qdq)), threads=calibration.threads) as run:
        for method in ways.methods:
            for own, half, other in zip(trial.observed, calibration.halves, reversed(trial.observed), strict=True):
                constants = range_inputs(_ranges(trial, other.histograms, method))
                judged = [{**feed, **constants} for feed in half.judged]
                error = calibration.measure.error(own.outputs, map(run, judged), judged)
                errors[method] += error / len(trial.observed)
    return errors


def _ranges(trial: _Trial, histograms: Mapping[str, Histogram], method: str) -> dict[str, Range]:
    return {name: METHODS[method](histograms[name]) for name in quantized_activations(trial.source)}
