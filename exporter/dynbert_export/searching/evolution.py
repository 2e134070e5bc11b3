"""Kim and Cho's evolutionary search as a sampler of Optuna (2021, "Length-Adaptive Transformer", section 3.2).

The population is the front: the finished candidates that no other one beats in quality and time at once. A child is one
of them mutated (each layer, with a probability, draws its length anew between those of its neighbours), or the mean of
two. Here time is what is predicted for the user's data, not a count of operations.

Ours: a length that is drawn anew is that of a neighbour with some probability, because a layer that keeps what
enters it has no cut and is faster, which a draw between them would never give. Parents are drawn evenly over the
logarithm of time, so that gaps in the front are filled. Where layers are searched, a mutant may leave out one more or
run one again, and a child of two runs the layers of one of them. One candidate in ten is no child but a random one:
without, one search in four of a made-up model stood still at a few configs. A child that was tried before is drawn
again. There are no generations, so that workers need not wait for each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from dynbert_export.searching.space import KIND, LEAST_SHARE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

    from dynbert_export.searching.candidate import Candidate
    from dynbert_export.searching.space import Space

__all__ = ["EvolutionSampler", "cross", "mutate"]

_MUTATION_PROBABILITY = 0.5
"""Of a layer in a child that is mutated."""
_MUTANTS = 0.5
"""Share of the children that are mutated; the others are crossed."""
_SNAP_PROBABILITY = 0.25
"""With which a drawn length is that of the layer before; and with which it is that of the layer behind."""
_STRANGERS = 0.1
"""Share of the candidates that are no children at all: what no parent has, no child gets."""
_POPULATION = 10
"""Trials that came to an end before there are children; what was enqueued is among them."""
_OTHER_LAYERS_PROBABILITY = 0.15
"""With which a layer of a mutant no longer runs, or runs again, where layers are searched."""
_OTHER_KIND_PROBABILITY = 0.1
"""With which a child of fractions becomes one of counts, or the other way, where both are searched."""
_ATTEMPTS = 50
"""Children that were tried before are drawn again so often; then chance decides."""


def mutate(shares: Sequence[float], generator: np.random.Generator) -> tuple[float, ...]:
    """Return shares some of which are drawn anew, each between its neighbours.

    Args:
        shares: In [``LEAST_SHARE``, 1], non-increasing.
        generator: Of the numbers.

    Returns:
        As many, of the same form; at least one of them was drawn.
    """
    is_drawn = generator.random(len(shares)) < _MUTATION_PROBABILITY
    is_drawn[generator.integers(len(shares))] = True
    mutated: list[float] = []
    for layer, share in enumerate(shares):
        if not is_drawn[layer]:
            mutated.append(share)
            continue
        most = mutated[-1] if mutated else 1.0
        least = shares[layer + 1] if layer + 1 < len(shares) else LEAST_SHARE
        chance = generator.random()
        if chance < _SNAP_PROBABILITY:
            mutated.append(most)
        elif chance > 1.0 - _SNAP_PROBABILITY:
            mutated.append(least)
        else:
            mutated.append(min(max(float(generator.uniform(least, most)), least), most))
    return tuple(mutated)


def cross(first: Sequence[float], second: Sequence[float]) -> tuple[float, ...]:
    """Return the mean of two parents, layer by layer.

    Args:
        first: Shares, non-increasing.
        second: As many.

    Returns:
        As many, non-increasing.
    """
    return tuple((one + other) / 2 for one, other in zip(first, second, strict=True))


class EvolutionSampler(BaseSampler):
    """Children of the front; random candidates until there is a population.

    Args:
        space: What is searched.
        seed: Equal seeds and equal finished trials give equal children.
    """

    def __init__(self, space: Space, *, seed: int) -> None:
        self._space = space
        self._generator = np.random.default_rng(seed)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:  # noqa: ARG002 -- Optuna's signature
        """Return every parameter: a child is made as a whole."""
        return self._space.distributions

    def sample_relative(
        self,
        study: Study,
        trial: FrozenTrial,  # noqa: ARG002 -- Optuna's signature
        search_space: dict[str, BaseDistribution],  # noqa: ARG002 -- Optuna's signature
    ) -> dict[str, Any]:
        """Return the parameters of a child that nobody tried."""
        others = study.get_trials(deepcopy=False)
        finished = sum(each.state in {TrialState.COMPLETE, TrialState.PRUNED} for each in others)
        front = study.best_trials if finished >= _POPULATION else []
        parents = [(self._space.decode(each.params), float(each.values[1])) for each in front]
        tried = {str(self._space.decode(each.params)) for each in others if self._is_whole(each)}
        tried |= {
            str(self._space.decode(each.system_attrs["fixed_params"]))
            for each in others
            if each.state is TrialState.WAITING and "fixed_params" in each.system_attrs
        }
        for _ in range(_ATTEMPTS):
            child = self._breed(parents) if parents else self._space.draw(self._generator)
            if str(child) not in tried:
                break
        else:
            child = self._space.draw(self._generator)
        return self._space.encode(child)

    def sample_independent(
        self,
        study: Study,  # noqa: ARG002 -- Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002 -- Optuna's signature
        param_name: str,
        param_distribution: BaseDistribution,  # noqa: ARG002 -- Optuna's signature
    ) -> Any:
        """Return a random value of a parameter that an enqueued trial left open."""
        if param_name == KIND:
            return self._space.kinds[int(self._generator.integers(len(self._space.kinds)))].value
        return float(self._generator.random())

    def _is_whole(self, trial: FrozenTrial) -> bool:
        """Return whether a trial has every parameter; one that just began has not."""
        return trial.params.keys() >= self._space.distributions.keys()

    def _breed(self, parents: Sequence[tuple[Candidate, float]]) -> Candidate:
        """Return a child of parents, which are given with their times."""
        generator = self._generator
        if generator.random() < _STRANGERS:
            return self._space.draw(generator)
        parent = self._choose(parents)
        kind = self._space.kind_of(parent)
        shares = self._space.shares_of(parent)
        partners = [each for each in parents if each[0] is not parent and self._space.kind_of(each[0]) is kind]
        if not partners or generator.random() < _MUTANTS:
            others = [each for each in self._space.kinds if each is not kind]
            is_other = bool(others) and generator.random() < _OTHER_KIND_PROBABILITY
            layers = self._mutate_layers(parent)
            return self._space.make(others[0] if is_other else kind, mutate(shares, generator), layers)
        partner = self._choose(partners)
        layers = (parent, partner)[int(generator.integers(2))].layers
        return self._space.make(kind, cross(shares, self._space.shares_of(partner)), layers)

    def _mutate_layers(self, parent: Candidate) -> tuple[int, ...] | None:
        """Return the layers of a mutant: its parent's, or one more or fewer of them."""
        generator, space = self._generator, self._space
        if not space.most_left_out or generator.random() >= _OTHER_LAYERS_PROBABILITY:
            return parent.layers
        left = set(range(space.body.num_layers)) - set(parent.list_running(space.body))
        if left and (len(left) == space.most_left_out or generator.random() < 0.5):
            left.discard(sorted(left)[int(generator.integers(len(left)))])
        else:
            running = parent.list_running(space.body)
            left.add(running[int(generator.integers(len(running)))])
        return space.leave_out(parent, left).layers

    def _choose(self, parents: Sequence[tuple[Candidate, float]]) -> Candidate:
        """Return the parent next to a time that is drawn evenly on a logarithmic scale, so that gaps are filled."""
        times = np.log([time for _, time in parents])
        target = self._generator.uniform(times.min(), times.max())
        return parents[int(np.abs(times - target).argmin())][0]
