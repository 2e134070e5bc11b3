"""What is drawn is within its bounds, never increases, and depends on seed and place alone."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert.lengths import LengthConfig
from dynbert_export.training.length_drop import LengthDrop, sample_dropped, smallest_fractions, smallest_lengths

_LAYERS = 6
_DROPS = st.builds(
    LengthDrop,
    least=st.none()
    | st.lists(st.floats(0.01, 1.0), min_size=_LAYERS, max_size=_LAYERS).map(
        lambda shares: LengthConfig(tuple(sorted(shares, reverse=True)))
    ),
    ratio_bound=st.floats(0.01, 0.95),
    random_models=st.integers(0, 4),
    layer_dropout=st.sampled_from((0.0, 0.3, 0.9)),
    always_keep_cls_token=st.booleans(),
)


@pytest.mark.parametrize(
    ("tokens", "bound", "expected"),
    [
        (10, 0.2, (8, 7, 6)),  # ceil of 8, 6.4, 5.6
        (384, 0.2, (308, 247, 198)),
        (3, 0.5, (2, 2, 2)),  # CLS and one other token stay
        (2, 0.9, (2, 2, 2)),
        (1, 0.9, (1, 1, 1)),
    ],
)
def test_smallest_lengths_drop_as_much_as_the_bound_lets_them(tokens, bound, expected):
    assert smallest_lengths(tokens, 3, LengthDrop(ratio_bound=bound)).lengths == expected


def test_a_dropped_cls_leaves_one_token():
    assert smallest_lengths(3, 3, LengthDrop(ratio_bound=0.9, always_keep_cls_token=False)).lengths == (1, 1, 1)


def test_smallest_fractions_are_powers():
    assert smallest_fractions(3, LengthDrop(ratio_bound=0.2)).lengths == pytest.approx((0.8, 0.64, 0.512))


@given(tokens=st.integers(1, 512), layers=st.integers(1, 12), drop=_DROPS, seed=st.integers(0, 2**32 - 1))
def test_models_keep_at_least_what_the_bound_asks_and_never_gain(tokens, layers, drop, seed):
    layers = layers if drop.least is None else _LAYERS
    models = sample_dropped(tokens, layers, drop, seed=(seed, 3, 1))
    assert len(models) == 1 + drop.random_models
    assert models[0].lengths == smallest_lengths(tokens, layers, drop)
    for model in models:
        least = smallest_lengths(tokens, layers, drop).lengths
        assert all(length >= floor for length, floor in zip(model.lengths.lengths, least, strict=True))
        assert all(after <= before for before, after in pairwise((tokens, *model.lengths.lengths)))
    assert models == sample_dropped(tokens, layers, drop, seed=(seed, 3, 1))


def test_given_lengths_are_the_smallest_model_s_whatever_the_bound():
    flat = LengthDrop(ratio_bound=0.1, least=LengthConfig((0.4, 0.4, 0.25)), random_models=200)
    assert smallest_fractions(3, flat) == flat.least
    smallest, *random = sample_dropped(101, 3, flat, seed=(0, 0, 0))
    assert smallest.lengths.lengths == (41, 41, 26)  # rounded up, as a profile's are
    reached = [{model.lengths.lengths[layer] for model in random} for layer in range(3)]
    assert [min(lengths) for lengths in reached] == [41, 41, 26]
    assert max(reached[0]) == 101


def test_steps_and_batches_draw_other_models():
    drop = LengthDrop()
    drawn = {sample_dropped(384, 6, drop, seed=place) for place in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))}
    assert len(drawn) == 4


def test_random_lengths_reach_both_ends():
    drop = LengthDrop(ratio_bound=0.5, random_models=1)
    first = {sample_dropped(10, 1, drop, seed=(0, step, 0))[1].lengths.lengths[0] for step in range(200)}
    assert first == {5, 6, 7, 8, 9, 10}


def test_layers_are_left_out_of_random_models_alone():
    drop = LengthDrop(layer_dropout=0.5, random_models=40)
    smallest, *random = sample_dropped(100, 6, drop, seed=(0, 0, 0))
    assert smallest.layers is None
    share = sum(len(model.layers) for model in random) / (6 * len(random))
    assert 0.35 < share < 0.65
    assert all(model.layers == tuple(sorted(set(model.layers))) for model in random)


def test_without_layer_dropout_every_layer_runs():
    assert all(model.layers is None for model in sample_dropped(100, 6, LengthDrop(), seed=(0, 0, 0)))
