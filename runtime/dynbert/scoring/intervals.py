"""How sure a metric is, and whether two systems differ: both by the examples that there happen to be.

An interval is the percentile bootstrap (Efron and Tibshirani 1993, chapter 13): the metric over many samples drawn from
the examples with replacement. It does not cover what another training run would change.

Two systems on the same examples are compared pair by pair. Where each example is right or wrong, by McNemar's exact
test: the examples that only one of them gets right are a fair coin's if they are equally good (Dietterich 1998 finds it
right where a system is trained once). Else by the paired bootstrap (Koehn 2004; Berg-Kirkpatrick, Burkett and Klein
2012): how often resampling alone makes a difference as large as the one that was seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.packages import import_extra

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from dynbert.scoring.metrics import ScoredMetric

__all__ = ["Comparison", "Interval", "bootstrap_interval", "compare"]

_RESAMPLES = 2000
_LEVEL = 0.95
_NUMBERS_AT_ONCE = 1 << 22
"""Resampled values that are in memory at a time."""
_MCNEMAR, _BOOTSTRAP = "McNemar's exact test", "paired bootstrap"


@dataclass(frozen=True)
class Interval:
    """Where a value probably lies."""

    low: float
    high: float
    level: float
    """How probably, in (0, 1)."""


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same examples."""

    metric: str
    """The metric's name."""
    difference: float
    """The second system's value less the first one's."""
    interval: Interval
    """Of the difference."""
    p_value: float
    """How probably systems that are equally good differ at least so much; two-sided."""
    test: str
    """Which test it is of."""


def bootstrap_interval(
    metric: ScoredMetric, *, level: float = _LEVEL, resamples: int = _RESAMPLES, seed: int = 0
) -> Interval:
    """Return the interval of a metric.

    Args:
        metric: Over at least two examples.
        level: How probably the value lies in it, in (0, 1).
        resamples: How often examples are drawn.
        seed: Equal seeds draw equal examples.

    Returns:
        The interval.

    Raises:
        InputError: If there are less than two examples, or the level is out of its range.
        MissingPackageError: If scipy is not installed.
    """
    values = None if metric.per_example is None else np.asarray(metric.per_example, np.float64)
    low, high, _ = _bootstrap(values, metric.over, metric.examples, level=level, resamples=resamples, seed=seed)
    return Interval(low, high, level)


def compare(
    first: ScoredMetric, second: ScoredMetric, *, level: float = _LEVEL, resamples: int = _RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare two systems by their answers to the same examples.

    Args:
        first: A metric of the first system.
        second: The same of the second one, over the same examples in the same order.
        level: Of the difference's interval, in (0, 1).
        resamples: How often examples are drawn.
        seed: Equal seeds draw equal examples.

    Returns:
        The difference, second less first, its interval, and whether it may be chance.

    Raises:
        InputError: If the metrics differ in name or number of examples, there are less than two examples, or the level
            is out of its range.
        MissingPackageError: If scipy is not installed.
    """
    if (first.name, first.examples, first.unit) != (second.name, second.examples, second.unit):
        raise InputError(
            f"Metrics must be the same over the same examples, got {first.name} over {first.examples} {first.unit} and "
            f"{second.name} over {second.examples} {second.unit}."
        )

    def difference(indices: NDArray[np.int64]) -> float:
        return second.over(indices) - first.over(indices)

    values = None
    if first.per_example is not None and second.per_example is not None:
        values = np.subtract(second.per_example, first.per_example)
    low, high, drawn = _bootstrap(values, difference, first.examples, level=level, resamples=resamples, seed=seed)
    seen = second.value - first.value
    if values is not None and set(first.per_example or ()) | set(second.per_example or ()) <= {0.0, 1.0}:
        p_value, test = _mcnemar(values), _MCNEMAR
    else:
        # Equal systems' differences lie around 0 as the drawn ones lie around the one that was seen. One more counts
        # on both sides: what was seen is a draw, too, and no test of so many draws can say 0.
        extreme = np.count_nonzero(np.abs(drawn - seen) >= abs(seen) - 1e-12)
        p_value, test = (extreme + 1) / (len(drawn) + 1), _BOOTSTRAP
    return Comparison(first.name, seen, Interval(low, high, level), p_value, test)


def _mcnemar(differences: NDArray[np.float64]) -> float:
    """Return the p value of differences of -1, 0 and 1."""
    stats = import_extra("scipy.stats", extra="eval", purpose="compare systems")
    better, worse = int((differences > 0).sum()), int((differences < 0).sum())
    return float(stats.binomtest(better, better + worse).pvalue) if better + worse else 1.0


def _bootstrap(
    values: NDArray[np.float64] | None,
    statistic: Callable[[NDArray[np.int64]], float],
    examples: int,
    *,
    level: float,
    resamples: int,
    seed: int,
) -> tuple[float, float, NDArray[np.float64]]:
    """Return the ends of the percentile interval, and all that was drawn, [resamples].

    ``values`` are those of a mean, [examples]; None draws indices for ``statistic``.
    """
    if not 0 < level < 1:
        raise InputError(f"level must be greater than 0 and less than 1, got {level}.")
    if examples < 2:
        raise InputError(f"An interval must have at least 2 examples to draw from, got {examples}.")
    stats = import_extra("scipy.stats", extra="eval", purpose="compute intervals")
    data: Any = (np.arange(examples),) if values is None else (values,)
    result = stats.bootstrap(
        data,
        statistic if values is None else np.mean,
        vectorized=values is not None,
        n_resamples=resamples,
        batch=max(1, _NUMBERS_AT_ONCE // examples),
        confidence_level=level,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    interval = result.confidence_interval
    return float(interval.low), float(interval.high), np.asarray(result.bootstrap_distribution)
