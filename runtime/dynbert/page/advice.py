"""Which graph to take for which wish."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.graph_rows import metric_text
from dynbert.page.graphs import NO_NUMBER, interval_text, quality_text, sentence_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dynbert.manifest import Manifest
    from dynbert.page.graphs import GraphView

    Wish = tuple[str, Callable[[GraphView], bool]]

__all__ = ["Advice", "advise"]

_CLOSE, _FAIR = 0.99, 0.95
"""Agreements that answers hardly suffer from, and that most uses bear."""
_SMALL_LOSS = 0.98
"""Share of the reference's metric that is left by a small loss."""


@dataclass(frozen=True)
class Advice:
    """One graph that answers a wish."""

    wishes: tuple[str, ...]
    """What it is the choice for."""
    graph: GraphView
    reason: str
    """What is known of its quality."""


def advise(manifest: Manifest, graphs: Sequence[GraphView]) -> tuple[Advice, ...]:
    """Return which graph to take for which wish: for each the fastest one that grants it.

    Where the bundle was evaluated on labelled data the wishes are about the main metric on the first such data, else
    about agreement with the fp32 graph that drops nothing.

    Args:
        manifest: The bundle's.
        graphs: Its graphs.

    Returns:
        Each chosen graph once, the most demanding wish first; graphs of length configs given at run time are not among
        them, nor the one that the others are compared with.
    """
    judged = [graph for graph in graphs if graph.ms is not None and quality_text(graph) != NO_NUMBER]
    has_data = any(graph.evaluation is not None for graph in judged)
    wishes = _data_wishes(judged) if has_data else _agreement_wishes(manifest)
    chosen: dict[str, tuple[list[str], GraphView]] = {}
    for wish, is_granted in wishes:
        candidates = [graph for graph in judged if is_granted(graph)]
        if candidates:
            best = min(candidates, key=lambda graph: graph.ms or 0.0)
            chosen.setdefault(best.entry.file, ([], best))[0].append(wish)
    return tuple(Advice(tuple(names), graph, _reason(manifest, graph)) for names, graph in chosen.values())


def _data_wishes(graphs: Sequence[GraphView]) -> list[tuple[str, Callable[[GraphView], bool]]]:
    """Return wishes about labelled data, the most demanding first."""
    reference = max(
        (graph.evaluation.metrics[0].value for graph in graphs if graph.evaluation and _is_reference(graph)),
        default=None,
    )
    wishes: list[tuple[str, Callable[[GraphView], bool]]] = [
        ("No loss that the data show", lambda graph: _is_reference(graph) or _loses_nothing(graph))
    ]
    if reference is not None:
        least = reference * _SMALL_LOSS
        wishes.append((f"At least {_SMALL_LOSS:.0%} of the full model's score", lambda graph: _value(graph) >= least))
    return [*wishes, ("The fastest", lambda graph: graph.evaluation is not None)]


def _agreement_wishes(manifest: Manifest) -> list[tuple[str, Callable[[GraphView], bool]]]:
    name = metric_text(manifest)
    return [
        (f"Answers all but the same ({name} at least {_CLOSE})", lambda graph: _agreement(graph) >= _CLOSE),
        (f"A fair trade ({name} at least {_FAIR})", lambda graph: _agreement(graph) >= _FAIR),
        ("The fastest", lambda graph: graph.entry.quality is not None),
    ]


def _is_reference(graph: GraphView) -> bool:
    """Return whether the others' metrics are compared with this graph's."""
    return graph.evaluation is not None and graph.evaluation.metrics[0].difference is None


def _loses_nothing(graph: GraphView) -> bool:
    difference = None if graph.evaluation is None else graph.evaluation.metrics[0].difference
    return difference is not None and difference.high >= 0


def _value(graph: GraphView) -> float:
    return -1.0 if graph.evaluation is None else graph.evaluation.metrics[0].value


def _agreement(graph: GraphView) -> float:
    return -1.0 if graph.entry.quality is None else graph.entry.quality.value


def _reason(manifest: Manifest, graph: GraphView) -> str:
    evaluation = graph.evaluation
    if evaluation is None:
        return f"{metric_text(manifest)} {quality_text(graph)}"
    metric = evaluation.metrics[0]
    text = f"{sentence_name(metric.name)} {metric.value:.3f} ({interval_text(metric)})"
    if metric.difference is None:
        return f"{text}: what the others are compared with"
    change = metric.difference
    return f"{text}, {change.value:+.3f} against full fp32 ({change.low:+.3f} to {change.high:+.3f})"
