"""What the ``dynbert`` command prints: results as tables for people and as records for JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from tabulate import tabulate

from dynbert.cpu import cpu_name, int8_target, usable_cores
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME
from dynbert.selection import is_exact_on, select_graphs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from dynbert.manifest import GraphEntry, Latency, Manifest, ProfileEntry
    from dynbert.tasks.question_answering import Answer
    from dynbert.tasks.text_classification import Classification
    from dynbert.verify import Check

__all__ = [
    "answer_text",
    "bench_json",
    "bench_text",
    "classification_records",
    "classification_text",
    "embedding_records",
    "embedding_text",
    "info_record",
    "info_text",
    "verification_text",
]

_TEXT_WIDTH = 48
_DIMENSIONS_SHOWN = 4


def info_record(manifest: Manifest) -> dict[str, Any]:
    """Return a bundle's manifest, this machine's CPU and what it would run, as plain data for JSON.

    Args:
        manifest: The bundle's.

    Returns:
        ``manifest``, ``machine``, and ``would_use``: profile's name -> file.
    """
    used = {name: graph.file for name, graph in select_graphs(manifest, machine=int8_target()).items()}
    return {"machine": _machine(), "would_use": used, "manifest": msgspec.to_builtins(manifest)}


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
        ("max length", f"{model.max_length} tokens"),
        ("size", f"{_size(sum(entry.bytes for entry in manifest.entries))} in {len(manifest.entries)} files"),
        ("this CPU", f"{machine['cpu']}, INT8 instructions: {machine['int8'] or 'none'}, cores: {machine['cores']}"),
        ("would use", _used(manifest)),
        ("measured on", manifest.cpu),
    ]
    latencies = sorted({_conditions(latency) for graph in manifest.graphs for latency in graph.latency})
    headers = ["profile", "lengths", "precision", "target", "file", "graph"]
    headers += [_conditions_text(*conditions) for conditions in latencies] + ["quality"]
    profiles = {profile.name: profile for profile in manifest.profiles}
    rows = [_graph_row(profiles[graph.profile], graph, latencies) for graph in manifest.graphs]
    return f"{_table(facts)}\n\n{_table(rows, headers)}"


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
    slowest = max(latencies[-1].median_ms for latencies in results.values())
    conditions = [_conditions_text(*_conditions(latency)) for latency in next(iter(results.values()))]
    rows = [
        (
            graph.profile,
            graph.precision.value,
            _target_name(graph),
            *(f"{latency.median_ms:.2f}" for latency in results[graph.file]),
            f"{slowest / results[graph.file][-1].median_ms:.2f}x",
        )
        for graph in manifest.graphs
    ]
    return f"{_machine()['cpu']}\n\n{_table(rows, ['profile', 'precision', 'target', *conditions, 'speed-up'])}"


def answer_text(answer: Answer) -> str:
    """Return an answer as one line.

    Args:
        answer: The answer.

    Returns:
        The text, its score and its place.
    """
    return f"{answer.text}\n(score {answer.score:.4f}, characters {answer.start} to {answer.end})"


def classification_records(texts: Sequence[str], results: Sequence[Classification]) -> list[dict[str, Any]]:
    """Return classifications as plain data for JSON.

    Args:
        texts: What was classified.
        results: One a text.

    Returns:
        One record a text.
    """
    return [
        {"text": text, "label": result.label, "score": result.score, "scores": dict(result.scores)}
        for text, result in zip(texts, results, strict=True)
    ]


def classification_text(texts: Sequence[str], results: Sequence[Classification]) -> str:
    """Return classifications as a table with one row a text.

    Args:
        texts: What was classified.
        results: One a text.

    Returns:
        Lines of text.
    """
    rows = [
        (_short(text), result.label, *(f"{score:.4f}" for score in result.scores.values()))
        for text, result in zip(texts, results, strict=True)
    ]
    return _table(rows, ["text", "label", *results[0].scores])


def embedding_records(texts: Sequence[str], embeddings: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return embeddings as plain data for JSON.

    Args:
        texts: What was embedded.
        embeddings: float32 [texts, hidden].

    Returns:
        One record a text.
    """
    return [{"text": text, "embedding": embedding.tolist()} for text, embedding in zip(texts, embeddings, strict=True)]


def embedding_text(texts: Sequence[str], embeddings: NDArray[np.float32]) -> str:
    """Return the first numbers of each embedding, and how similar the texts are to each other.

    Args:
        texts: What was embedded.
        embeddings: float32 [texts, hidden].

    Returns:
        One table; two where there are several texts.
    """
    numbers = [str(number) for number in range(1, len(texts) + 1)]
    hidden = embeddings.shape[1]
    rows = [
        (number, _short(text), " ".join(f"{value:+.4f}" for value in embedding[:_DIMENSIONS_SHOWN]) + " ...")
        for number, text, embedding in zip(numbers, texts, embeddings, strict=True)
    ]
    shown = _table(rows, ["", "text", f"embedding ({hidden} numbers)"])
    if len(texts) == 1:
        return shown
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    cosines = [
        (number, _short(text), *(f"{cosine:.3f}" for cosine in row))
        for number, text, row in zip(numbers, texts, unit @ unit.T, strict=True)
    ]
    return f"{shown}\n\nCosine similarity\n{_table(cosines, ['', 'text', *numbers])}"


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
    return "\n".join([_table(rows, ["file", "check", "result", "found"]), "", *failures, verdict])


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


def _graph_row(profile: ProfileEntry, graph: GraphEntry, latencies: Sequence[tuple[int, int, int]]) -> tuple[str, ...]:
    nothing = "at run time" if profile.name == ANYTIME else "all"
    measured = {_conditions(latency): f"{latency.median_ms:.2f}" for latency in graph.latency}
    quality = graph.quality
    return (
        profile.name,
        nothing if profile.length_config is None else str(LengthConfig(profile.length_config)),
        graph.precision.value,
        _target_name(graph),
        graph.file,
        _size(graph.bytes),
        *(measured.get(conditions, "") for conditions in latencies),
        "" if quality is None else f"{quality.value:.4f} {quality.metric} ({quality.data})",
    )


def _target_name(graph: GraphEntry) -> str:
    return "any" if graph.target is None else graph.target.value


def _conditions(latency: Latency) -> tuple[int, int, int]:
    return latency.tokens, latency.batch, latency.threads


def _conditions_text(tokens: int, batch: int, threads: int) -> str:
    extra = [f"batch {batch}"] * (batch != 1) + [f"{threads} threads"] * (threads != 1)
    return f"ms at {', '.join([str(tokens), *extra])}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.1f} kB"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT_WIDTH else line[: _TEXT_WIDTH - 1] + "…"


def _table(rows: Sequence[Sequence[str]], headers: Sequence[str] = ()) -> str:
    # Numbers are formatted already: tabulate must not read 1.0000 as 1, or a file name as a number.
    return tabulate(rows, headers=headers, tablefmt="simple" if headers else "plain", disable_numparse=True)
