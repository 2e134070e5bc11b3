"""The floor's arithmetic, against counts that were made by hand."""

from __future__ import annotations

import pytest

from dynbert.lengths import LengthConfig
from dynbert_bench.floor import Macs, Product, count_macs, floor_ms, list_products
from dynbert_bench.options import FULL_PLAN, Shape

_SMALL = Shape("small", layers=2, hidden=4, heads=2, intermediate=8)


def test_counts_of_a_small_model_by_hand():
    # Layer 1: 10 tokens enter, 6 leave; layer 2: 6 enter, 3 leave.
    projections = 4 * 4 * 4 * 10 + 4 * 4 * 4 * 6
    feed_forward = 2 * 4 * 8 * 6 + 2 * 4 * 8 * 3
    attention = 2 * 10 * 10 * 4 + 2 * 6 * 6 * 4
    assert count_macs(_SMALL, 10, LengthConfig((6, 3))) == Macs(projections + feed_forward, attention)


def test_full_length_is_a_config_that_keeps_everything():
    assert count_macs(_SMALL, 10, None) == count_macs(_SMALL, 10, LengthConfig((10, 10)))
    assert count_macs(_SMALL, 10, None) == count_macs(_SMALL, 10, LengthConfig((1.0, 1.0)))


def test_lengths_beyond_the_input_are_the_input():
    assert count_macs(_SMALL, 5, LengthConfig((6, 3))) == count_macs(_SMALL, 5, LengthConfig((5, 3)))


def test_published_config_has_the_published_counts():
    macs = count_macs(FULL_PLAN.shape, 384, FULL_PLAN.fast)
    assert macs.int8 == 15_108 * 384**2
    assert macs.fp32 == 413_691 * 384 * 2
    assert floor_ms(macs, 430e9, 116e9) == pytest.approx(5.18 + 2.74, abs=0.02)


def test_floor_adds_both_parts():
    assert floor_ms(Macs(int8=3_000, fp32=500), 1e6, 5e5) == pytest.approx(4.0)


def test_products_are_those_of_the_model():
    products = list_products(FULL_PLAN.shape, 384)
    assert {item.precision for item in products} == {"int8", "fp32"}
    up = Product("int8", "feed-forward up", 0, 384, 384, 1536)
    assert up in products
    assert up.macs == 8 * 384 * 384 * 1536
    scores = Product("fp32", "attention scores", 12, 384, 32, 384)
    assert scores in products
    assert scores.macs == 8 * 12 * 384 * 32 * 384
    assert len({item.blueprint.key for item in products}) == len(products)


def test_int8_scores_move_half_of_the_attention():
    assert Macs(100, 40).with_int8_scores == Macs(120, 20)
    macs = count_macs(FULL_PLAN.shape, 384, FULL_PLAN.fast)
    assert floor_ms(macs.with_int8_scores, 4e11, 1e11) < floor_ms(macs, 4e11, 1e11)
