"""The space: whatever a sampler says is a valid config, and every config has parameters that say it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert.lengths import LengthConfig
from dynbert_export.options.vocabularies import LengthKind
from dynbert_export.searching.candidate import Body, Candidate
from dynbert_export.searching.space import KIND, LEAST_SHARE, Space

_KINDS = st.sampled_from([(LengthKind.FRACTIONS,), (LengthKind.COUNTS,), tuple(LengthKind)])


@st.composite
def spaces(draw):
    layers = draw(st.integers(1, 12))
    max_length = draw(st.integers(8, 512))
    cutting = draw(st.integers(max(layers - 1, 1), layers))
    body = Body(layers, cutting, max_length, draw(st.booleans()))
    return Space(body, draw(_KINDS), draw(st.integers(4, max_length)), draw(st.integers(0, layers - 1)))


@st.composite
def drawn(draw):
    """A space and parameters that a sampler may choose."""
    space = draw(spaces())
    names = [f"drop_{layer}" for layer in range(space.body.cutting_layers)]
    if space.most_left_out:
        names += ["leave_out", *(f"keep_layer_{layer}" for layer in range(space.body.num_layers))]
    values: dict = {name: draw(st.floats(0.0, 1.0)) for name in names}
    if len(space.kinds) > 1:
        values[KIND] = draw(st.sampled_from(list(LengthKind))).value
    return space, values


@given(drawn())
def test_any_parameters_give_a_valid_config(case):
    space, values = case
    assert set(values) == set(space.distributions)
    candidate = space.decode(values)
    candidate.lengths.check_layers(space.body.num_layers)
    candidate.lengths.check_max_length(space.body.max_length)
    kind = LengthKind.FRACTIONS if candidate.lengths.is_fractional else LengthKind.COUNTS
    assert kind in space.kinds
    assert kind.value == values.get(KIND, kind.value)
    assert min(space.shares_of(candidate)) >= LEAST_SHARE
    running = candidate.list_running(space.body)
    assert space.body.num_layers - len(running) <= space.most_left_out
    if candidate.layers is not None:
        assert 0 < len(running) < space.body.num_layers
        assert list(running) == sorted(set(running) & set(range(space.body.num_layers)))


@given(drawn())
def test_encoding_is_undone_by_decoding(case):
    space, values = case
    candidate = space.decode(values)
    parameters = space.encode(candidate)
    assert all(0.0 <= value <= 1.0 for name, value in parameters.items() if name != KIND)
    assert space.decode(parameters) == candidate


@given(drawn(), st.data())
def test_what_keeps_all_of_the_longest_input_has_no_cut(case, data):
    space, values = case
    tokens = data.draw(st.integers(1, space.body.max_length))
    candidate = space.decode(values)
    counts = candidate.resolve(space.longest, space.body)
    before = (space.longest, *counts)
    for entering, left, is_cut in zip(before, counts, candidate.find_cuts(space.body), strict=False):
        assert is_cut or left == entering
    if counts and counts[0] == space.longest:
        assert not candidate.find_cuts(space.body)[0]
        assert candidate.resolve(tokens, space.body)[0] == tokens


def _space(*kinds, layers=6, cutting=6, max_length=512, longest=384):
    return Space(Body(layers, cutting, max_length, always_keep_cls_token=True), kinds, longest)


def test_shapes_are_what_they_are_called():
    space = _space(LengthKind.FRACTIONS)
    assert space.full().lengths == LengthConfig((1.0,) * 6)
    assert space.uniform(0.6).lengths == LengthConfig((0.6,) * 6)
    assert space.staircase(0.6**6).lengths == LengthConfig((0.6, 0.36, 0.216, 0.13, 0.078, 0.05))
    counts = _space(LengthKind.COUNTS)
    assert counts.full().lengths == LengthConfig((512,) * 6)
    assert counts.uniform(0.5).lengths == LengthConfig((192,) * 6)


def test_a_last_layer_for_one_token_repeats_the_one_before():
    candidate = _space(LengthKind.FRACTIONS, cutting=5).staircase(0.5)
    assert len(candidate.lengths.lengths) == 6
    assert candidate.lengths.lengths[-1] == candidate.lengths.lengths[-2] == 0.5
    assert len(candidate.resolve(100, _space(LengthKind.FRACTIONS, cutting=5).body)) == 5


@pytest.mark.parametrize("layers", [6, 12, 24])
def test_random_candidates_drop_something_somewhere_and_not_everywhere(layers):
    space = _space(LengthKind.FRACTIONS, layers=layers, cutting=layers)
    generator = np.random.default_rng(0)
    cuts = np.array([space.draw(generator).find_cuts(space.body) for _ in range(2000)])
    assert 1.5 < cuts.sum(axis=1).mean() < 3.0
    left = np.array([space.shares_of(space.draw(generator))[-1] for _ in range(2000)])
    assert np.quantile(left, 0.1) < 0.1
    assert np.quantile(left, 0.9) > 0.8


def test_layers_that_do_not_run_drop_nothing():
    space = _space(LengthKind.FRACTIONS)
    candidate = space.leave_out(space.staircase(0.6**6), [0, 2])
    assert candidate.layers == (1, 3, 4, 5)
    assert candidate.lengths == LengthConfig((1.0, 0.36, 0.36, 0.13, 0.078, 0.05))
    assert candidate.resolve(100, space.body) == (36, 13, 8, 5)
    assert space.leave_out(candidate, []) == space.make(LengthKind.FRACTIONS, space.shares_of(candidate))


@pytest.mark.parametrize("sampled", [0.0, 0.69, 0.7, 0.75, 0.84, 0.86, 1.0])
def test_the_numbers_of_layers_say_which_ones_run(sampled):
    space = dataclasses.replace(_space(LengthKind.FRACTIONS), most_left_out=2)
    numbers = dict(zip((f"keep_layer_{layer}" for layer in range(6)), (0.5, 0.1, 0.9, 0.9, 0.2, 0.9), strict=True))
    candidate = space.decode({**space.encode(space.full()), "leave_out": sampled, **numbers})
    expected = (0, 1, 2, 3, 4, 5) if sampled <= 0.7 else (0, 2, 3, 4, 5) if sampled < 0.85 else (0, 2, 3, 5)
    assert candidate.list_running(space.body) == expected


def test_random_candidates_run_all_layers_in_most_cases():
    space = dataclasses.replace(_space(LengthKind.FRACTIONS), most_left_out=2)
    generator = np.random.default_rng(0)
    left = [6 - len(space.draw(generator).list_running(space.body)) for _ in range(1000)]
    assert 650 < left.count(0) < 750
    assert left.count(1) > 100 < left.count(2)


def test_a_config_of_the_other_kind_is_taken_as_the_nearest_one():
    known = Candidate(LengthConfig((315, 251, 242, 159, 142, 33)))
    fractions = _space(LengthKind.FRACTIONS)
    nearest = fractions.decode(fractions.encode(known))
    assert nearest.lengths == LengthConfig((0.82, 0.654, 0.63, 0.414, 0.37, 0.086))
    counts = _space(LengthKind.COUNTS)
    assert counts.decode(counts.encode(known)) == known
    both = _space(*LengthKind)
    assert both.decode(both.encode(known)) == known
