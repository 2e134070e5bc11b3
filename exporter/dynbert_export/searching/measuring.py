"""Times of graphs, each in its turn: what one round shows of one graph, it shows of all.

A machine that others use is slower now and then. All graphs are timed in each round, in an order of its own, so that a
slow minute hits them alike; and a round is left out of account where it is slow as a whole, by comparing each graph
with the others of its round. Within a turn the first run is not counted: it finds the caches full of another graph.

On one thread it is the thread's own processor time that is taken, which is the time that passes where nobody else wants
the core, and does not count how long others had it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from dynbert.session import Graph

__all__ = ["Turn", "combine_rounds", "measure_turns"]

_RUNS = 2
"""Of a turn that count; the fastest of them is the turn's time."""
_SWEEPS = 10


class Turn(NamedTuple):
    """One graph on one input."""

    graph: Graph
    feed: Mapping[str, NDArray[np.int64]]
    """What the graph takes."""


def measure_turns(
    turns: Sequence[Turn], *, rounds: int, seed: int, threads: int, on_round: Callable[[int], None] = lambda _: None
) -> NDArray[np.float64]:
    """Time graphs in turn.

    Args:
        turns: What is timed.
        rounds: How often each has its turn.
        seed: Of the order within a round.
        threads: Threads that the graphs compute on; decides on the clock.
        on_round: Told how many rounds are done.

    Returns:
        Seconds, [turns].
    """
    generator = np.random.default_rng(seed)
    clock = time.thread_time if threads == 1 else time.perf_counter
    seconds = np.empty((rounds, len(turns)))
    for number in range(rounds):
        for place in generator.permutation(len(turns)):
            seconds[number, place] = _time_turn(turns[place], clock)
        on_round(number + 1)
    return combine_rounds(seconds)


def combine_rounds(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return one time a graph from those of several rounds.

    By median polish of the logarithms (Tukey 1977, chapter 11): how much slower a round is than usual is told by all
    its graphs, and taken off before a graph's median over rounds.

    Args:
        seconds: [rounds, graphs].

    Returns:
        Seconds, [graphs], at the speed of the median round.
    """
    rest = np.log(seconds)
    of_round, of_graph = np.zeros(len(rest)), np.zeros(rest.shape[1])
    for _ in range(_SWEEPS):
        change = np.median(rest, axis=0)
        of_graph += change
        rest = rest - change
        change = np.median(rest, axis=1)
        of_round += change
        rest = rest - change[:, None]
    return np.asarray(np.exp(of_graph + np.median(of_round)))


def _time_turn(turn: Turn, clock: Callable[[], float]) -> float:
    turn.graph.run(turn.feed)
    times = []
    for _ in range(_RUNS):
        start = clock()
        turn.graph.run(turn.feed)
        times.append(clock() - start)
    return min(times)
