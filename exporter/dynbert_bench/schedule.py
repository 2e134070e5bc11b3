"""Who runs when: the best of each competitor's setups is found first, then all competitors take turns in short bursts.

Turns, because a machine's speed drifts within seconds (clock, neighbours): what is measured in one go is compared with
another moment. Each round has every competitor once, in an order of its own, so none always follows the same one.
"""

from __future__ import annotations

import contextlib
import random
import statistics
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dynbert_bench.arrays import compare, read_arrays
from dynbert_bench.client import Worker, WorkerError
from dynbert_bench.results import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dynbert_bench.options import Timing
    from dynbert_bench.protocol import Burst, MeasureSpec

__all__ = ["LEAST_COSINE", "PreparedSetup", "Entrant", "Outcome", "measure_in_turns", "round_orders"]

LEAST_COSINE = 0.95
"""Outputs less alike than this to PyTorch's are not taken for answers of the same model. Random weights are the hard
case: INT8 rounding changes which tokens are kept there."""


@dataclass(frozen=True)
class PreparedSetup:
    """One setup of an entrant, ready to be started."""

    settings: str
    spec: MeasureSpec | None
    """None where it could not be prepared."""
    failure: str | None = None
    """Why not."""


@dataclass(frozen=True)
class Entrant:
    """What takes turns: a competitor, or a matrix product."""

    name: str
    setups: tuple[PreparedSetup, ...]
    reference: Path | None
    """Outputs that it must give; None where there is nothing to compare."""


@dataclass(frozen=True)
class Outcome:
    """What was found of an entrant."""

    trials: tuple[Trial, ...]
    bursts: tuple[Burst, ...] = ()
    """One a round, in the order of rounds; empty where it failed."""
    load_seconds: float | None = None
    failure: str | None = None


def measure_in_turns(
    entrants: Sequence[Entrant], timing: Timing, folder: Path, *, advance: Callable[[int, int], None]
) -> Mapping[str, Outcome]:
    """Measure entrants against each other.

    Args:
        entrants: With names of their own.
        timing: How often and how long.
        folder: For the processes' files; must exist.
        advance: Told how many steps are done, of how many.

    Returns:
        Name -> outcome; every entrant has one, failed or not.
    """
    outcomes: dict[str, Outcome] = {}
    running: dict[str, Worker] = {}
    steps = len(entrants) * (1 + timing.rounds)
    with contextlib.ExitStack() as stack:
        for done, entrant in enumerate(entrants):
            advance(done, steps)
            worker, outcomes[entrant.name] = _start_best(entrant, timing, folder, stack)
            if worker is not None:
                running[entrant.name] = worker
        done = len(entrants)
        for order in round_orders([entrant.name for entrant in entrants], timing.rounds):
            for name in order:
                if name in running:
                    outcomes[name] = _run_turn(running, name, timing.burst_seconds, outcomes[name])
                done += 1
                advance(done, steps)
    return outcomes


def round_orders(names: Sequence[str], rounds: int) -> Iterator[tuple[str, ...]]:
    """Yield the order of each round.

    Args:
        names: Of those who take turns.
        rounds: How many.

    Yields:
        All names, in a shuffled order that is the same in every run.
    """
    generator = random.Random(0)  # noqa: S311 -- an order, no secret
    for _ in range(rounds):
        yield tuple(generator.sample(list(names), len(names)))


def _run_turn(running: dict[str, Worker], name: str, seconds: float, outcome: Outcome) -> Outcome:
    """Return the outcome with one more burst, or with a failure; a failed worker takes no more turns."""
    try:
        return replace(outcome, bursts=(*outcome.bursts, running[name].burst(seconds)))
    except WorkerError as err:
        running.pop(name).close()
        return replace(outcome, bursts=(), failure=str(err))


def _start_best(
    entrant: Entrant, timing: Timing, folder: Path, stack: contextlib.ExitStack
) -> tuple[Worker | None, Outcome]:
    """Start all setups of an entrant, let them take turns, keep the best and end the others."""
    workers: dict[int, Worker] = {}
    trials: list[Trial] = []
    for index, setup in enumerate(entrant.setups):
        failure = setup.failure
        agreement: tuple[float, float] | None = None
        if setup.spec is not None:
            try:
                workers[index] = stack.enter_context(Worker(setup.spec, folder / f"{entrant.name}-{index}"))
                agreement = _agreement(entrant.reference, setup.spec)
            except WorkerError as err:
                failure = str(err)
        cosine, difference = agreement or (None, None)
        trials.append(Trial(settings=setup.settings, cosine=cosine, max_abs_difference=difference, failure=failure))
    trials = _try_all(workers, trials, timing)
    best = _choose(trials)
    for index, worker in workers.items():
        if index != best:
            worker.close()
    if best is None:
        return None, Outcome(tuple(trials), failure="; ".join(str(trial.failure) for trial in trials))
    trials[best] = _replace_trial(trials[best], is_chosen=True)
    return workers[best], Outcome(tuple(trials), load_seconds=workers[best].ready.load_seconds)


def _try_all(workers: Mapping[int, Worker], trials: list[Trial], timing: Timing) -> list[Trial]:
    """Return the trials with a time each; a setup without rivals needs none."""
    if len(workers) < 2:
        return trials
    times: dict[int, list[float]] = {index: [] for index in workers}
    failures: dict[int, str] = {}
    for _ in range(timing.trial_bursts):
        for index, worker in workers.items():
            if index not in failures:
                try:
                    times[index].append(statistics.median(worker.burst(timing.burst_seconds).seconds))
                except WorkerError as err:
                    failures[index] = str(err)
    return [
        _replace_trial(trial, failure=failures[index])
        if index in failures
        else _replace_trial(trial, median_ms=1e3 * statistics.median(times[index]))
        if index in times
        else trial
        for index, trial in enumerate(trials)
    ]


def _choose(trials: Sequence[Trial]) -> int | None:
    """Return the fastest of those that give PyTorch's answers; where none does, the fastest."""
    usable = [index for index, trial in enumerate(trials) if trial.failure is None]
    right = [index for index in usable if (trials[index].cosine or 0.0) >= LEAST_COSINE]
    return min(right or usable, key=lambda index: trials[index].median_ms or 0.0, default=None)


def _replace_trial(trial: Trial, **changes: object) -> Trial:
    fields = {name: getattr(trial, name) for name in trial.__struct_fields__}
    return Trial(**(fields | changes))


def _agreement(reference: Path | None, spec: MeasureSpec) -> tuple[float, float] | None:
    return compare(read_arrays(reference), read_arrays(Path(spec.outputs))) if reference is not None else None
