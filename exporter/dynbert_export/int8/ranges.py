"""Ranges of activations: streamed from calibration inputs, chosen by a method, written into a QDQ graph.

Neural Compressor's percentile and entropy calibrations keep every activation of every sample: more than 100 GB for a
BERT. Here a tensor has a ``Histogram`` of fixed size instead. Its range is a power of two that doubles as larger
values come, two old bins then making a new one, as in TensorRT's and PyTorch's histogram observers; because bin edges
are powers of two times whole numbers, the counts are the same in whatever order the inputs come.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import onnx_ir as ir

from dynbert_export.errors import ExportError
from dynbert_export.evaluation.trial import opened
from dynbert_export.graph.editing import add_initializer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from dynbert_export.data.feeds import Feed
    from dynbert_export.evaluation.agreement import Outputs

__all__ = [
    "METHODS",
    "Histogram",
    "Observation",
    "Range",
    "apply_ranges",
    "make_ranges_inputs",
    "minmax",
    "observe",
    "range_inputs",
]

BINS = 8192
"""At least 2048 of them lie on the longer side of the values, eight for each of the 256 steps of a u8."""

_HALF = BINS // 2
_LEVELS = 256
_ENTROPY_CANDIDATES = 64
"""Ends that are tried on each side; a step is then 1/64 of that side of the range."""
_NEXT_TO_NOTHING = 1e-4
"""Values that a bin is taken to hold where quantisation leaves none: a divergence would be infinite (as in MXNet)."""
_SMALLEST_EXPONENT = -100
"""Numbers below 2**-100 are all zero: no scale could be made for a range of them."""


class Range(NamedTuple):
    """Values that a u8 shall represent; those outside become the nearest end."""

    low: float
    high: float

    def scale_and_zero_point(self) -> tuple[np.float32, np.uint8]:
        """Return QuantizeLinear's constants: u8 over the range widened to hold zero, which is then exact.

        Returns:
            The scale, positive, and the zero point.
        """
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        scale = np.float32((high - low) / (_LEVELS - 1))
        if not scale > 0:  # nothing but zeros: any scale will do
            return np.float32(1.0), np.uint8(0)
        return scale, np.uint8(np.clip(round(-low / float(scale)), 0, _LEVELS - 1))


class Histogram:
    """What is kept of a tensor: its ends, and ``BINS`` counts over ``[-2**exponent, 2**exponent)``."""

    def __init__(self) -> None:
        self.minimum = math.inf
        self.maximum = -math.inf
        self.exponent = _SMALLEST_EXPONENT
        self.counts: NDArray[np.int64] = np.zeros(BINS, dtype=np.int64)

    @property
    def width(self) -> float:
        """Width of a bin, a power of two."""
        return math.ldexp(1.0, self.exponent) / _HALF

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values.

        Args:
            values: Any shape, not empty.

        Raises:
            ExportError: If one is not finite.
        """
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ExportError(
                f"Activations must be finite on the calibration texts, got {low:g} to {high:g}. "
                "Check the checkpoint, or use --quantize none."
            )
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.widen(math.frexp(max(-low, high, 0.0))[1])  # frexp: every value is below 2**exponent
        bins = np.floor(values.reshape(-1) * np.float32(1.0 / self.width)).astype(np.int64) + _HALF
        self.counts += np.bincount(bins, minlength=BINS)

    def widen(self, exponent: int) -> None:
        """Double the range until it is at least ``2**exponent``; the values that were counted stay counted.

        Args:
            exponent: Of the wanted range.
        """
        while self.exponent < exponent:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros(BINS, dtype=np.int64)
            if merged.any():
                self.counts[_HALF // 2 : _HALF // 2 + _HALF] = merged
                self.exponent += 1
            else:
                self.exponent = exponent

    def merged(self, other: Histogram) -> Histogram:
        """Return the histogram of the values of both.

        Args:
            other: Not changed, as this one.

        Returns:
            What one histogram would be that had been given all values.
        """
        both, added = Histogram(), Histogram()
        for target, source in ((both, self), (added, other)):
            target.exponent, target.counts = source.exponent, source.counts.copy()
            target.widen(max(self.exponent, other.exponent))
        both.counts += added.counts
        both.minimum, both.maximum = min(self.minimum, other.minimum), max(self.maximum, other.maximum)
        return both

    def edges(self) -> NDArray[np.float64]:
        """Return where bins begin and end, float64 ``[BINS + 1]``."""
        edges: NDArray[np.float64] = np.arange(-_HALF, _HALF + 1) * self.width
        return edges


def minmax(histogram: Histogram) -> Range:
    """Return the range of all values.

    Args:
        histogram: Of a tensor.

    Returns:
        The range.
    """
    return Range(histogram.minimum, histogram.maximum)


def percentile(histogram: Histogram, *, percent: float) -> Range:
    """Return the range that leaves out the outermost values of each tail, each tail apart.

    Args:
        histogram: Of a tensor.
        percent: Of the values, 99.99 for example, are at most the high end, and as many are at least the low end.

    Returns:
        The range, exact to a bin's width.
    """
    edges, counts = histogram.edges(), histogram.counts
    allowed = counts.sum() * (1.0 - percent / 100.0)
    below = np.concatenate([[0], np.cumsum(counts)])  # values under each edge
    low = edges[np.flatnonzero(below <= allowed)[-1]]
    high = edges[np.flatnonzero(below[-1] - below <= allowed)[0]]
    return Range(max(float(low), histogram.minimum), min(float(high), histogram.maximum))


def entropy(histogram: Histogram) -> Range:
    """Return the range whose 256 levels lose least information (Migacz 2017, "8-bit Inference with TensorRT", GTC).

    There, a symmetric threshold is chosen for the least Kullback-Leibler divergence between the clipped values and
    the same values quantised. Here each end is chosen so, the longer side's first, because a u8 range need not be
    symmetric; both ends stay on their side of zero.

    Args:
        histogram: Of a tensor.

    Returns:
        The range, its ends on bin edges but for the minimum and the maximum themselves.
    """
    occupied = np.flatnonzero(histogram.counts)
    start, end = min(int(occupied[0]), _HALF), max(int(occupied[-1]) + 1, _HALF)
    lows, highs = _candidates(start, _HALF), _candidates(end, _HALF)
    for is_high in (True, False) if end - _HALF >= _HALF - start else (False, True):
        tried = [(start, high) for high in highs] if is_high else [(low, end) for low in lows]
        divergences = [_divergence(histogram.counts, first, last) for first, last in tried]
        start, end = tried[int(np.argmin(divergences))]
    edges = histogram.edges()
    return Range(max(float(edges[start]), histogram.minimum), min(float(edges[end]), histogram.maximum))


def _candidates(outermost: int, zero: int) -> list[int]:
    """Return bin edges from the outermost to one near zero, the outermost first: it wins where all are equal."""
    steps = np.arange(_ENTROPY_CANDIDATES, 0, -1) / _ENTROPY_CANDIDATES
    return [zero + round((outermost - zero) * step) for step in steps]


def _divergence(counts: NDArray[np.int64], start: int, end: int) -> float:
    """Return the divergence of the values quantised within these bins from the values clipped to them."""
    inside = counts[start:end].astype(np.float64)
    if len(inside) < _LEVELS or not inside.any():
        return math.inf  # fewer bins than levels show nothing of what rounding loses
    clipped = inside.copy()
    clipped[0] += counts[:start].sum()
    clipped[-1] += counts[end:].sum()
    level = np.arange(len(inside)) * _LEVELS // len(inside)
    occupied = clipped > 0
    totals = np.bincount(level, weights=inside, minlength=_LEVELS)
    shares = totals / np.maximum(np.bincount(level, weights=occupied, minlength=_LEVELS), 1)
    expected = clipped[occupied] / clipped.sum()
    quantized = np.maximum(shares[level][occupied], _NEXT_TO_NOTHING) / inside.sum()
    return float((expected * np.log(expected / quantized)).sum())


METHODS: Mapping[str, Callable[[Histogram], Range]] = {
    "minmax": minmax,
    "percentile 99.999": lambda histogram: percentile(histogram, percent=99.999),
    "percentile 99.99": lambda histogram: percentile(histogram, percent=99.99),
    "entropy": entropy,
}
"""What a report calls a way to choose a range -> that way."""


@dataclass(frozen=True)
class Observation:
    """What one pass over the calibration inputs showed."""

    histograms: Mapping[str, Histogram]
    """By tensor."""
    outputs: tuple[Outputs, ...]
    """The graph's own outputs for the first inputs, one mapping an input."""


def observe(
    model: ir.Model, tensors: Sequence[str], feeds: Sequence[Feed], *, keep: int, threads: int | None
) -> Observation:
    """Run a graph on one input after the other, and keep a histogram of each of these tensors.

    Args:
        model: An fp32 graph; not changed.
        tensors: Names of values that nodes of the graph make.
        feeds: Inputs of the graph.
        keep: Inputs, the first ones, whose outputs are kept.
        threads: Threads that compute; None for the usable cores.

    Returns:
        The histograms, whose size does not depend on the inputs, and some outputs.

    Raises:
        ExportError: If a tensor holds a number that is not finite.
    """
    watched = model.clone()
    own = [value.name or "" for value in watched.graph.outputs]
    for value in [value for node in watched.graph for value in node.outputs if value.name in set(tensors) - set(own)]:
        value.type = value.type or ir.TensorType(ir.DataType.FLOAT)
        watched.graph.outputs.append(value)
    histograms = {name: Histogram() for name in tensors}
    outputs: list[Outputs] = []
    with opened(watched, threads=threads) as run:
        for feed in feeds:
            arrays = run(feed)
            for name, histogram in histograms.items():
                histogram.add(arrays[name])
            if len(outputs) < keep:
                outputs.append({name: arrays[name] for name in own})
    return Observation(histograms, tuple(outputs))


def apply_ranges(model: ir.Model, ranges: Mapping[str, Range]) -> ir.Model:
    """Give the activations of a QDQ graph these ranges; weights stay as they are.

    Args:
        model: The QDQ graph; not changed.
        ranges: By the name of what ``QuantizeLinear`` reads.

    Returns:
        The graph with other scales and zero points.

    Raises:
        ExportError: If a quantised activation has no range.
    """
    changed = model.clone()
    for node, name in _quantizers(changed):
        if name not in ranges:
            raise ExportError(
                f"Every quantised activation must have a range, got none for {name}. This is a fault of dynbert for "
                "this graph: use --quantize dynamic or none, and report it."
            )
        names, arrays = _constant_names(name), ranges[name].scale_and_zero_point()
        scale, zero_point = (
            add_initializer(changed.graph, each, np.array(array)) for each, array in zip(names, arrays, strict=True)
        )
        _replace_constants(node, scale, zero_point)
    return changed


def make_ranges_inputs(model: ir.Model) -> ir.Model:
    """Let a QDQ graph take the ranges of its activations as inputs, to try several with one session.

    Args:
        model: The QDQ graph; not changed.

    Returns:
        The graph with two inputs more for each quantised activation, which ``range_inputs`` gives.
    """
    changed = model.clone()
    for node, name in _quantizers(changed):
        scale, zero_point = (
            ir.Value(name=each, shape=ir.Shape([]), type=ir.TensorType(kind))
            for each, kind in zip(_constant_names(name), (ir.DataType.FLOAT, ir.DataType.UINT8), strict=True)
        )
        changed.graph.inputs.extend([scale, zero_point])
        _replace_constants(node, scale, zero_point)
    return changed


def range_inputs(ranges: Mapping[str, Range]) -> dict[str, NDArray[Any]]:
    """Return what a graph of ``make_ranges_inputs`` takes.

    Args:
        ranges: By the name of what ``QuantizeLinear`` reads.

    Returns:
        Input name -> scalar.
    """
    return {
        each: np.array(array)
        for name, found in ranges.items()
        for each, array in zip(_constant_names(name), found.scale_and_zero_point(), strict=True)
    }


def _quantizers(model: ir.Model) -> list[tuple[ir.Node, str]]:
    """Return every QuantizeLinear with the name of what it reads."""
    nodes = [node for node in model.graph if node.op_type == "QuantizeLinear"]
    return [(node, (node.inputs[0].name if node.inputs[0] else None) or "") for node in nodes]


def _constant_names(name: str) -> tuple[str, str]:
    return f"{name}/scale", f"{name}/zero_point"


def _replace_constants(quantizer: ir.Node, scale: ir.Value, zero_point: ir.Value) -> None:
    for node in (quantizer, *(use.node for use in quantizer.outputs[0].uses())):
        node.replace_input_with(1, scale)
        node.replace_input_with(2, zero_point)
