"""How long one input takes under a length config: a few costs, fitted to measurements of the user's machine.

The time of an input is a sum over layers of what a layer does to the tokens that enter it and to those that leave it,
and a base. Each term is a feature that the config and the input's length decide, times a cost that is never negative:

- ``base``: one run. ``layers``: a layer that runs, by number (small inputs: operators have a price of their own).
- ``in``: tokens that enter a layer: queries, keys and values. ``attention``: their squares: scores, softmax, values.
- ``out``: tokens that leave it: the output projection, the feed-forward, LayerNormalization.
- ``cuts``, ``cut in``, ``cut attention``: the same by number, tokens and squares for layers with a cut alone: votes,
  ranking, gathering, putting back. A frozen graph has cuts only where it drops; the anytime graph has one in every
  layer. This is the principled part of the difference between the two, which are fitted together.
- ``single``: tokens that enter a last layer which runs for CLS alone.
- ``anytime``, ``anytime in``: what else the anytime graph takes longer for: shapes that are not folded, by run and by
  tokens.
- ``steps``: tokens by which the last block of rows of a product is not full, where measurements show such steps.

The costs are a least-squares fit of relative errors under the condition that none is negative (Lawson and Hanson 1974,
``scipy.optimize.nnls``). How far it is off is said by measurements that were left out of the fit.

A machine is not as fast at all times. By the frozen graph that drops nothing, which is measured with all others, it is
told how much its speed has changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from dynbert_export.searching.candidate import Body, Candidate

__all__ = ["FEATURES", "FitError", "Measurement", "TimeModel", "fit_time_model"]

FEATURES = (
    *("base", "layers", "in", "attention", "out"),
    *("cuts", "cut in", "cut attention"),
    *("single", "anytime", "anytime in", "steps"),
)
_BLOCKS = (0, 8, 16, 32)
"""Rows of a block that are tried for ``steps``; 0 for no such term."""
_CLEARLY_LESS, _LEAST_GAIN = 0.9, 1e-3
"""Steps must bring the median error below this share of the one without, and down by so much."""
_FOLDS = 8


@dataclass(frozen=True)
class Measurement:
    """How long one graph took for one input."""

    candidate: Candidate
    tokens: int
    """In the input."""
    is_frozen: bool
    """Whether the lengths were frozen into the graph; else it was the anytime graph."""
    seconds: float


@dataclass(frozen=True)
class FitError:
    """How far predictions are off, as shares of what was measured."""

    measurements: int
    median: float
    percentile_95: float

    @classmethod
    def of(cls, predicted: NDArray[np.float64], measured: NDArray[np.float64]) -> FitError:
        """Return the error of some predictions.

        Args:
            predicted: Times, [measurements].
            measured: The same as measured.

        Returns:
            The error.
        """
        relative = np.abs(predicted / measured - 1.0)
        return cls(len(relative), float(np.median(relative)), float(np.percentile(relative, 95)))


@dataclass(frozen=True)
class TimeModel:
    """The costs of a model on a machine."""

    costs: Mapping[str, float]
    """Feature -> seconds a unit of it."""
    block: int
    """Rows of a block; 0 where there are no steps."""
    all_error: FitError
    """Of measurements that were left out of the fit."""
    frozen_error: FitError
    """The same of frozen graphs alone."""
    full_seconds: Mapping[int, float]
    """Tokens of an input -> what the frozen graph that drops nothing took for it."""

    def predict(self, candidate: Candidate, tokens: int, body: Body, *, is_frozen: bool = True) -> float:
        """Return how long one input takes.

        Args:
            candidate: What runs.
            tokens: In the input.
            body: The model's.
            is_frozen: Whether the lengths are frozen into the graph.

        Returns:
            Seconds.
        """
        row = _features(candidate, tokens, body, is_frozen=is_frozen, block=self.block)
        return float(row @ np.array([self.costs[name] for name in FEATURES]))

    def find_change(self, full_seconds: Mapping[int, float]) -> float:
        """Return how the machine's speed has changed since the times of this model were measured.

        Args:
            full_seconds: Tokens of an input -> what the frozen graph that drops nothing takes now.

        Returns:
            How many times as long it takes, the median of the lengths that were measured then too.

        Raises:
            ValueError: If no length was.
        """
        both = sorted(full_seconds.keys() & self.full_seconds.keys())
        if not both:
            raise ValueError(
                f"full_seconds must have a length of {sorted(self.full_seconds)}, got {sorted(full_seconds)}."
            )
        return float(np.median([full_seconds[tokens] / self.full_seconds[tokens] for tokens in both]))

    def to_json(self) -> dict[str, Any]:
        """Return the model as JSON values; ``from_json`` reads them."""
        errors = {name: vars(error) for name, error in (("all", self.all_error), ("frozen", self.frozen_error))}
        full = {str(tokens): seconds for tokens, seconds in self.full_seconds.items()}
        return {"costs": dict(self.costs), "block": self.block, "errors": errors, "full_seconds": full}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TimeModel:
        """Read a model.

        Args:
            values: As ``to_json`` gives them.

        Returns:
            The model.
        """
        errors = values["errors"]
        return cls(
            {name: float(values["costs"][name]) for name in FEATURES},
            int(values["block"]),
            FitError(**errors["all"]),
            FitError(**errors["frozen"]),
            {int(tokens): float(seconds) for tokens, seconds in values["full_seconds"].items()},
        )


def fit_time_model(measurements: Sequence[Measurement], body: Body) -> TimeModel:
    """Fit the costs to measurements.

    Args:
        measurements: Of anytime and frozen graphs, of at least two configs, and of the frozen graph that drops nothing.
        body: The model's.

    Returns:
        The model, with its error on configs that were left out of the fit.
    """
    best: tuple[float, int, NDArray[np.float64]] | None = None
    measured = np.array([each.seconds for each in measurements])
    for block in _BLOCKS:
        predicted = _cross_validate(measurements, _matrix(measurements, body, block), measured)
        error = FitError.of(predicted, measured).median
        if best is None or error < min(_CLEARLY_LESS * best[0], best[0] - _LEAST_GAIN):
            best = (error, block, predicted)
    if best is None:
        raise AssertionError  # there are blocks to try
    _, block, predicted = best
    costs = _fit(_matrix(measurements, body, block), measured)
    is_frozen = np.array([each.is_frozen for each in measurements])
    return TimeModel(
        dict(zip(FEATURES, costs.tolist(), strict=True)),
        block,
        FitError.of(predicted, measured),
        FitError.of(predicted[is_frozen], measured[is_frozen]),
        {each.tokens: each.seconds for each in measurements if each.is_frozen and each.candidate.is_full(body)},
    )


def _matrix(measurements: Sequence[Measurement], body: Body, block: int) -> NDArray[np.float64]:
    """Return the features of measurements, [measurements, features]."""
    return np.array(
        [_features(each.candidate, each.tokens, body, is_frozen=each.is_frozen, block=block) for each in measurements]
    )


def _fit(matrix: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the costs with the least squared relative error, none of them negative."""
    from scipy.optimize import nnls

    scaled = matrix / seconds[:, None]
    size = np.maximum(np.linalg.norm(scaled, axis=0), np.finfo(np.float64).tiny)  # squares of tokens are large
    costs, _ = nnls(scaled / size, np.ones(len(seconds)))
    return np.asarray(costs / size)


