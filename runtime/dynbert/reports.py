"""What the ``dynbert`` command prints of bundles: tables for people and records for JSON.

What it prints of answers is with the tasks.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from dynbert.cpu import cpu_name, int8_target, usable_cores
from dynbert.graph_rows import conditions_header, layers_header, list_conditions, list_rows, pooling_text, size_text
from dynbert.manifest import manifest_record
from dynbert.selection import is_exact_on, select_graphs
from dynbert.tables import format_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynbert.manifest import Latency, Manifest
    from dynbert.verify import Check

__all__ = [
    "bench_json",
    "bench_text",
    "info_record",
    "info_text",
    "verification_text",
]


def info_record(manifest: Manifest) -> dict[str, Any]:
    """Return a bundle's manifest, this machine's CPU and what it would run, as plain data for JSON.

    Args:
        manifest: The bundle's.

    Returns:
        ``manifest``, ``machine``, and ``would_use``: profile's name -> file.
    """
    used = {name: graph.file for name, graph in select_graphs(manifest, machine=int8_target()).items()}
    return {"machine": _machine(), "would_use": used, "manifest": manifest_record(manifest)}


def info_text(manifest: Manifest) -> str:
    """Return what a bundle holds: its model, this machine, and a table with one row a graph.

    Args:
        manifest: The bundle's.

    Returns:
        Lines of text.
    """
    model, machine = manifest.model, _machine()
    facts = [
        ("model", model.id),
        ("task", model.task.value),
        *([("embeddings", f"{model.embeddings.value} ({pooling_text(model.pooling)})")] if model.embeddings else []),
        ("max length", f"{model.max_length} tokens"),
        ("size", f"{size_text(sum(entry.bytes for entry in manifest.entries))} in {len(manifest.entries)} files"),
        ("this CPU", f"{machine['cpu']}, INT8 instructions: {machine['int8'] or 'none'}, cores: {machine['cores']}"),
        ("would use", _used(manifest)),
        ("measured on", manifest.cpu),
    ]
    columns = list_conditions(latency for graph in manifest.graphs for latency in graph.latency)
    headers = [
        "profile",
        "lengths",
        *layers_header(manifest),
        "precision",
        "target",
        "file",
        "graph",
        *map(conditions_header, columns),
        "quality",
    ]
    rows = [
        (
            *(row.profile, row.lengths, *row.layer_cells, row.precision, row.target, row.file, row.size),
            *row.latency_cells(columns),
            row.quality_in_full,
        )
        for row in list_rows(manifest)
    ]
    return f"{format_table(facts)}\n\n{format_table(rows, headers)}"


def bench_json(results: Mapping[str, Sequence[Latency]]) -> str:
    """Return measured latencies as JSON.

    Args:
        results: Graph's file -> latencies.

    Returns:
        An object with this machine and one list a graph.
    """
    return json.dumps({"machine": _machine(), "graphs": msgspec.to_builtins(dict(results))}, indent=2)


def bench_text(manifest: Manifest, results: Mapping[str, Sequence[Latency]]) -> str:
    """Return measured latencies as a table, with the ratio to the slowest graph at the longest input.

    Args:
        manifest: The bundle's.
        results: Graph's file -> latencies, all at the same lengths.

    Returns:
        Lines of text.
    """
    measured = [msgspec.structs.replace(graph, latency=tuple(results[graph.file])) for graph in manifest.graphs]
    columns = list_conditions(latency for graph in measured for latency in graph.latency)
    longest = {graph.file: max(graph.latency, key=lambda latency: latency.tokens).median_ms for graph in measured}
    slowest = max(longest.values())
    rows = [
        (
            *(row.profile, row.precision, row.target),
            *row.latency_cells(columns),
            f"{slowest / longest[row.file]:.2f}x",
        )
        for row in list_rows(msgspec.structs.replace(manifest, graphs=tuple(measured)))
    ]
    table = format_table(rows, ["profile", "precision", "target", *map(conditions_header, columns), "speed-up"])
    return f"{_machine()['cpu']}\n\n{table}"


def verification_text(checks: Sequence[Check]) -> str:
    """Return checks as a table, every failure in full below it.

    Args:
        checks: The checks, in the order to show.

    Returns:
        Lines of text; the last one is the verdict.
    """
    rows = [(check.file, check.name, "ok" if check.is_passed else "FAILED", check.note) for check in checks]
    failures = [f"FAILED {check.file}, {check.name}: {failure}" for check in checks for failure in check.failures]
    failed = sum(not check.is_passed for check in checks)
    verdict = f"{failed} of {len(checks)} checks failed." if failed else f"All {len(checks)} checks passed."
    return "\n".join([format_table(rows, ["file", "check", "result", "found"]), "", *failures, verdict])


def _machine() -> dict[str, Any]:
    target = int8_target()
    return {"cpu": cpu_name(), "int8": None if target is None else target.value, "cores": usable_cores()}


def _used(manifest: Manifest) -> str:
    """Return which graphs of the bundle this machine would run, such as ``vnni graphs``."""
    machine = int8_target()
    graphs = select_graphs(manifest, machine=machine).values()
    names = (
        ("fp32" if graph.target is None else graph.target.value)
        + " graphs"
        + ("" if is_exact_on(graph, machine) else ", which may saturate here")
        for graph in graphs
    )
    return "; ".join(dict.fromkeys(names))
