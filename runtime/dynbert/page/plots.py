"""Quality against time: one chart a labelled data set, or one of agreement where there is none."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dynbert.graph_rows import metric_text
from dynbert.page.charts import Spot, linear_axis, log_axis, place_labels
from dynbert.page.graphs import NO_NUMBER, interval_text, milliseconds_text, sentence_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynbert.manifest import Evaluation, Manifest
    from dynbert.page.charts import Axis, Label
    from dynbert.page.graphs import GraphView, Times

__all__ = ["Marker", "QualityPlot", "plot_quality"]


@dataclass(frozen=True)
class Marker:
    """One graph in a chart."""

    graph: GraphView
    x: float
    """Percent from the left."""
    y: float
    """Percent from the bottom."""
    low: float | None = None
    """Lower end of its interval, percent from the bottom."""
    high: float | None = None
    label: Label | None = None
    """Where its name stands; None where it has no room."""
    is_best: bool = False
    """Whether no other graph is both faster and better."""
    facts: str = ""
    """Its numbers in words."""


@dataclass(frozen=True)
class QualityPlot:
    """Quality against time, on one data set or as agreement."""

    name: str
    """Of the data."""
    metric: str
    note: str
    """What both axes are, in a sentence or two."""
    x_title: str
    x_axis: Axis
    y_axis: Axis
    markers: tuple[Marker, ...]
    missing: tuple[str, ...]
    """Graphs that have no place, for want of a time."""
    headers: tuple[str, ...] = ()
    rows: tuple[tuple[GraphView, tuple[str, ...]], ...] = ()
    """All numbers as a table, a graph and its cells; none of agreement, which the table of all graphs has."""
    tests: tuple[str, ...] = ()
    """What the table's p values are of."""

    @property
    def front(self) -> tuple[Marker, ...]:
        """The best graphs, the fastest first."""
        return tuple(sorted((marker for marker in self.markers if marker.is_best), key=lambda marker: marker.x))


@dataclass(frozen=True)
class _Point:
    """A graph with its numbers, before it has a place."""

    graph: GraphView
    ms: float | None
    value: float
    low: float | None
    high: float | None


def plot_quality(manifest: Manifest, graphs: Sequence[GraphView], times: Times) -> tuple[QualityPlot, ...]:
    """Return one plot a labelled data set, or one of agreement where the bundle was not evaluated.

    Args:
        manifest: The bundle's.
        graphs: Its graphs.
        times: Their latencies.

    Returns:
        The plots; none where there is nothing to show.
    """
    names = list(dict.fromkeys(item.data for graph in graphs for item in graph.entry.evaluations))
    plots = [_plot_data(name, graphs, times) for name in names] or [_plot_agreement(manifest, graphs, times)]
    return tuple(plot for plot in plots if plot is not None)


def _plot_data(name: str, graphs: Sequence[GraphView], times: Times) -> QualityPlot | None:
    judged = [(graph, item) for graph in graphs for item in graph.entry.evaluations if item.data == name]
    at_data = not times.is_here and all(item.latency is not None for _, item in judged)
    points = []
    for graph, item in judged:
        metric = item.metrics[0]
        ms = item.latency.median_ms if at_data and item.latency is not None else graph.ms
        points.append(_Point(graph, ms, metric.value, metric.low, metric.high))
    first = judged[0][1]
    metric_name = sentence_name(first.metrics[0].name)
    when = "at the data's own lengths" if at_data else f"of {times.typical_tokens} tokens"
    note = (
        f"{metric_name} on {first.examples:,} examples of {name}; bars are 95 % intervals. Time of one text {when}, on "
        f"{times.machine}."
    )
    plot = _make_plot(name, metric_name, note, f"ms, one text {when}", points)
    if plot is None:
        return None
    headers, rows = _data_table(judged, has_times=at_data)
    differences = [item.metrics[0].difference for _, item in judged]
    tests = tuple(dict.fromkeys(difference.test for difference in differences if difference is not None))
    return replace(plot, headers=headers, rows=rows, tests=tests)


