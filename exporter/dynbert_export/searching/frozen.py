"""The frozen graphs of trials, opened side by side and measured in turn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert_export.searching.measuring import measure_turns
from dynbert_export.searching.timing import make_turn

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from dynbert_export.progress import StepProgress
    from dynbert_export.searching.asking import Respondent
    from dynbert_export.searching.graphs import SearchGraphs
    from dynbert_export.searching.study import TrialRecord

__all__ = ["FrozenBench"]

_ROUNDS = 8


@dataclass(frozen=True)
class FrozenBench:
    """Where frozen graphs are made and measured."""

    graphs: SearchGraphs
    folder: Path
    """Where they are written."""
    seed: int
    """Of the order in which they are measured."""
    progress: StepProgress

    def open(self, records: Iterable[TrialRecord], full: TrialRecord) -> dict[int, Respondent]:
        """Return graphs as an export would make them.

        Args:
            records: The trials.
            full: The trial that drops nothing, whose graph the bundle has.

        Returns:
            Trial's number -> graph, full's too.
        """
        wanted = {each.number: each for each in records if each.number != full.number}
        named = {f"trial-{number}": each.candidate for number, each in wanted.items()}
        with self.progress.stage("freeze graphs"):
            frozen = self.graphs.freeze(named, self.folder)
        return {full.number: self.graphs.ask_full(), **{number: frozen[f"trial-{number}"] for number in wanted}}

    def measure(self, graphs: Mapping[int, Respondent], tokens: Sequence[int], what: str) -> dict[int, list[float]]:
        """Measure graphs, all of them in turn.

        Args:
            graphs: Number -> graph.
            tokens: Lengths of the inputs.
            what: What progress calls them.

        Returns:
            Number -> seconds, one a length.
        """
        turns = [make_turn(graph, length, self.graphs.model) for graph in graphs.values() for length in tokens]
        with self.progress.steps(f"measure {what}") as update:
            seconds = measure_turns(
                turns,
                rounds=_ROUNDS,
                seed=self.seed,
                threads=self.graphs.threads,
                on_round=lambda done: update(done, _ROUNDS, ""),
            )
        return dict(zip(graphs, seconds.reshape(len(graphs), len(tokens)).tolist(), strict=True))
