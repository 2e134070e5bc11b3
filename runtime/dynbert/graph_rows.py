"""A graph's facts as cells of a table: one way to say them, on a terminal, at the end of an export and in the card."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dynbert.manifest import GraphEntry, Latency, Manifest, Pooling, ProfileEntry

__all__ = [
    "Conditions",
    "GraphRow",
    "conditions_header",
    "layers_header",
    "list_conditions",
    "list_rows",
    "metric_text",
    "milliseconds",
    "pooling_text",
    "size_text",
]

Conditions: TypeAlias = tuple[int, int, int]
"""What a latency was measured with: tokens, batch, threads."""


@dataclass(frozen=True)
class GraphRow:
    """The cells of one graph."""

    profile: str
    lengths: str
    """Of the profile: a list, ``all`` where nothing is dropped, ``at run time`` for the anytime graph. Those of layers
    that are left out say nothing."""
    layer_cells: tuple[str, ...]
    """One cell, which layers run: a list, or ``all``; none in a bundle whose profiles leave out none."""
    precision: str
    target: str
    """``any`` for fp32."""
    file: str
    size: str
    latencies: Mapping[Conditions, str]
    """Milliseconds."""
    quality: str
    """The number alone; empty where it was not judged."""
    quality_in_full: str
    """With its metric and data."""

    @property
    def number_format(self) -> str:
        """Precision, and target where it has one: ``fp32``, ``int8 vnni``."""
        return self.precision if self.target == _ANY_TARGET else f"{self.precision} {self.target}"

    def latency_cells(self, columns: Iterable[Conditions]) -> tuple[str, ...]:
        """Return the latencies for a table's columns.

        Args:
            columns: What each column is measured with.

        Returns:
            A cell a column; empty where it was not measured.
        """
        return tuple(self.latencies.get(column, "") for column in columns)


_ANY_TARGET = "any"


def list_rows(manifest: Manifest) -> tuple[GraphRow, ...]:
    """Return the cells of every graph, in the bundle's order.

    Args:
        manifest: The bundle's.

    Returns:
        A row a graph.
    """
    profiles = {profile.name: profile for profile in manifest.profiles}
    has_layers = bool(layers_header(manifest))
    return tuple(_make_row(graph, profiles[graph.profile], has_layers=has_layers) for graph in manifest.graphs)


def layers_header(manifest: Manifest) -> tuple[str, ...]:
    """Return the header of the cells that say which layers run, for those bundles alone that leave out some.

    Args:
        manifest: The bundle's.

    Returns:
        One header, or none.
    """
    return ("layers",) if any(profile.layer_config is not None for profile in manifest.profiles) else ()


def list_conditions(latencies: Iterable[Latency]) -> tuple[Conditions, ...]:
    """Return what latencies were measured with: the columns of a table.

    Args:
        latencies: Of one graph, or of several.

    Returns:
        The conditions, each once, the fewest tokens first.
    """
    return tuple(sorted({_conditions(latency) for latency in latencies}))


def conditions_header(conditions: Conditions) -> str:
    """Return the header of a column of latencies.

    Args:
        conditions: What it is measured with.

    Returns:
        ``ms at TOKENS``, with batch and threads where there are several.
    """
    tokens, batch, threads = conditions
    extra = [f"batch {batch}"] * (batch != 1) + [f"{threads} threads"] * (threads != 1)
    return f"ms at {', '.join([str(tokens), *extra])}"


def milliseconds(latency: Latency) -> str:
    """Return the cell of a latency.

    Args:
        latency: The latency.

    Returns:
        The number, to a hundredth.
    """
    return f"{latency.median_ms:.2f}"


def metric_text(manifest: Manifest) -> str:
    """Return what a bundle's qualities are, in words.

    Args:
        manifest: The bundle's.

    Returns:
        The metric, such as ``label agreement``; ``agreement`` where nothing was judged.
    """
    metrics = (graph.quality.metric for graph in manifest.graphs if graph.quality is not None)
    return next(metrics, "agreement").replace("_", " ")


def pooling_text(pooling: Pooling | None) -> str:
    """Return how embeddings are made, in words.

    Args:
        pooling: A bundle's, or one that a call asks for.

    Returns:
        ``mean, normalised`` for example; ``none`` where there is none.
    """
    if pooling is None:
        return "none"
    return f"{pooling.mode.value}, {'normalised' if pooling.normalize else 'not normalised'}"


def size_text(size_bytes: int) -> str:
    """Return a size in MB, or in kB where it is less than one.

    Args:
        size_bytes: The size.

    Returns:
        The number with its unit.
    """
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.1f} kB"


def _make_row(graph: GraphEntry, profile: ProfileEntry, *, has_layers: bool) -> GraphRow:
    lengths, layers = profile.length_config, profile.layer_config
    nothing = "at run time" if graph.profile == ANYTIME else "all"
    running = "all" if layers is None else ",".join(map(str, layers))
    quality = graph.quality
    return GraphRow(
        profile=graph.profile,
        lengths=nothing if lengths is None else str(LengthConfig(lengths)),
        layer_cells=(running,) if has_layers else (),
        precision=graph.precision.value,
        target=_ANY_TARGET if graph.target is None else graph.target.value,
        file=graph.file,
        size=size_text(graph.bytes),
        latencies={_conditions(latency): milliseconds(latency) for latency in graph.latency},
        quality="" if quality is None else f"{quality.value:.4f}",
        quality_in_full="" if quality is None else f"{quality.value:.4f} {quality.metric} ({quality.data})",
    )


def _conditions(latency: Latency) -> Conditions:
    return latency.tokens, latency.batch, latency.threads