def _plot_agreement(manifest: Manifest, graphs: Sequence[GraphView], times: Times) -> QualityPlot | None:
    judged = [(graph, graph.entry.quality) for graph in graphs if graph.entry.quality is not None]
    if not judged:
        return None
    metric, first = metric_text(manifest), judged[0][1]
    note = (
        f"This is agreement, not quality: {metric} of a graph's answers with those of the fp32 graph that drops "
        f"nothing, on {first.samples:,} texts ({first.data}). How well either answers, only labelled data can say. "
        f"Time of one text of {times.typical_tokens} tokens, on {times.machine}."
    )
    points = [_Point(graph, graph.ms, quality.value, None, None) for graph, quality in judged]
    return _make_plot(first.data, metric, note, f"ms, one text of {times.typical_tokens} tokens", points)


_Table = tuple[tuple[str, ...], tuple[tuple["GraphView", tuple[str, ...]], ...]]


def _data_table(judged: Sequence[tuple[GraphView, Evaluation]], *, has_times: bool) -> _Table:
    """Return every metric of every graph, the main one with its interval and how it differs from full fp32."""
    names = [metric.name for metric in judged[0][1].metrics]
    headers = (
        *(("median ms", "p95 ms") if has_times else ("ms",)),
        sentence_name(names[0]),
        "95 % interval",
        "against full fp32",
        "p",
        *map(sentence_name, names[1:]),
    )
    rows = []
    for graph, item in judged:
        first, difference = item.metrics[0], item.metrics[0].difference
        others = {metric.name: f"{metric.value:.3f}" for metric in item.metrics}
        times = (
            (milliseconds_text(item.latency.median_ms), milliseconds_text(item.latency.p95_ms))
            if has_times and item.latency is not None
            else (milliseconds_text(graph.ms),)
        )
        cells = (
            *times,
            f"{first.value:.3f}",
            interval_text(first),
            NO_NUMBER
            if difference is None
            else f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})",
            NO_NUMBER if difference is None else f"{difference.p_value:.3f}",
            *(others.get(name, NO_NUMBER) for name in names[1:]),
        )
        rows.append((graph, cells))
    return headers, tuple(rows)


def _make_plot(name: str, metric: str, note: str, x_title: str, found: Sequence[_Point]) -> QualityPlot | None:
    """Give every graph that has a time its place."""
    points = [point for point in found if point.ms is not None]
    if not points:
        return None
    x_axis = log_axis(point.ms or 0.0 for point in points)
    y_axis = linear_axis(
        value for point in points for value in (point.value, point.low, point.high) if value is not None
    )
    places = [(x_axis.percent(point.ms or 0.0), y_axis.percent(point.value)) for point in points]
    best = _find_front(points)
    order = sorted(range(len(points)), key=lambda index: index not in best)  # the best get their names first
    spans = [
        (y if point.low is None else y_axis.percent(point.low), y if point.high is None else y_axis.percent(point.high))
        for (_, y), point in zip(places, points, strict=True)
    ]
    spots = [Spot(*places[index], *spans[index], points[index].graph.profile) for index in order]
    labels = place_labels(spots)
    by_index = dict(zip(order, labels, strict=True))
    markers = tuple(
        Marker(
            graph=point.graph,
            x=places[index][0],
            y=places[index][1],
            low=None if point.low is None else y_axis.percent(point.low),
            high=None if point.high is None else y_axis.percent(point.high),
            label=by_index[index],
            is_best=index in best,
            facts=f"{point.graph.name}: {milliseconds_text(point.ms)} ms, {metric} {point.value:.3f}",
        )
        for index, point in enumerate(points)
    )
    missing = tuple(point.graph.name for point in found if point.ms is None)
    return QualityPlot(name, metric, note, x_title, x_axis, y_axis, markers, missing)


def _find_front(points: Sequence[_Point]) -> set[int]:
    """Return which points no other beats in one of time and quality and equals in the other."""
    best: set[int] = set()
    highest = float("-inf")
    for index in sorted(range(len(points)), key=lambda index: (points[index].ms or 0.0, -points[index].value)):
        if points[index].value > highest:
            best.add(index)
            highest = points[index].value
    return best
