"""What every search tries first: full, shapes that people would try, the checkpoint's own lengths, a spread.

Uniform configs keep one share in each layer, staircases the same share of what enters each layer; what a search finds
is compared with them. All are spread evenly over the logarithm of the predicted time, so that there is one near any
profile. Where layers are searched, others leave out one layer and drop nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from dynbert_export.searching.space import LEAST_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dynbert_export.searching.candidate import Candidate
    from dynbert_export.searching.space import Space

__all__ = ["FULL_FAMILY", "STAIRCASE", "UNIFORM", "make_seeds"]

FULL_FAMILY, UNIFORM, STAIRCASE = "full", "uniform", "staircase"
_SPREAD, _LAYERS = "spread", "layers"
_SHARE_OF_TRIALS = 10
"""One trial in so many is of each family."""
_FEWEST, _MOST = 2, 12
"""Configs of a family."""
_DRAWN = 400
_STEP = 1000


def make_seeds(
    space: Space,
    predict: Callable[[Candidate], float],
    *,
    trials: int,
    known: Iterable[tuple[str, Candidate]],
    seed: int,
) -> list[tuple[str, Candidate]]:
    """Return what is tried first.

    Args:
        space: What is searched.
        predict: The time of a candidate, in any unit.
        trials: Of the search.
        known: Family and config of what the caller knows, such as the checkpoint's own lengths.
        seed: Of the spread.

    Returns:
        Family and config, full first.
    """
    count = min(max(trials // _SHARE_OF_TRIALS, _FEWEST), _MOST)
    shares = [share / _STEP for share in range(math.ceil(LEAST_SHARE * _STEP), _STEP)]
    families = {
        UNIFORM: [space.uniform(share) for share in shares],
        STAIRCASE: [space.staircase(share) for share in shares],
        _SPREAD: [space.draw(generator) for generator in [np.random.default_rng(seed)] for _ in range(_DRAWN)],
    }
    slowest = predict(space.full())
    seeds = [(FULL_FAMILY, space.full()), *known]
    for family, candidates in families.items():
        seeds += [(family, candidate) for candidate in _spread(candidates, predict, count, slowest)]
    if space.most_left_out:
        layers = np.random.default_rng(seed).permutation(space.body.num_layers)[:count]
        seeds += [(_LAYERS, space.leave_out(space.full(), [layer])) for layer in sorted(layers.tolist())]
    return seeds


def _spread(
    candidates: list[Candidate], predict: Callable[[Candidate], float], count: int, slowest: float
) -> list[Candidate]:
    """Return so many candidates whose times are evenly apart on a logarithmic scale, the slowest first."""
    times = np.log([predict(candidate) for candidate in candidates])
    targets = np.linspace(math.log(slowest), times.min(), count + 1)[1:]
    places = dict.fromkeys(int(np.abs(times - target).argmin()) for target in targets)
    return [candidates[place] for place in places]
