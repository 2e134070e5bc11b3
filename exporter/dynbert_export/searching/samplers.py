"""What proposes configs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynbert_export.options.vocabularies import SamplerOption
from dynbert_export.searching.evolution import EvolutionSampler

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from dynbert_export.searching.space import Space

__all__ = ["make_sampler"]

_NSGA2_POPULATION = 20
"""Optuna's 50 would leave a search of 100 trials two generations."""


def make_sampler(option: SamplerOption, space: Space, *, seed: int, trial: int) -> BaseSampler:
    """Return the sampler of one trial.

    Each trial gets a sampler of its own, seeded by the trials before it: one that lived on would draw the same numbers
    again in a process that goes on with the study, and in every further worker.

    Args:
        option: Which one.
        space: What is searched.
        seed: Of the search.
        trial: Trials there are so far.

    Returns:
        The sampler; what it knows of earlier trials, it reads from the study.
    """
    import optuna

    of_trial = int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])
    if option is SamplerOption.EVOLUTION:
        return EvolutionSampler(space, seed=of_trial)
    if option is SamplerOption.NSGA2:
        return optuna.samplers.NSGAIISampler(population_size=_NSGA2_POPULATION, seed=of_trial)
    if option is SamplerOption.TPE:
        return optuna.samplers.TPESampler(seed=of_trial)
    return optuna.samplers.RandomSampler(seed=of_trial)
