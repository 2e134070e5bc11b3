"""Dominance: is there a reason to choose each profile?

A profile that is faster on no input than another which answers better has none. Speed is compared at every length that
was measured and at the data's own, quality by the main metric on labelled data, both among graphs of one precision and
target. Which of two is better is not tested for chance here: a caller who asks for a profile means it, so only what is
worse in every number is refused. A search holds what it finds to the same rule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.manifest import ANYTIME, FULL
from dynbert_export.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dynbert.manifest import Evaluation, GraphEntry, Manifest

__all__ = ["FASTER", "Choice", "Dominated", "check_dominance", "find_dominated", "is_faster_somewhere"]

FASTER = 0.99
"""Share of another's time that a time must stay below to be called faster; the rest is noise."""


@dataclass(frozen=True)
class Choice:
    """What a caller may choose."""

    name: str
    quality: float
    """More is better."""
    milliseconds: Mapping[str, float]
    """Inputs, in words -> time. Choices that are compared have the same inputs."""


@dataclass(frozen=True)
class Dominated:
    """A choice that there is no reason for."""

    choice: Choice
    by: Choice
    """Answers better, and is slower on no input."""

    def explain(self) -> str:
        """Return the reason in words.

        Returns:
            A sentence.
        """
        times = ", ".join(
            f"{ms:.2f} and {self.by.milliseconds[inputs]:.2f} ms {inputs}"
            for inputs, ms in self.choice.milliseconds.items()
        )
        return (
            f"{self.choice.name} must be faster on some input than {self.by.name}, which answers better "
            f"({100 * self.choice.quality:.1f} and {100 * self.by.quality:.1f} %), got {times}."
        )


def find_dominated(choices: Iterable[Choice]) -> tuple[Dominated, ...]:
    """Return the choices that are faster on no input than a better one.

    Args:
        choices: All of them.

    Returns:
        Those, in their order, each with the best that dominates it.
    """
    given = list(choices)
    found = []
    for choice in given:
        better = [other for other in given if _dominates(other, choice)]
        if better:
            found.append(Dominated(choice, max(better, key=lambda other: other.quality)))
    return tuple(found)


def _dominates(other: Choice, choice: Choice) -> bool:
    others = [other.milliseconds[inputs] for inputs in choice.milliseconds]
    return other.quality > choice.quality and not is_faster_somewhere(choice.milliseconds.values(), others)


def is_faster_somewhere(own: Iterable[float], others: Iterable[float]) -> bool:
    """Return whether something is faster than something else on any input.

    Args:
        own: Its times.
        others: Those of the other one on the same inputs, in the same unit and order.

    Returns:
        Whether one of them is clearly less, see ``FASTER``.
    """
    return any(mine < FASTER * theirs for mine, theirs in zip(own, others, strict=True))


def check_dominance(manifest: Manifest) -> None:
    """Hold the profiles of an evaluated bundle to each other.

    Args:
        manifest: Its graphs have latencies, and those that were evaluated an evaluation.

    Raises:
        GateError: If a profile is faster on no input than another that answers better; all are named.
    """
    sets: dict[tuple[str, str], list[Choice]] = {}
    for graph in manifest.graphs:
        if graph.evaluations and graph.profile != ANYTIME:
            key = graph.precision.value, str(graph.target)
            sets.setdefault(key, []).append(_make_choice(graph, graph.evaluations[-1]))
    reasons = [
        f"{dominated.explain()} ({precision})"
        for (precision, _), choices in sets.items()
        for dominated in find_dominated(choices)
        if dominated.choice.name != FULL
    ]
    if reasons:
        remedy = "Leave the profile out, or give it shorter lengths; gates.refuse_dominated: false publishes it."
        raise GateError("\n".join([f"Profile {reason}" for reason in reasons] + [remedy]))


def _make_choice(graph: GraphEntry, evaluation: Evaluation) -> Choice:
    times = {f"at {latency.tokens} tokens": latency.median_ms for latency in graph.latency}
    if evaluation.latency is not None:
        times |= {
            "at the data's median": evaluation.latency.median_ms,
            "at its 95th percentile": evaluation.latency.p95_ms,
        }
    return Choice(graph.profile, evaluation.metrics[0].value, times)
