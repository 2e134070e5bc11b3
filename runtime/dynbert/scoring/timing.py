"""Time of inputs alone, at the lengths that the data has.

Candidates run in turn, all inputs of one before the next, so that a slow minute of the machine meets them all and each
has its weights in the cache, as it does where it serves alone. An input's time is the least of its rounds: what else
the machine does can only add to it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

__all__ = ["ROUNDS", "pick_evenly", "time_inputs"]

ROUNDS = 3
"""How often each input is run, where nothing else is asked for."""


def pick_evenly(inputs: Sequence[Any], count: int) -> list[Any]:
    """Return inputs from the first to the last, evenly apart.

    Args:
        inputs: At least one.
        count: How many, at least 1; all where there are no more.

    Returns:
        The inputs, in their order.
    """
    places = np.unique(np.linspace(0, len(inputs) - 1, min(count, len(inputs))).round().astype(int))
    return [inputs[place] for place in places]


def time_inputs(
    candidates: Sequence[Callable[[Any], object]],
    inputs: Sequence[Any],
    *,
    rounds: int = ROUNDS,
    on_round: Callable[[], object] | None = None,
) -> NDArray[np.float64]:
    """Measure how long each candidate takes for each input alone.

    Args:
        candidates: Each answers one input.
        inputs: At least one.
        rounds: How often each input is run, at least 1.
        on_round: Called whenever a candidate has run all inputs once.

    Returns:
        Milliseconds, [candidates, inputs]: the least of all rounds.
    """
    best = np.full((len(candidates), len(inputs)), np.inf)
    for candidate in candidates:
        candidate(inputs[0])  # opens the graph
    for _ in range(rounds):
        for number, candidate in enumerate(candidates):
            for place, one in enumerate(inputs):
                start = time.perf_counter()
                candidate(one)
                best[number, place] = min(best[number, place], 1e3 * (time.perf_counter() - start))
            if on_round is not None:
                on_round()
    return best
