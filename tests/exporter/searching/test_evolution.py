"""Kim and Cho's operators always give valid configs; the sampler breeds the front, and repeats itself by its seed."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert_export.options.vocabularies import LengthKind, SamplerOption
from dynbert_export.searching.candidate import Body
from dynbert_export.searching.evolution import EvolutionSampler, cross, mutate
from dynbert_export.searching.front import hypervolume
from dynbert_export.searching.samplers import make_sampler
from dynbert_export.searching.seeds import make_seeds
from dynbert_export.searching.space import KIND, LEAST_SHARE, Space
from dynbert_export.searching.study import enqueue_missing

_SHARES = st.lists(st.floats(LEAST_SHARE, 1.0), min_size=1, max_size=12).map(lambda all_: sorted(all_, reverse=True))
_SEEDS = st.integers(0, 1 << 30)


@pytest.fixture(autouse=True)
def _quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


def _is_valid(shares):
    return all(LEAST_SHARE <= share <= 1.0 for share in shares) and list(shares) == sorted(shares, reverse=True)


@given(_SHARES, _SEEDS)
def test_mutants_are_valid_and_stay_between_their_neighbours(shares, seed):
    mutated = mutate(shares, np.random.default_rng(seed))
    assert len(mutated) == len(shares)
    assert _is_valid(mutated)
    for layer, share in enumerate(mutated):
        below = shares[layer + 1] if layer + 1 < len(shares) else LEAST_SHARE
        assert share >= below


@given(st.integers(1, 12), st.data())
def test_children_of_two_are_valid_and_lie_between_them(layers, data):
    parents = [
        sorted(data.draw(st.lists(st.floats(LEAST_SHARE, 1.0), min_size=layers, max_size=layers)), reverse=True)
        for _ in range(2)
    ]
    child = cross(*parents)
    assert _is_valid(child)
    assert all(min(both) <= share <= max(both) for share, *both in zip(child, *parents, strict=True))


def test_mutation_reaches_neighbours_and_what_lies_between():
    generator = np.random.default_rng(0)
    middles = [mutate((0.9, 0.5, 0.2), generator)[1] for _ in range(500)]
    assert 0.2 in middles  # the next layer then drops nothing
    assert 0.9 in middles  # this one does
    assert len({round(share, 3) for share in middles}) > 50


def _space(*kinds, layers=4, most_left_out=0):
    body = Body(layers, layers, 128, always_keep_cls_token=True)
    return Space(body, kinds or (LengthKind.FRACTIONS,), 100, most_left_out)


def _judge(space, trial):
    """Less time with each share, and quality that falls fast once the second layer keeps too little."""
    shares = space.shares_of(space.suggest(trial))
    return min(1.0, 1.5 * shares[1]) + 0.1 * shares[-1], sum(shares) + 0.1


def _run(space, sampler, trials, *, seed=0):
    study = optuna.create_study(directions=["maximize", "minimize"])
    for share in (0.8, 0.4):
        study.enqueue_trial(space.encode(space.uniform(share)))
        study.enqueue_trial(space.encode(space.staircase(share)))
    for number in range(trials):
        study.sampler = make_sampler(sampler, space, seed=seed, trial=number)
        study.optimize(lambda trial: _judge(space, trial), n_trials=1)
    return study


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampler", list(SamplerOption))
@pytest.mark.parametrize(("kinds", "most_left_out"), [((LengthKind.FRACTIONS,), 0), (tuple(LengthKind), 2)])
def test_every_sampler_repeats_itself_by_its_seed(sampler, kinds, most_left_out):
    space = _space(*kinds, most_left_out=most_left_out)
    one, again, other = (_run(space, sampler, 30, seed=seed) for seed in (1, 1, 2))
    configs = [[str(space.decode(trial.params)) for trial in study.trials] for study in (one, again, other)]
    assert configs[0] == configs[1]
    assert configs[0] != configs[2]
    assert len(set(configs[0])) > 15


def _bend(shares):
    """A made-up model: quality saturates with what is left, time is that of tokens in, out and cut."""
    lost = (
        0.4 * math.exp(-6 * shares[-1]) + 0.3 * math.exp(-5 * shares[len(shares) // 2]) + 0.2 * math.exp(-4 * shares[0])
    )
    pairs = list(pairwise((1.0, *shares)))
    cuts = sum(before for before, after in pairs if after < before)
    return 1 - lost, 0.1 + sum(0.25 * one + 0.1 * one**2 + 0.65 * two for one, two in pairs) + 0.08 * cuts


def test_evolution_finds_more_than_chance():
    space = _space(layers=6)
    full = _bend((1.0,) * 6)
    volumes = {}
    for sampler in (SamplerOption.EVOLUTION, SamplerOption.RANDOM):
        volumes[sampler] = []
        for seed in range(3):
            study = optuna.create_study(directions=["maximize", "minimize"])
            predict = lambda candidate: _bend(space.shares_of(candidate))[1]  # noqa: E731
            enqueue_missing(study, space, make_seeds(space, predict, trials=100, known=[], seed=seed))
            for number in range(100):
                study.sampler = make_sampler(sampler, space, seed=seed, trial=number)
                study.optimize(lambda trial: _bend(space.shares_of(space.suggest(trial))), n_trials=1)
            points = [trial.values for trial in study.trials]
            volumes[sampler].append(hypervolume(points, (0.8 * full[0], full[1])))
    assert min(volumes[SamplerOption.EVOLUTION]) > 1.02 * max(volumes[SamplerOption.RANDOM])


def test_children_come_from_the_front_and_were_not_tried_before():
    space = _space()
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.enqueue_trial(space.encode(space.uniform(0.5)))
    study.enqueue_trial(space.encode(space.staircase(0.2)))
    study.optimize(lambda trial: _judge(space, trial), n_trials=2)
    for number in range(40):
        study.sampler = EvolutionSampler(space, seed=number)
        study.optimize(lambda trial: _judge(space, trial), n_trials=1)
    configs = [str(space.decode(trial.params)) for trial in study.trials]
    assert len(set(configs)) == len(configs)


def test_trials_that_were_given_up_have_no_children():
    space = _space()
    study = optuna.create_study(directions=["maximize", "minimize"])

    def prune(trial):
        space.suggest(trial)
        raise optuna.TrialPruned

    study.sampler = EvolutionSampler(space, seed=0)
    study.optimize(prune, n_trials=12)
    study.optimize(lambda trial: _judge(space, trial), n_trials=1)  # nobody to breed
    assert study.trials[-1].values is not None


def test_both_kinds_are_bred():
    space = _space(*LengthKind)
    study = _run(space, SamplerOption.EVOLUTION, 60)
    kinds = {trial.params[KIND] for trial in study.trials}
    assert kinds == {kind.value for kind in LengthKind}


def test_layers_are_left_out_where_that_wins_and_run_where_it_does_not():
    space = _space(most_left_out=2)

    def judge(trial):
        """The second layer does nothing; without the last one nothing is right."""
        candidate = space.suggest(trial)
        running = candidate.list_running(space.body)
        left = [share for layer, share in enumerate(space.shares_of(candidate)) if layer in running]
        return (1.0 if 3 in running else 0.1) * min(1.0, 0.5 + left[-1]), sum(left) + 0.1

    study = optuna.create_study(directions=["maximize", "minimize"])
    for number in range(120):
        study.sampler = EvolutionSampler(space, seed=number)
        study.optimize(judge, n_trials=1)
    front = [space.decode(trial.params).list_running(space.body) for trial in study.best_trials]
    good = [layers for layers, trial in zip(front, study.best_trials, strict=True) if trial.values[0] > 0.5]
    assert len(good) > 5
    assert all(3 in layers for layers in good)
    assert sum(1 not in layers for layers in good) > len(good) / 2
