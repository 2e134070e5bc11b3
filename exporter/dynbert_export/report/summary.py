"""The table that ends an export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, FULL, GraphEntry, Latency, Manifest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

__all__ = ["summary_table"]


def summary_table(manifest: Manifest, baseline: Sequence[Latency]) -> Table:
    """Return a row for each graph, under one for the fp32 graph that drops nothing.

    Args:
        manifest: The bundle's.
        baseline: Latency of the fp32 graph that drops nothing, published or not.

    Returns:
        A table for a rich console.
    """
    from rich.table import Table

    tokens = [latency.tokens for latency in baseline]
    metric = next((graph.quality.metric for graph in manifest.graphs if graph.quality), "agreement").replace("_", " ")
    data = next((f" ({graph.quality.data})" for graph in manifest.graphs if graph.quality), "")
    table = Table(
        title=f"{manifest.model.id}, {manifest.model.task.value}",
        caption=f"Median ms of one text on one thread of {manifest.cpu}. Agreement with fp32 full: {metric}{data}.",
    )
    table.add_column("profile")
    table.add_column("lengths", overflow="fold")
    table.add_column("precision")
    for header in ("graph kB", "tokens kept", *(f"ms at {count}" for count in tokens), "speed-up", "agreement"):
        table.add_column(header, justify="right")
    is_published = any(graph.profile == FULL and graph.latency == baseline for graph in manifest.graphs)
    if not is_published:
        table.add_row(
            "fp32 full",
            "all",
            "fp32",
            "not kept",
            "100 %",
            *(f"{x.median_ms:.2f}" for x in baseline),
            "1.00x",
            "1.0000",
        )
    for graph in manifest.graphs:
        table.add_row(*_cells(manifest, graph, baseline))
    return table


def _cells(manifest: Manifest, graph: GraphEntry, baseline: Sequence[Latency]) -> list[str]:
    lengths = next(profile.length_config for profile in manifest.profiles if profile.name == graph.profile)
    everything = "at run time (measured: all)" if graph.profile == ANYTIME else "all"
    speed_up = baseline[-1].median_ms / graph.latency[-1].median_ms
    return [
        graph.profile,
        everything if lengths is None else str(LengthConfig(lengths)),
        graph.precision.value + (f" {graph.target.value}" if graph.target else ""),
        f"{graph.bytes / 1e3:.0f}",
        "" if graph.profile == ANYTIME else f"{_share_kept(manifest, lengths):.0%}".replace("%", " %"),
        *(f"{latency.median_ms:.2f}" for latency in graph.latency),
        f"{speed_up:.2f}x",
        f"{graph.quality.value:.4f}" if graph.quality else "",
    ]


def _share_kept(manifest: Manifest, lengths: tuple[int | float, ...] | None) -> float:
    """Return the share of an input's tokens that leave the layers, on average over layers, at the maximum length."""
    if lengths is None:
        return 1.0
    longest = manifest.model.max_length
    counts = LengthConfig(lengths).resolve(longest, always_keep_cls_token=manifest.model.always_keep_cls_token)
    return sum(counts) / (longest * len(counts))
