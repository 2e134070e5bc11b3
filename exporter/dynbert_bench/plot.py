"""The plot: times at the longest input as bars, and over the length of the input as lines."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from dynbert.manifest import Task
from dynbert_bench.options import FAST

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dynbert_bench.results import Results, Row

__all__ = ["draw_plot"]

_OURS = "tab:green"
_PEERS = "tab:gray"
_COLOURS = (*(f"C{index}" for index in range(10)), "gold", "navy", "lime", "black", "tomato")
"""As many as there are rows; a longer list starts again."""
_SIZE_INCHES = (17.0, 6.0)
_RESOLUTION = 120


def draw_plot(results: Results, path: Path) -> None:
    """Draw the times of question answering, batch 1.

    Args:
        results: Of a run.
        path: The ``.png`` file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [
        row
        for row in results.rows
        if row.median_ms is not None and row.cell.batch == 1 and row.cell.task != Task.TEXT_CLASSIFICATION
    ]
    figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    bars, lines = figure.subplots(1, 2)
    longest = max((row.cell.tokens for row in rows), default=0)
    _draw_bars(bars, [row for row in rows if row.cell.tokens == longest], results, longest)
    _draw_lines(lines, rows)
    figure.suptitle(f"{results.model.name}, one thread, {results.environment.cpu}")
    figure.savefig(path, dpi=_RESOLUTION)


def _draw_bars(axes: Any, rows: Sequence[Row], results: Results, longest: int) -> None:
    ordered = sorted(rows, key=lambda row: row.median_ms or 0.0, reverse=True)
    colours = [_OURS if row.is_ours else _PEERS for row in ordered]
    bars = axes.barh([row.label for row in ordered], [row.median_ms for row in ordered], color=colours)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    floor = next((item.ms for item in results.floors if (item.profile, item.tokens) == (FAST, longest)), None)
    if floor is not None:
        axes.axvline(floor, color="black", linestyle="--", linewidth=1)
        axes.set_title(f"{longest} tokens; dashed: the floor of {FAST}")
    axes.set_xscale("log")
    axes.set_xlabel("median ms")


def _draw_lines(axes: Any, rows: Sequence[Row]) -> None:
    labels = list(dict.fromkeys(row.label for row in rows))
    for label, colour in zip(labels, itertools.cycle(_COLOURS)):
        own = sorted((row for row in rows if row.label == label), key=lambda row: row.cell.tokens)
        style: dict[str, Any] = {"linewidth": 2.5, "marker": "o"} if own[0].is_ours else {"linewidth": 1, "marker": "."}
        times = [row.median_ms for row in own]
        axes.plot([row.cell.tokens for row in own], times, label=label, color=colour, **style)
    axes.set_yscale("log")
    axes.set_xlabel("tokens")
    axes.set_ylabel("median ms")
    if rows:
        axes.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
