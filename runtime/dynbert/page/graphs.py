"""A bundle's graphs as the page shows them: how fast and how good each is, and how numbers are written."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dynbert.graph_rows import list_rows
from dynbert.manifest import FULL, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynbert.manifest import Evaluation, GraphEntry, Latency, Manifest, MetricValue

__all__ = [
    "NO_NUMBER",
    "GraphView",
    "Times",
    "column_of_milliseconds",
    "interval_text",
    "list_graphs",
    "milliseconds_text",
    "quality_text",
    "sentence_name",
]

NO_NUMBER = "\N{EN DASH}"
"""What stands in a cell for a number that there is none of."""

_TYPICAL_TOKENS = 128
"""The length that one number stands for where there is room for one alone: the measured one that is nearest to it."""
_COLOURS = 7
_HOLLOW = "hollow"
_SOLID = ("solid", "pale")


@dataclass(frozen=True)
class Times:
    """The latencies of the page, and where they are from."""

    machine: str
    """Name of the processor."""
    is_here: bool
    """Whether they were measured just now, on this machine; else when the bundle was made."""
    latencies: Mapping[str, tuple[Latency, ...]]
    """Graph's file -> its latencies, batch 1."""

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Input lengths in tokens that some graph was measured at, ascending."""
        return tuple(sorted({latency.tokens for of_graph in self.latencies.values() for latency in of_graph}))

    @cached_property
    def typical_tokens(self) -> int | None:
        """The length that stands for all where there is room for one; None where nothing was measured."""
        return min(self.lengths, key=lambda tokens: abs(tokens - _TYPICAL_TOKENS), default=None)

    @property
    def threads(self) -> tuple[int, ...]:
        """Numbers of threads that graphs were measured with."""
        return tuple(sorted({latency.threads for of_graph in self.latencies.values() for latency in of_graph}))

    def milliseconds(self, file: str, tokens: int | None) -> float | None:
        """Return a graph's latency.

        Args:
            file: The graph's.
            tokens: Length of the input.

        Returns:
            The median of one text; None where it was not measured.
        """
        found = (latency.median_ms for latency in self.latencies.get(file, ()) if latency.tokens == tokens)
        return next(found, None)


@dataclass(frozen=True)
class GraphView:
    """One graph as the page shows it."""

    entry: GraphEntry
    profile: str
    number_format: str
    """``fp32``, ``int8 vnni``."""
    lengths: str
    size: str
    colour: int
    """The number of its profile's colour and shape."""
    fill: str
    """How its marker is filled: by its format."""
    ms: float | None
    """Latency at the typical length, in milliseconds."""
    ms_text: str
    """The same as the table of all graphs has it."""
    speed: float | None
    """How many times as fast as the base graph that is."""
    is_base: bool
    """Whether it is the graph that the speeds are relative to."""
    evaluation: Evaluation | None
    """How it answers the bundle's first labelled data; None where it was not evaluated on those."""

    @property
    def name(self) -> str:
        """Profile and number format."""
        return f"{self.profile} {self.number_format}"


def list_graphs(manifest: Manifest, times: Times) -> tuple[GraphView, ...]:
    """Return every graph of a bundle, in the bundle's order.

    Args:
        manifest: The bundle's.
        times: Their latencies.

    Returns:
        Their views. The base is ``full`` in fp32, or where the bundle has none its first ``full`` graph.
    """
    rows = list_rows(manifest)
    colours = {profile.name: index % _COLOURS for index, profile in enumerate(manifest.profiles)}
    int8_formats = list(dict.fromkeys(row.number_format for row in rows if row.number_format != Precision.FP32.value))
    full = [graph for graph in manifest.graphs if graph.profile == FULL]
    base = min(full, key=lambda graph: graph.precision is not Precision.FP32, default=None)
    base_ms = None if base is None else times.milliseconds(base.file, times.typical_tokens)
    typical = [times.milliseconds(entry.file, times.typical_tokens) for entry in manifest.graphs]
    texts = column_of_milliseconds(typical)
    data = next((item.data for entry in manifest.graphs for item in entry.evaluations), None)
    views = []
    for row, entry, ms, text in zip(rows, manifest.graphs, typical, texts, strict=True):
        is_fp32 = entry.precision is Precision.FP32
        views.append(
            GraphView(
                entry=entry,
                profile=row.profile,
                number_format=row.number_format,
                lengths=row.lengths,
                size=row.size,
                colour=colours[row.profile],
                fill=_HOLLOW if is_fp32 else _SOLID[int8_formats.index(row.number_format) % len(_SOLID)],
                ms=ms,
                ms_text=text,
                speed=None if ms is None or base_ms is None else base_ms / ms,
                is_base=entry is base,
                evaluation=next((item for item in entry.evaluations if item.data == data), None),
            )
        )
    return tuple(views)


def milliseconds_text(value: float | None) -> str:
    """Return a time as the page writes it: three digits.

    Args:
        value: In milliseconds; None where it was not measured.

    Returns:
        The number alone; a dash where there is none.
    """
    return column_of_milliseconds([value])[0]


def column_of_milliseconds(values: Sequence[float | None]) -> list[str]:
    """Return the times of a table's column, all with as many decimals: three digits of the largest.

    Args:
        values: In milliseconds; None where it was not measured.

    Returns:
        The numbers alone; a dash where there is none.
    """
    largest = max((value for value in values if value is not None), default=0.0)
    decimals = 2 if largest < 10 else 1 if largest < 100 else 0
    return [NO_NUMBER if value is None else f"{value:.{decimals}f}" for value in values]


def interval_text(metric: MetricValue) -> str:
    """Return a metric's 95 % interval.

    Args:
        metric: The metric.

    Returns:
        Both ends.
    """
    return f"{metric.low:.3f} to {metric.high:.3f}"


def quality_text(view: GraphView) -> str:
    """Return the one number that says how good a graph is.

    Args:
        view: The graph.

    Returns:
        The main metric on the first labelled data, or its agreement; a dash where neither is known.
    """
    if view.evaluation is not None:
        return f"{view.evaluation.metrics[0].value:.3f}"
    return NO_NUMBER if view.entry.quality is None else f"{view.entry.quality.value:.3f}"


def sentence_name(metric: str) -> str:
    """Return a metric's name for people.

    Args:
        metric: As the manifest has it.

    Returns:
        The same without underscores.
    """
    return metric.replace("_", " ")
