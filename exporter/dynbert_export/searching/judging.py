"""How good a candidate is, as far as it is worth knowing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert_export.searching.examination import find_metric
from dynbert_export.searching.resampling import is_worse, resample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from dynbert_export.searching.asking import Asker
    from dynbert_export.searching.candidate import Candidate
    from dynbert_export.searching.examination import Examination
    from dynbert_export.searching.graphs import SearchGraphs

    Resampled = Mapping[int, NDArray[np.float64]]

__all__ = ["Judge", "Rivals", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """What is known of a candidate's quality."""

    quality: float
    """Of the examples that it was asked."""
    examples: int
    resampled: Resampled
    """Number of a part of the examination -> the metric over resamples of it."""
    reason: str | None = None
    """Why it was given up before the end; None where it was asked everything."""


@dataclass(frozen=True)
class Rivals:
    """What a candidate must not be surely worse than."""

    faster: Mapping[str, Resampled]
    """Name -> what is known of finished candidates that take no more time."""
    floor: Resampled
    """The resampled quality below which no profile is wanted; empty where it is not known yet."""


@dataclass(frozen=True)
class Judge:
    """Asks candidates, part by part."""

    asker: Asker
    graphs: SearchGraphs
    examination: Examination
    metric: str
    """What is maximised."""
    seed: int

    def judge(
        self, candidate: Candidate, rivals: Rivals, on_answers: Callable[[int, int], None] = lambda *_: None
    ) -> Verdict:
        """Ask a candidate until it has answered everything, or is hopeless.

        Args:
            candidate: The candidate; the anytime graph answers for it.
            rivals: What it is compared with.
            on_answers: Told how many answers there are, and how many there will be.

        Returns:
            The verdict.
        """
        respondent = self.graphs.ask_candidate(candidate)
        answers: list[object] = []
        resampled: dict[int, NDArray[np.float64]] = {}
        jobs = self.examination.jobs
        for number, job in enumerate(jobs):
            before = len(answers)

            def tell(count: int, before: int = before) -> None:
                on_answers(before + count, len(self.examination.whole.inputs))

            answers += self.asker.answer(respondent, job, job.inputs[before:], tell)
            scored = job.score(answers)
            is_last = number + 1 == len(jobs)
            if not is_last and self.metric not in {each.name for each in scored}:
                continue  # a part without any entity, for example, has no entities' F1
            metric = find_metric(scored, self.metric)
            resampled[number] = resample(metric, seed=self.seed)
            reason = None if is_last else _find_reason(number, resampled[number], rivals)
            if is_last or reason is not None:
                break
        return Verdict(metric.value, metric.examples, resampled, reason)


def _find_reason(number: int, resampled: NDArray[np.float64], rivals: Rivals) -> str | None:
    """Return why a candidate is hopeless after a part; None where it is not."""
    if number in rivals.floor and is_worse(resampled, rivals.floor[number]):
        return "below the quality to keep"
    for name, rival in rivals.faster.items():
        if number in rival and is_worse(resampled, rival[number]):
            return f"slower and worse than {name}"
    return None
