"""The space that is searched, as numbers between 0 and 1 that any sampler may choose freely.

A length config never increases. So a layer's parameter says how much it drops of what enters it, and every choice of
parameters is a valid config. ``drop_N`` below the dead zone drops nothing: a layer without a cut is faster (no votes,
no ranking), so that this must not be a choice of probability zero. Above it, the share that is kept falls in log space,
slowly at first: ``least ** (t ** 3)``, where ``t`` is how far the parameter is behind the zone. Random parameters cut
in about two and a half layers.

Layers to leave out are a further choice, where they are searched: ``leave_out`` says how many, none up to its own dead
zone, and ``keep_layer_N`` which ones: those whose numbers are lowest. A layer that does not run drops nothing.

Counts of tokens are the same shares of the longest input. What drops no token of the data is made to drop none at all,
so that it has no cut: 1.0 among fractions, the maximum length among counts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.lengths import LengthConfig
from dynbert_export.options.vocabularies import LengthKind
from dynbert_export.searching.candidate import Candidate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy as np
    from optuna import Trial
    from optuna.distributions import BaseDistribution

    from dynbert_export.searching.candidate import Body

__all__ = ["KIND", "LEAST_SHARE", "Space"]

KIND = "kind"
"""The parameter that chooses between fractions and counts, where both are searched."""
LEAST_SHARE = 0.05
"""Least share of an input that a layer keeps: 19 tokens of 384, 2 of 40. With less there is nothing left to answer
from, and little left to save."""
_DIGITS = 3
"""Of a fraction: a recipe is read by people."""
_USUAL_CUTS = 2.5
_BEND = 3
_LEAVE_OUT = "leave_out"
_ALL_LAYERS = 0.7
"""``leave_out`` up to this runs all layers: seven in ten random candidates."""
_LEFT, _KEPT = 0.25, 0.75
"""Numbers of layers that do not run, and that do, in parameters made from a candidate."""


@dataclass(frozen=True)
class Space:
    """All candidates of one search."""

    body: Body
    kinds: tuple[LengthKind, ...]
    """One or both of fractions and counts."""
    longest: int
    """Tokens of the data's longest input: what counts are shares of."""
    most_left_out: int = 0
    """Layers that a candidate may leave out at most, less than the model has."""

    @property
    def distributions(self) -> dict[str, BaseDistribution]:
        """Parameter's name -> what it may be, as Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        numbers: dict[str, BaseDistribution] = {name: FloatDistribution(0.0, 1.0) for name in self._numbers}
        if len(self.kinds) == 1:
            return numbers
        return {KIND: CategoricalDistribution([kind.value for kind in self.kinds]), **numbers}

    def suggest(self, trial: Trial) -> Candidate:
        """Return the candidate of a trial.

        Args:
            trial: Optuna's; its parameters are chosen here.

        Returns:
            The candidate.
        """
        parameters: dict[str, Any] = {}
        if len(self.kinds) > 1:
            parameters[KIND] = trial.suggest_categorical(KIND, [kind.value for kind in self.kinds])
        for name in self._numbers:
            parameters[name] = trial.suggest_float(name, 0.0, 1.0)
        return self.decode(parameters)

    def decode(self, parameters: Mapping[str, Any]) -> Candidate:
        """Return the candidate that parameters stand for.

        Args:
            parameters: Name -> value, for each of ``distributions``.

        Returns:
            A valid candidate, whatever the values.
        """
        share = 1.0
        shares = []
        for layer in range(self.body.cutting_layers):
            share = max(share * self._keep(float(parameters[_drop_name(layer)])), LEAST_SHARE)
            shares.append(share)
        return self.make(LengthKind(parameters.get(KIND, self.kinds[0])), shares, self._decode_layers(parameters))

    def encode(self, candidate: Candidate) -> dict[str, Any]:
        """Return parameters that stand for a candidate.

        Args:
            candidate: Of this space; another is taken as the nearest one of it.

        Returns:
            Name -> value.
        """
        before = 1.0
        parameters: dict[str, Any] = {KIND: self.kind_of(candidate).value} if len(self.kinds) > 1 else {}
        for layer, share in enumerate(self.shares_of(candidate)):
            parameters[_drop_name(layer)] = self._drop(share / before)
            before = share
        return parameters | self._encode_layers(candidate)

    def kind_of(self, candidate: Candidate) -> LengthKind:
        """Return whether a candidate is one of fractions or of counts, or in a space of one kind that one.

        Args:
            candidate: Any candidate.

        Returns:
            The kind.
        """
        if len(self.kinds) == 1:
            return self.kinds[0]
        return LengthKind.FRACTIONS if candidate.lengths.is_fractional else LengthKind.COUNTS

    def shares_of(self, candidate: Candidate) -> tuple[float, ...]:
        """Return the shares of the longest input that a candidate keeps.

        Args:
            candidate: Any candidate.

        Returns:
            One share a cutting layer, in [``LEAST_SHARE``, 1], non-increasing.
        """
        unit = 1.0 if candidate.lengths.is_fractional else float(self.longest)
        lengths = candidate.lengths.lengths[: self.body.cutting_layers]
        shares = [min(max(length / unit, LEAST_SHARE), 1.0) for length in lengths]
        return tuple(self._pass_on(shares, candidate.layers))

    def make(self, kind: LengthKind, shares: Sequence[float], layers: tuple[int, ...] | None = None) -> Candidate:
        """Return the candidate that keeps these shares.

        Args:
            kind: Fractions or counts.
            shares: One a cutting layer, in [``LEAST_SHARE``, 1], non-increasing.
            layers: Indices of the layers that run, ascending; None for all.

        Returns:
            The candidate. A layer that drops nothing because it does not run, or runs for one token, has the lengths
            of the one before, which say nothing.
        """
        shares = self._pass_on(shares, layers)
        if kind is LengthKind.FRACTIONS:
            fractions = (max(round(share, _DIGITS), LEAST_SHARE) for share in shares)
            lengths: list[int | float] = [1.0 if self._drops_nothing(each) else each for each in fractions]
        else:
            least = 2 if self.body.always_keep_cls_token else 1
            counts = [max(round(share * self.longest), min(least, self.longest)) for share in shares]
            lengths = [self.body.max_length if count >= self.longest else count for count in counts]
        everything = 1.0 if kind is LengthKind.FRACTIONS else self.body.max_length
        rest = self.body.num_layers - len(lengths)
        return Candidate(LengthConfig((*lengths, *[lengths[-1] if lengths else everything] * rest)), layers)

    def full(self) -> Candidate:
        """Return the candidate that drops nothing."""
        return self.make(self.kinds[0], [1.0] * self.body.cutting_layers)

    def uniform(self, share: float) -> Candidate:
        """Return the candidate that keeps one share in each layer: it drops at once.

        Args:
            share: In [``LEAST_SHARE``, 1].

        Returns:
            The candidate.
        """
        return self.make(self.kinds[0], [share] * self.body.cutting_layers)

    def staircase(self, share: float) -> Candidate:
        """Return the candidate each of whose layers keeps the same share of what enters it.

        Args:
            share: What is left after the last cutting layer, in [``LEAST_SHARE``, 1].

        Returns:
            The candidate.
        """
        layers = self.body.cutting_layers
        return self.make(self.kinds[0], [share ** ((layer + 1) / layers) for layer in range(layers)])

    def draw(self, generator: np.random.Generator) -> Candidate:
        """Return a random candidate, as uniform parameters give it.

        Args:
            generator: Of the numbers.

        Returns:
            The candidate.
        """
        parameters: dict[str, Any] = {name: generator.random() for name in self._numbers}
        if len(self.kinds) > 1:
            parameters[KIND] = self.kinds[int(generator.integers(len(self.kinds)))].value
        return self.decode(parameters)

    def leave_out(self, candidate: Candidate, layers: Iterable[int]) -> Candidate:
        """Return a candidate without some layers.

        Args:
            candidate: Of this space.
            layers: Indices of those that are not to run, less than the model has.

        Returns:
            The candidate; the others keep the shares that they kept.
        """
        return self.make(self.kind_of(candidate), self.shares_of(candidate), self._list_others(set(layers)))

    @property
    def _numbers(self) -> list[str]:
        """The parameters that are numbers from 0 to 1."""
        names = [_drop_name(layer) for layer in range(self.body.cutting_layers)]
        if self.most_left_out:
            names += [_LEAVE_OUT, *(_keep_name(layer) for layer in range(self.body.num_layers))]
        return names

    def _decode_layers(self, parameters: Mapping[str, Any]) -> tuple[int, ...] | None:
        if not self.most_left_out:
            return None
        behind = (float(parameters[_LEAVE_OUT]) - _ALL_LAYERS) / (1.0 - _ALL_LAYERS)
        count = min(max(math.ceil(behind * self.most_left_out), 0), self.most_left_out)
        by_number = sorted(range(self.body.num_layers), key=lambda layer: float(parameters[_keep_name(layer)]))
        return self._list_others(set(by_number[:count]))

    def _encode_layers(self, candidate: Candidate) -> dict[str, float]:
        if not self.most_left_out:
            return {}
        running = candidate.list_running(self.body)
        layers = range(self.body.num_layers)
        count = min(self.body.num_layers - len(running), self.most_left_out)
        share = (count - 0.5) / self.most_left_out  # the middle of those that leave out so many
        leave_out = _ALL_LAYERS + (1.0 - _ALL_LAYERS) * share if count else _ALL_LAYERS / 2
        return {
            _LEAVE_OUT: leave_out,
            **{_keep_name(layer): _KEPT if layer in running else _LEFT for layer in layers},
        }

    def _list_others(self, left: set[int]) -> tuple[int, ...] | None:
        return tuple(layer for layer in range(self.body.num_layers) if layer not in left) if left else None

    def _pass_on(self, shares: Sequence[float], layers: tuple[int, ...] | None) -> list[float]:
        """Return shares in which layers that cannot drop anything keep what the layer before keeps."""
        if layers is None:
            return list(shares)
        cutting = layers[:-1] if self.body.has_single_token_layer else layers
        passed: list[float] = []
        for layer, share in enumerate(shares):
            passed.append(share if layer in cutting else (passed[-1] if passed else 1.0))
        return passed

    def _drops_nothing(self, fraction: float) -> bool:
        """Return whether a fraction, which is rounded up to tokens, keeps all of every input of the data."""
        return fraction * self.longest > self.longest - 1

    @property
    def _dead_zone(self) -> float:
        """Parameters up to this one drop nothing."""
        return 1.0 - min(0.5, _USUAL_CUTS / max(self.body.cutting_layers, 1))

    def _keep(self, drop: float) -> float:
        """Return the share that is kept of what enters a layer."""
        if drop <= self._dead_zone:
            return 1.0
        return float(LEAST_SHARE ** (((drop - self._dead_zone) / (1.0 - self._dead_zone)) ** _BEND))

    def _drop(self, keep: float) -> float:
        """Return the parameter by which that share is kept; of those that drop nothing the middle one."""
        if keep >= 1.0:
            return self._dead_zone / 2
        behind = min((math.log(keep) / math.log(LEAST_SHARE)) ** (1 / _BEND), 1.0)
        return float(min(self._dead_zone + (1.0 - self._dead_zone) * behind, 1.0))


def _drop_name(layer: int) -> str:
    return f"drop_{layer}"


def _keep_name(layer: int) -> str:
    return f"keep_layer_{layer}"
