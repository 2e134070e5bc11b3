"""The time model: costs that were put in come out, whatever they are, and errors are those of what was left out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynbert.lengths import LengthConfig
from dynbert_export.options.vocabularies import LengthKind
from dynbert_export.searching.candidate import Body, Candidate
from dynbert_export.searching.space import Space
from dynbert_export.searching.time_model import FEATURES, FitError, Measurement, TimeModel, _features, fit_time_model

_COSTS = {
    "base": 2e-3,
    "layers": 1e-4,
    "in": 1e-5,
    "attention": 4e-8,
    "out": 2e-5,
    "cuts": 9e-5,
    "cut in": 2e-6,
    "cut attention": 1e-8,
    "single": 8e-6,
    "anytime": 1e-4,
    "anytime in": 7e-7,
    "steps": 0.0,
}


def _space(*, layers=6, cutting=6):
    return Space(Body(layers, cutting, 256, always_keep_cls_token=True), (LengthKind.FRACTIONS,), 256)


def _truth(costs, block=0):
    error = FitError(1, 0.0, 0.0)
    return TimeModel(costs, block, error, error, {})


def _measure(space, model, *, noise=0.0, seed=0, anytime=60, frozen=8):
    generator = np.random.default_rng(seed)
    plan = [(space.draw(generator), int(generator.integers(16, 257)), False) for _ in range(anytime)]
    for candidate in [space.full(), *(space.draw(generator) for _ in range(frozen))]:
        plan += [(candidate, tokens, True) for tokens in (32, 64, 128, 200, 256)]
    return [
        Measurement(
            candidate,
            tokens,
            is_frozen,
            model.predict(candidate, tokens, space.body, is_frozen=is_frozen) * generator.lognormal(0, noise),
        )
        for candidate, tokens, is_frozen in plan
    ]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=len(FEATURES), max_size=len(FEATURES)), st.sampled_from([5, 6]))
def test_times_of_the_models_own_form_are_predicted_exactly(factors, cutting):
    space = _space(cutting=cutting)
    truth = _truth({name: cost * factor for (name, cost), factor in zip(_COSTS.items(), factors, strict=True)})
    model = fit_time_model(_measure(space, truth), space.body)
    assert model.all_error.percentile_95 < 1e-6
    assert model.block == 0
    generator = np.random.default_rng(9)
    for _ in range(20):
        candidate, tokens = space.draw(generator), int(generator.integers(8, 257))
        for is_frozen in (True, False):
            expected = truth.predict(candidate, tokens, space.body, is_frozen=is_frozen)
            assert model.predict(candidate, tokens, space.body, is_frozen=is_frozen) == pytest.approx(
                expected, rel=1e-6
            )


def test_costs_are_never_negative_and_noise_shows_in_the_error():
    space = _space()
    model = fit_time_model(_measure(space, _truth(_COSTS), noise=0.05), space.body)
    assert min(model.costs.values()) >= 0
    assert 0.02 < model.all_error.median < 0.06
    assert model.all_error.percentile_95 > model.all_error.median
    assert model.all_error.measurements == 60 + 9 * 5
    assert model.frozen_error.measurements == 9 * 5


def test_the_error_is_of_configs_that_were_left_out():
    """One config takes three times as long as any form of ours could say: one odd config must not bend the others."""
    space = _space()
    measurements = _measure(space, _truth(_COSTS))
    odd = Candidate(LengthConfig((0.5, 0.4, 0.3, 0.2, 0.1, 0.05)))
    plain = [_truth(_COSTS).predict(odd, tokens, space.body) for tokens in (32, 256)]
    measurements += [Measurement(odd, n, True, 3 * second) for n, second in zip((32, 256), plain, strict=True)]
    model = fit_time_model(measurements, space.body)
    worst = max(
        abs(model.predict(odd, n, space.body) / (3 * second) - 1) for n, second in zip((32, 256), plain, strict=True)
    )
    assert worst > 0.5
    assert model.frozen_error.median < 0.1


def test_steps_are_found_where_there_are_some_and_not_where_there_are_none():
    space = _space()
    stepped = _truth({**_COSTS, "steps": 2e-5}, block=16)
    assert fit_time_model(_measure(space, stepped), space.body).block == 16
    assert fit_time_model(_measure(space, _truth(_COSTS), noise=0.03), space.body).block == 0


def test_frozen_graphs_pay_for_the_cuts_that_they_have():
    space = _space()
    model = _truth(_COSTS)
    full, uniform = space.full(), space.uniform(0.6)
    assert model.predict(full, 200, space.body) < model.predict(full, 200, space.body, is_frozen=False)
    one_cut = _features(uniform, 200, space.body, is_frozen=True, block=0)
    assert one_cut[FEATURES.index("cuts")] == 1
    assert one_cut[FEATURES.index("cut in")] == 200
    assert _features(uniform, 200, space.body, is_frozen=False, block=0)[FEATURES.index("cuts")] == 6


def test_features_of_a_worked_example():
    body = Body(num_layers=3, cutting_layers=2, max_length=64, always_keep_cls_token=True)
    candidate = Candidate(LengthConfig((0.5, 0.25, 0.25)))
    row = dict(zip(FEATURES, _features(candidate, 40, body, is_frozen=True, block=16), strict=True))
    assert row == {
        "base": 1,
        "layers": 3,
        "in": 40 + 20,
        "attention": 40**2 + 20**2,
        "out": 20 + 10,
        "cuts": 2,
        "cut in": 60,
        "cut attention": 2000,
        "single": 10,
        "anytime": 0,
        "anytime in": 0,
        "steps": 8 + 12 + 12 + 6,
    }


def test_layers_that_do_not_run_cost_nothing():
    body = Body(num_layers=3, cutting_layers=3, max_length=64, always_keep_cls_token=True)
    lengths = LengthConfig((0.5, 0.25, 0.25))
    row = _features(Candidate(lengths, layers=(0, 2)), 40, body, is_frozen=True, block=0)
    assert row[FEATURES.index("layers")] == 2


def test_a_model_is_the_same_after_json():
    space = _space()
    model = fit_time_model(_measure(space, _truth(_COSTS), noise=0.02), space.body)
    assert TimeModel.from_json(json.loads(json.dumps(model.to_json()))) == model


def test_the_speed_of_the_machine_is_told_by_the_graph_that_drops_nothing():
    space = _space()
    truth = _truth(_COSTS)
    model = fit_time_model(_measure(space, truth), space.body)
    assert model.full_seconds == {
        tokens: truth.predict(space.full(), tokens, space.body) for tokens in (32, 64, 128, 200, 256)
    }
    later = {tokens: factor * model.full_seconds[tokens] for tokens, factor in ((32, 1.3), (64, 1.1), (256, 1.2))}
    assert model.find_change({**later, 100: 9.0}) == pytest.approx(1.2)
    with pytest.raises(ValueError, match=r"must have a length of \[32, 64, 128, 200, 256\], got \[100\]"):
        model.find_change({100: 9.0})
