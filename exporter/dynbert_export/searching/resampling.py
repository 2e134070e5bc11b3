"""When a candidate is hopeless: resampled quality, paired by drawing the same examples for all.

The bootstrap of a metric (Efron and Tibshirani 1993) over resamples that depend on nothing but the number of examples
and a seed. So the same resample means the same examples for every candidate, and the differences of two candidates,
resample by resample, are the paired bootstrap (Koehn 2004), for means and for metrics that are none. A thousand numbers
are all that has to be kept of a candidate's answers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from dynbert.scoring.metrics import ScoredMetric

__all__ = ["RESAMPLES", "is_worse", "resample"]

RESAMPLES = 1000
_CHANCE = 0.01
"""Share of the resamples in which a candidate that is given up may yet be as good: a candidate has several looks taken
at it, and is compared with several others."""
_NUMBERS_AT_ONCE = 1 << 22
"""Drawn places that are in memory at a time."""


def resample(metric: ScoredMetric, *, seed: int) -> NDArray[np.float64]:
    """Return a metric over resamples of its examples.

    Args:
        metric: Over at least one example.
        seed: With the number of examples, it alone decides what is drawn.

    Returns:
        [``RESAMPLES``].
    """
    values = None if metric.per_example is None else np.asarray(metric.per_example, np.float64)
    return np.concatenate(
        [
            np.array([metric.over(each) for each in places]) if values is None else values[places].mean(axis=1)
            for places in _draw(metric.examples, seed)
        ]
    )


def is_worse(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Return whether one candidate is worse than another beyond reasonable doubt.

    Args:
        one: Its resampled metric.
        other: The other's, of the same examples.

    Returns:
        Whether it is as good in hardly any resample.
    """
    return float(np.mean(one >= other)) < _CHANCE


def _draw(examples: int, seed: int) -> Iterable[NDArray[np.int64]]:
    """Yield the places of all resamples, [some, examples], in pieces that fit into memory."""
    generator = np.random.default_rng([seed, examples])
    together = max(1, _NUMBERS_AT_ONCE // examples)
    for start in range(0, RESAMPLES, together):
        yield generator.integers(examples, size=(min(together, RESAMPLES - start), examples))
