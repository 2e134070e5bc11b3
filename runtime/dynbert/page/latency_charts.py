"""Latency by the length of the input: one chart and one table a number format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.page.charts import log_axis
from dynbert.page.graphs import column_of_milliseconds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynbert.page.charts import Axis
    from dynbert.page.graphs import GraphView, Times

__all__ = ["LatencyChart", "Line", "plot_latency"]


@dataclass(frozen=True)
class Line:
    """One graph's latencies."""

    graph: GraphView
    places: tuple[tuple[float, float], ...]
    """Percent from the left and from the bottom, of the lengths that it was measured at."""
    cells: tuple[str, ...]
    """Milliseconds, one a length of the chart."""

    @property
    def segments(self) -> tuple[tuple[tuple[float, float], tuple[float, float]], ...]:
        """What joins neighbouring places."""
        return tuple(zip(self.places, self.places[1:], strict=False))


@dataclass(frozen=True)
class LatencyChart:
    """Latency by input length of the graphs of one number format."""

    name: str
    lengths: tuple[int, ...]
    x_axis: Axis
    y_axis: Axis
    lines: tuple[Line, ...]


def plot_latency(graphs: Sequence[GraphView], times: Times) -> tuple[LatencyChart, ...]:
    """Return one chart a number format, all on the same axes, so that they compare.

    Args:
        graphs: The bundle's.
        times: Their latencies.

    Returns:
        The charts; none where nothing was measured.
    """
    everything = [latency.median_ms for of_graph in times.latencies.values() for latency in of_graph]
    if not everything:
        return ()
    x_axis, y_axis = log_axis(times.lengths, ticks=times.lengths), log_axis(everything)
    charts = []
    for name in dict.fromkeys(graph.number_format for graph in graphs):
        shown = [graph for graph in graphs if graph.number_format == name]
        columns = [[times.milliseconds(graph.entry.file, tokens) for graph in shown] for tokens in times.lengths]
        cells = zip(*map(column_of_milliseconds, columns), strict=True)
        measured = zip(*columns, strict=True)
        lines = []
        for graph, of_graph, texts in zip(shown, measured, cells, strict=True):
            pairs = zip(times.lengths, of_graph, strict=True)
            places = tuple((x_axis.percent(tokens), y_axis.percent(ms)) for tokens, ms in pairs if ms is not None)
            lines.append(Line(graph, places, tuple(texts)))
        charts.append(LatencyChart(name, times.lengths, x_axis, y_axis, tuple(lines)))
    return tuple(charts)
