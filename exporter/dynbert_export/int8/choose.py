"""From the fp32 anytime graph to the one that runs as INT8: smoothing, ranges, lowering, embeddings.

Neural Compressor smooths, quantises the weights and writes the QDQ form. The ranges of the activations are ours
(``ranges.py``), so it calibrates on one input only. Products of queries and keys become INT8 as well (``scores.py``),
unless answers show that they should not.

Choices (the way to a range, how much to smooth) are made by trying: ranges from one half of the calibration inputs,
judged on the other half, and the other way round. Judged on the same inputs, ways that clip look better than they are:
all-MiniLM-L6-v2, built-in texts, ``percentile 99.999`` then has less error than ``minmax``, and on news twice as much.
For the same reason a way that clips must have clearly less error to win.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dynbert.inputs import INPUT_IDS, LENGTH_CONFIG, add_lengths
from dynbert.lengths import LengthConfig
from dynbert_export.errors import ExportError
from dynbert_export.evaluation.trial import opened
from dynbert_export.int8.embeddings import quantize_embeddings
from dynbert_export.int8.lower import lower
from dynbert_export.int8.neural_compressor import quantized_activations
from dynbert_export.int8.ranges import METHODS, apply_ranges, make_ranges_inputs, minmax, observe, range_inputs
from dynbert_export.int8.scores import find_scores, quantize_scores
from dynbert_export.int8.smoothing import fold_smoothing
from dynbert_export.options.vocabularies import AUTO, NONE, CalibrationMethod, QuantizeOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import onnx_ir as ir

    from dynbert_export.data.feeds import Feed
    from dynbert_export.int8.neural_compressor import QuantizationEngine
    from dynbert_export.int8.ranges import Histogram, Observation, Range
    from dynbert_export.job import Job
    from dynbert_export.progress import Progress
    from dynbert_export.variants import GraphSet

__all__ = ["Quantized", "full_length_feeds", "quantize"]

_JUDGED_INPUTS = 8
"""Inputs of each half that a choice is judged on, at most: 1024 tokens, under a second for a MiniLM."""
_JUDGED_FOR_PARTS = 2
"""Inputs of each half whose short parts it is judged on as well."""
_CLEARLY_LESS = 0.9
"""A candidate must have less than this share of the error of the best before it: the plainest come first."""
_SCORES_MAY_ADD = 1.25
"""INT8 scores make a graph 5 % faster, and may raise its error to this multiple: 1.02 for all-MiniLM-L6-v2."""
_SHORT_TOKENS = (2, 6, 20)
_PARTS = 4
"""Short parts of each length that a calibration input gives to the ranges. Measured on all-MiniLM-L6-v2, mean cosine
with and without: texts of 1 word 0.9957 and 0.9952, of 8 words 0.9977 and 0.9974 (worst 0.9955 and 0.9907), of 256
tokens 0.9962 both. Parts of 1 token made it worse (0.9934 for 256 tokens): what a lone token gives is an outlier to all
others. So did choosing the way to a range on whole inputs only, which took one that clips what short texts need."""
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
class _Trial:
    """What one smoothing leads to."""

    alpha: float | None
    """None: not smoothed."""
    source: ir.Model
    qdq: ir.Model
    """Of the source; its ranges are to be replaced."""
    halves: tuple[Observation, Observation]


def quantize(job: Job, anytime: ir.Model, engine: QuantizationEngine, progress: Progress) -> dict[GraphSet, Quantized]:
    """Return the anytime graph in INT8, once for each number range that the bundle's targets need.

    Args:
        job: The export.
        anytime: The fp32 graph; not changed.
        engine: The quantiser.
        progress: Told what was chosen, where there was a choice.

    Returns:
        Set -> the graph.

    Raises:
        ExportError: If the engine fails, or leaves a product that cannot be lowered.
    """
    if job.config.quantize is QuantizeOption.DYNAMIC:
        return {
            graph_set: _lower(engine.quantize_dynamic(anytime, reduce_range=graph_set.has_reduced_range), anytime)
            for graph_set in job.int8_sets
        }
    methods = _METHODS_OF[job.config.calibration_method]
    sources = _smooth(job, anytime, engine)
    return {graph_set: _choose(job, graph_set, sources, methods, engine, progress) for graph_set in job.int8_sets}


def _lower(quantized: ir.Model, source: ir.Model) -> Quantized:
    return Quantized(quantize_embeddings(lower(quantized)), source)


def _smooth(job: Job, anytime: ir.Model, engine: QuantizationEngine) -> dict[float | None, ir.Model]:
    """Return how much to smooth, in each way that is to be tried, None for not at all -> the fp32 graph."""
    alpha = job.config.smooth_quant_alpha
    alphas = {AUTO: _ALPHAS, NONE: (None,)}[alpha] if isinstance(alpha, str) else (alpha,)
    feeds = full_length_feeds(job)
    return {
        each: anytime if each is None else fold_smoothing(engine.smooth(anytime, feeds, alpha=each)) for each in alphas
    }


def _choose(
    job: Job,
    graph_set: GraphSet,
    sources: Mapping[float | None, ir.Model],
    methods: Sequence[str],
    engine: QuantizationEngine,
    progress: Progress,
) -> Quantized:
    """Return the static graph of the best way to smooth and to find ranges."""
    errors: dict[str, float] = {}
    best: tuple[float, _Trial, str] | None = None
    for alpha, source in sources.items():
        trial = _quantize_source(job, graph_set, source, engine, alpha)
        is_only = len(sources) == len(methods) == 1
        found = dict.fromkeys(methods, 0.0) if is_only else _cross_errors(job, trial, methods)
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
    first, second = trial.halves
    histograms = {name: each.merged(second.histograms[name]) for name, each in first.histograms.items()}
    lowered = lower(apply_ranges(trial.qdq, _ranges(trial, histograms, method)))
    graph, scores = _with_int8_scores(job, trial, lowered, histograms, progress)
    return Quantized(quantize_embeddings(graph), trial.source, scores)


def _with_int8_scores(
    job: Job, trial: _Trial, lowered: ir.Model, histograms: Mapping[str, Histogram], progress: Progress
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
    in_fp32, in_int8 = (_error_of(job, trial, graph) for graph in (lowered, quantized))
    if in_int8 > in_fp32 * _SCORES_MAY_ADD:
        progress.note(
            f"Attention scores stay fp32, chosen by the error of answers to calibration texts "
            f"(fp32: {in_fp32:.3g}, INT8: {in_int8:.3g})."
        )
        return lowered, ()
    return quantized, tuple(ranges)


def _error_of(job: Job, trial: _Trial, graph: ir.Model) -> float:
    """Return the mean error of a graph on what both halves of the inputs are judged on."""
    with opened(graph, threads=job.config.threads) as run:
        halves = zip(trial.halves, _halves(full_length_feeds(job)), strict=True)
        errors = []
        for own, feeds in halves:
            judged = _judged(feeds)
            errors.append(job.measure.error(own.outputs, map(run, judged), judged))
    return sum(errors) / len(errors)


def _describe(alpha: float | None, method: str) -> str:
    return f"{method} ranges, " + ("no smoothing" if alpha is None else f"smoothing {alpha:g}")


def _quantize_source(
    job: Job, graph_set: GraphSet, source: ir.Model, engine: QuantizationEngine, alpha: float | None
) -> _Trial:
    """Quantise the weights, and observe the activations of both halves of the calibration inputs."""
    feeds = full_length_feeds(job)
    qdq = engine.quantize_static(source, feeds[:1], reduce_range=graph_set.has_reduced_range)
    tensors = list(quantized_activations(source))
    if not graph_set.has_reduced_range:  # scores are INT8 only where a product of full range is exact
        tensors += dict.fromkeys(name for operands in find_scores(source).values() for name in operands)
    halves = []
    for half in _halves(feeds):
        inputs, judged = _with_short_parts(half)
        halves.append(observe(source, tensors, inputs, keep=judged, threads=job.config.threads))
    return _Trial(alpha, source, qdq, (halves[0], halves[1]))


def full_length_feeds(job: Job) -> list[Feed]:
    """Return the calibration inputs for the anytime graph that drop nothing: ranges must hold for every token.

    Args:
        job: The export.

    Returns:
        The inputs, with the length config.
    """
    everything = LengthConfig.everything(job.spec.num_layers)
    return [
        add_lengths(feed, everything, always_keep_cls_token=job.spec.always_keep_cls_token)
        for feed in job.data.calibration
    ]


def _halves(feeds: Sequence[Feed]) -> tuple[Sequence[Feed], Sequence[Feed]]:
    """Return every other input, and the rest; the same twice where there is only one."""
    return feeds[::2], feeds[1::2] or feeds


def _with_short_parts(feeds: Sequence[Feed]) -> tuple[list[Feed], int]:
    """Return inputs with short parts of each, and how many, the first ones, choices are judged on.

    Attention over few tokens gives wider ranges than means of many.
    """
    judged = [*feeds[:_JUDGED_INPUTS], *_short_parts(feeds[:_JUDGED_FOR_PARTS])]
    return [*judged, *feeds[_JUDGED_INPUTS:], *_short_parts(feeds[_JUDGED_FOR_PARTS:])], len(judged)


def _short_parts(feeds: Sequence[Feed]) -> list[Feed]:
    parts: list[Feed] = []
    for feed in feeds:
        last = feed[INPUT_IDS].shape[-1] - 1
        for tokens in (count for count in _SHORT_TOKENS if count < last):
            starts = np.linspace(1, last - tokens, _PARTS + 2, dtype=np.int64)[1:-1]
            parts += [_cut(feed, [0, *range(start, start + tokens), last]) for start in starts]
    return parts


def _cut(feed: Feed, positions: Sequence[int]) -> Feed:
    """Return an input of these tokens only, of which nothing is dropped."""
    rows = {name: array[..., positions] for name, array in feed.items() if name != LENGTH_CONFIG}
    return {**rows, LENGTH_CONFIG: np.full_like(feed[LENGTH_CONFIG], len(positions))}


def _cross_errors(job: Job, trial: _Trial, methods: Sequence[str]) -> dict[str, float]:
    """Return each method's mean error of each half of the inputs, answered with ranges from the other half."""
    errors = dict.fromkeys(methods, 0.0)
    with opened(lower(make_ranges_inputs(trial.qdq)), threads=job.config.threads) as run:
        for method in methods:
            for own, feeds, other in zip(
                trial.halves, _halves(full_length_feeds(job)), reversed(trial.halves), strict=True
            ):
                constants = range_inputs(_ranges(trial, other.histograms, method))
                judged = [{**feed, **constants} for feed in _judged(feeds)]
                errors[method] += job.measure.error(own.outputs, map(run, judged), judged) / len(trial.halves)
    return errors


def _judged(feeds: Sequence[Feed]) -> list[Feed]:
    inputs, count = _with_short_parts(feeds)
    return inputs[:count]


def _ranges(trial: _Trial, histograms: Mapping[str, Histogram], method: str) -> dict[str, Range]:
    return {name: METHODS[method](histograms[name]) for name in quantized_activations(trial.source)}
