"""A search as a picture: every trial, the front by what was kept aside, and what it is compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynbert_export.searching.results import Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from dynbert_export.searching.results import GraphResult, SearchReport, TrialResult

__all__ = ["plot_search"]

_STYLES = {
    Role.UNIFORM: ("tab:blue", "v", "uniform, as good"),
    Role.STAIRCASE: ("tab:purple", "s", "staircase, as good"),
    Role.MACS: ("tab:brown", "D", "fewest operations, as good"),
}


def plot_search(report: SearchReport, path: Path) -> None:
    """Draw a search.

    Args:
        report: What was found.
        path: The picture, PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _draw_trials(axes, report.trials, "tab:gray", f"trials ({report.sampler}), searched by")
    if report.random is not None:
        _draw_trials(axes, report.random.trials, "tab:orange", "trials (random), searched by")
    for role, (colour, marker, label) in _STYLES.items():
        _draw_graphs(axes, report.find(role), colour, marker, label)
    front = (*report.find(Role.FULL), *report.find(Role.PROFILE))
    _draw_graphs(axes, front, "tab:green", "o", f"profiles, kept aside ({report.aside_examples})", line="-")
    _draw_graphs(axes, report.find(Role.REFERENCE), "black", "*", "fp32 full, kept aside")
    for graph in front:
        axes.annotate(
            graph.name, (graph.measured_ms, graph.metrics[0].value), xytext=(4, 6), textcoords="offset points"
        )
    axes.set(
        title=f"{report.model}, {report.task}\n{report.processor}, threads: {report.threads}, {report.precision}",
        xlabel="ms of one input of the data",
        ylabel=report.metric,
        xscale="log",
    )
    _fit_view(axes, report)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def _draw_trials(axes: Any, trials: Iterable[TrialResult], colour: str, label: str) -> None:
    points = [(trial.milliseconds, trial.quality) for trial in trials if trial.quality is not None]
    if points:
        axes.plot(*zip(*points, strict=True), ".", color=colour, alpha=0.35, label=label)


def _draw_graphs(
    axes: Any, graphs: Sequence[GraphResult], colour: str, marker: str, label: str, *, line: str = "none"
) -> None:
    if not graphs:
        return
    times = [graph.measured_ms for graph in graphs]
    metrics = [graph.metrics[0] for graph in graphs]
    values = [metric.value for metric in metrics]
    below = [max(metric.value - metric.low, 0.0) for metric in metrics]
    above = [max(metric.high - metric.value, 0.0) for metric in metrics]
    axes.errorbar(
        times,
        values,
        yerr=[below, above],
        color=colour,
        marker=marker,
        linestyle=line,
        linewidth=1,
        elinewidth=0.8,
        capsize=2,
        label=label,
    )


def _fit_view(axes: Any, report: SearchReport) -> None:
    """Leave out of view what is far below any profile: it would press everything else together."""
    lowest = min([report.reference_point[0], *(graph.metrics[0].low for graph in report.graphs)])
    highest = max(graph.metrics[0].high for graph in report.graphs)
    margin = 0.05 * (highest - lowest) or 0.05
    axes.set_ylim(lowest - margin, highest + margin)
