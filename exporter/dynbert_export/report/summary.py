"""The table that ends an export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert.graph_rows import (
    conditions_header,
    layers_header,
    list_conditions,
    list_rows,
    metric_text,
    milliseconds,
)
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, FULL, Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from dynbert.manifest import GraphEntry, Latency, Manifest

__all__ = ["summary_table"]


_NUMBER_WIDTH = 5
"""Least width of a column of numbers. Without a grid, the table then fits into 80 characters and cuts nothing off."""


def summary_table(manifest: Manifest, baseline: Sequence[Latency]) -> Table:
    """Return a row for each graph, under one for the fp32 graph that drops nothing.

    Args:
        manifest: The bundle's.
        baseline: Latency of the fp32 graph that drops nothing, published or not.

    Returns:
        A table for a rich console.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    columns = list_conditions(baseline)
    data = next((f" ({graph.quality.data})" for graph in manifest.graphs if graph.quality), "")
    table = Table(
        title=f"{manifest.model.id}, {manifest.model.task.value}",
        caption=f"Median ms of one text on one thread of {manifest.cpu}. "
        f"Agreement with fp32 full: {metric_text(manifest)}{data}.",
        box=SIMPLE_HEAD,
        padding=0,
        show_edge=False,
        pad_edge=False,
    )
    for header in ("profile", "lengths", *layers_header(manifest), "precision"):
        table.add_column(header, overflow="fold")
    for header in ("graph kB", "tokens kept", *map(conditions_header, columns), "speed-up", "agreement"):
        table.add_column(header, justify="right", overflow="fold", min_width=_NUMBER_WIDTH)
    is_published = any(graph.profile == FULL and graph.precision is Precision.FP32 for graph in manifest.graphs)
    if not is_published:
        table.add_row(
            "fp32 full",
            "all",
            *(("all",) if layers_header(manifest) else ()),
            "fp32",
            "not kept",
            "100 %",
            *map(milliseconds, baseline),
            "1.00x",
            "1.0000",
        )
    for graph, row in zip(manifest.graphs, list_rows(manifest), strict=True):
        is_anytime = graph.profile == ANYTIME
        table.add_row(
            row.profile,
            row.lengths + (" (measured: all)" if is_anytime else ""),
            *row.layer_cells,
            row.number_format,
            f"{graph.bytes / 1e3:.0f}",
            "" if is_anytime else f"{_share_kept(manifest, graph):.0%}".replace("%", " %"),
            *row.latency_cells(columns),
            f"{baseline[-1].median_ms / graph.latency[-1].median_ms:.2f}x",
            row.quality,
        )
    return table


def _share_kept(manifest: Manifest, graph: GraphEntry) -> float:
    """Return the share of an input's tokens that leave the layers, on average over layers, at the maximum length.

    A layer that is left out does no work: no token leaves it.
    """
    model = manifest.model
    profile = next(profile for profile in manifest.profiles if profile.name == graph.profile)
    config = LengthConfig(profile.length_config) if profile.length_config else LengthConfig.everything(model.num_layers)
    counts = config.resolve(model.max_length, always_keep_cls_token=model.always_keep_cls_token)
    running = range(model.num_layers) if profile.layer_config is None else profile.layer_config
    return sum(counts[layer] for layer in running) / (model.max_length * model.num_layers)
