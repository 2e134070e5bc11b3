"""What ``dynbert eval`` prints: tables for people, and a record for JSON. Metrics are in %."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dynbert.cpu import cpu_name
from dynbert.tables import format_table

if TYPE_CHECKING:
    from dynbert.manifest import Difference, MetricValue
    from dynbert.scoring.bundle_evaluation import BundleEvaluation, GraphEvaluation

__all__ = ["difference_text", "evaluation_record", "evaluation_text", "metric_header", "p_value_text", "value_text"]


def evaluation_record(found: BundleEvaluation) -> dict[str, Any]:
    """Return an evaluation as plain data for JSON; metrics are fractions.

    Args:
        found: The evaluation.

    Returns:
        ``cpu``, ``data``, ``reference``, ``notes``, and ``graphs``: a record of each with its ``evaluation``, as the
        manifest has it.
    """
    return {
        "cpu": cpu_name(),
        "data": found.data,
        "reference": _record(found.reference),
        "notes": list(found.notes),
        "graphs": [_record(each) for each in found.graphs],
    }


def _record(each: GraphEvaluation) -> dict[str, Any]:
    graph = each.candidate.graph
    return {
        "profile": graph.profile,
        "precision": graph.precision.value,
        "file": graph.file,
        "evaluation": msgspec.to_builtins(each.evaluation),
    }


def evaluation_text(found: BundleEvaluation) -> str:
    """Return an evaluation as tables: the main metric with time, then the others.

    Args:
        found: The evaluation.

    Returns:
        Lines of text.
    """
    first = found.reference.evaluation
    latency = first.latency
    timed = ""
    if latency is not None:
        where = f"one thread of {cpu_name()}" if latency.threads == 1 else f"{latency.threads} threads of {cpu_name()}"
        timed = f"\nMilliseconds of one input alone, {latency.inputs} of them, on {where}."
    head = (
        f"{found.data}: {first.examples} examples. In %, with 95 % intervals; compared with "
        f"{found.reference.candidate.title} on the same examples ({_test_of(found)}).{timed}"
    )
    parts = [head, _main_table(found)]
    if len(first.metrics) > 1:
        parts.append(_further_table(found))
    return "\n\n".join([*parts, *(f"Note: {note}" for note in found.notes)])


def metric_header(name: str) -> str:
    """Return a metric's name for people.

    Args:
        name: As ``MetricValue`` has it.

    Returns:
        The name, without underscores.
    """
    return name.replace("_", " ")


def value_text(metric: MetricValue) -> str:
    """Return a metric with its interval, in %.

    Args:
        metric: The metric.

    Returns:
        ``88.9 (87.4 to 90.3)`` for example.
    """
    return f"{100 * metric.value:.1f} ({100 * metric.low:.1f} to {100 * metric.high:.1f})"


def difference_text(difference: Difference | None) -> str:
    """Return a difference with its interval, in points.

    Args:
        difference: The difference; None for the graph that others are compared with.

    Returns:
        ``-0.4 (-1.1 to +0.3)`` for example; empty where there is none.
    """
    if difference is None:
        return ""
    return f"{_signed(difference.value)} ({_signed(difference.low)} to {_signed(difference.high)})"


def p_value_text(difference: Difference | None) -> str:
    """Return the p value of a difference.

    Args:
        difference: The difference; None for the graph that others are compared with.

    Returns:
        ``0.032`` for example; empty where there is none.
    """
    if difference is None:
        return ""
    return f"{difference.p_value:.3f}" if difference.p_value >= 0.001 else "<0.001"


def _signed(value: float) -> str:
    text = f"{100 * value:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text


def _test_of(found: BundleEvaluation) -> str:
    """Return which test the p values of the main metric are of."""
    tests = (each.evaluation.metrics[0].difference for each in found.graphs)
    return next((difference.test for difference in tests if difference is not None), "no other graph")


def _main_table(found: BundleEvaluation) -> str:
    reference = found.reference.evaluation
    headers = ["profile", "precision", metric_header(reference.metrics[0].name), "difference", "p"]
    headers += ["median ms", "95th percentile", "speed-up"] if reference.latency is not None else []
    rows = []
    for each in _rows(found):
        metric, latency = each.evaluation.metrics[0], each.evaluation.latency
        row = [*_names(each), value_text(metric), difference_text(metric.difference), p_value_text(metric.difference)]
        if reference.latency is not None and latency is not None:
            speed_up = reference.latency.median_ms / latency.median_ms
            row += [f"{latency.median_ms:.2f}", f"{latency.p95_ms:.2f}", f"{speed_up:.2f}x"]
        rows.append(row)
    return format_table(rows, headers)


def _further_table(found: BundleEvaluation) -> str:
    further = found.reference.evaluation.metrics[1:]
    headers = ["profile", "precision", *(metric_header(item.name) for item in further)]
    rows = [[*_names(each), *map(value_text, each.evaluation.metrics[1:])] for each in _rows(found)]
    return format_table(rows, headers)


def _rows(found: BundleEvaluation) -> list[GraphEvaluation]:
    """Return the graphs to show: the reference first, where it is not among them anyway."""
    return list(found.graphs) if found.reference in found.graphs else [found.reference, *found.graphs]


def _names(each: GraphEvaluation) -> list[str]:
    return [each.candidate.graph.profile, each.candidate.graph.precision.value]