def _cross_validate(
    measurements: Sequence[Measurement], matrix: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return for each measurement what a fit without its config predicts; folds are by configs, in order."""
    configs = list(dict.fromkeys(str(each.candidate) for each in measurements))
    fold = np.array([configs.index(str(each.candidate)) % min(_FOLDS, len(configs)) for each in measurements])
    predicted = np.empty(len(seconds))
    for number in np.unique(fold):
        left_out = fold == number
        predicted[left_out] = matrix[left_out] @ _fit(matrix[~left_out], seconds[~left_out])
    return predicted


def _features(candidate: Candidate, tokens: int, body: Body, *, is_frozen: bool, block: int) -> NDArray[np.float64]:
    """Return the features of one run, as ``FEATURES`` names them."""
    left = candidate.resolve(tokens, body)
    entering = (tokens, *left)
    came, went = np.array(entering[: len(left)], np.float64), np.array(left, np.float64)
    is_cut = np.array(candidate.find_cuts(body) if is_frozen else (True,) * len(left), bool)
    single = entering[-1] if body.has_single_token_layer else 0
    steps = float((-came % block).sum() + (-went % block).sum()) if block else 0.0
    return np.array(
        [
            *(1.0, float(len(candidate.list_running(body))), came.sum(), (came**2).sum(), went.sum()),
            *(is_cut.sum(), came[is_cut].sum(), (came[is_cut] ** 2).sum()),
            *(float(single), float(not is_frozen), 0.0 if is_frozen else came.sum(), steps),
        ],
        np.float64,
    )
