"""What a search found, on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert_export.searching.results import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from dynbert_export.searching.results import GraphResult, SearchReport

__all__ = ["list_remarks", "report_table"]

_NUMBER_WIDTH = 5
_OPERATIONS = 1e9


def report_table(report: SearchReport) -> Table:
    """Return a row for each graph that was measured and judged at the end.

    Args:
        report: What was found.

    Returns:
        A table for a rich console.
    """
    from rich.box import SIMPLE_HEAD
    from rich.markup import escape
    from rich.table import Table

    marks = report.lengths_of_data["marks"]
    where = f"{report.processor}, threads: {report.threads}, {report.precision}"
    table = Table(
        title=escape(f"{report.model}, {report.task}: {report.metric} of {report.aside}"),
        caption=f"ms of one input on {where}: mean of the data, and at its 10th, 50th, 90th percentile and longest. "
        "Difference from fp32 full, with 95 % intervals.",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        pad_edge=False,
    )
    for header in ("graph", "lengths"):
        table.add_column(header, overflow="fold")
    headers = ("ms", "predicted", *(f"ms at {tokens}" for tokens in marks), "speed-up", "GMAC", "searched by")
    for header in (*headers, report.metric, "difference"):
        table.add_column(header, justify="right", overflow="fold", min_width=_NUMBER_WIDTH)
    [full] = report.find(Role.FULL)
    for graph in report.graphs:
        if graph.role is Role.UNIFORM:
            _end_section(table)
        table.add_row(
            graph.name,
            graph.config or "all",
            f"{graph.measured_ms:.2f}",
            "" if graph.predicted_ms is None else f"{graph.predicted_ms:.2f}",
            *(f"{graph.ms_by_tokens[tokens]:.2f}" for tokens in marks),
            f"{full.measured_ms / graph.measured_ms:.2f}x",
            f"{graph.macs / _OPERATIONS:.2f}",
            "" if graph.searched_quality is None else f"{graph.searched_quality:.4f}",
            *_quality_cells(graph),
        )
    return table


def list_remarks(report: SearchReport) -> Iterator[str]:
    """Yield what else there is to say, a line each.

    Args:
        report: What was found.

    Yields:
        The lines.
    """
    for refusal in report.refusals:
        yield f"{refusal.name} ({refusal.config}, trial {refusal.trial}) was refused: {refusal.reason}."
    for name in report.profiles:
        for is_as_good, words in _WORDS.items():
            ratios = [
                f"{contrast.speed_ratio:.2f} times as fast as the {words[contrast.role]} ({contrast.graph})"
                for contrast in report.contrasts
                if contrast.profile == name and contrast.is_as_good is is_as_good
            ]
            if ratios:
                yield f"{name} is {', '.join(ratios)}, {_QUALITIES[is_as_good]}."
    error, one_speed = report.final_error, report.final_error_at_one_speed
    yield (
        f"Time model: off by {_share(error.median)} (median) and {_share(error.percentile_95)} (95th percentile) on "
        f"the {error.measurements} measurements of these graphs but full. That took {report.speed_change:.2f} times as "
        "long as when times were measured first; with predictions in proportion it is "
        f"{_share(one_speed.median)} and {_share(one_speed.percentile_95)}."
    )
    quality, slowest = report.reference_point
    against = f", random search {report.random.hypervolume:.4f}" if report.random is not None else ""
    yield (
        f"Hypervolume: {report.hypervolume:.4f}{against} ({report.metric} above {quality:.4f} times the logarithm of "
        f"the time below {slowest:.2f} ms)."
    )


_WORDS = {
    True: {
        Role.UNIFORM: "fastest uniform config",
        Role.STAIRCASE: "fastest staircase",
        Role.MACS: "config of the fewest operations",
    },
    False: {Role.UNIFORM: "best uniform config", Role.STAIRCASE: "best staircase"},
}
"""Whether it is as good -> role -> what it is called."""
_QUALITIES = {True: "each of at least its quality", False: "of which none has its quality"}


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"


def _quality_cells(graph: GraphResult) -> tuple[str, str]:
    metric = graph.metrics[0]
    value = f"{metric.value:.4f} [{metric.low:.4f}, {metric.high:.4f}]"
    if metric.difference is None:
        return value, ""
    return value, f"{metric.difference:+.4f} [{metric.difference_low:+.4f}, {metric.difference_high:+.4f}]"


def _end_section(table: Table) -> None:
    """Put a line above what profiles are compared with, once."""
    if table.rows and not any(row.end_section for row in table.rows):
        table.rows[-1].end_section = True
