"""Intervals and comparisons: against plain resampling and exact tests, and what they promise on repeated data."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dynbert.errors import InputError
from dynbert.scoring.intervals import bootstrap_interval, compare
from dynbert.scoring.metrics import mean_metric, score_classes, score_numbers


def _classes(seed, share, size=150):
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, 3, size)
    return score_classes(gold, np.where(rng.random(size) < share, gold, rng.integers(0, 3, size)), classes=3)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_interval_is_that_of_plain_resampling(number):
    metric = _classes(0, 0.7)[number]
    rng = np.random.default_rng(1)
    drawn = [metric.over(rng.integers(0, 150, 150)) for _ in range(4000)]
    interval = bootstrap_interval(metric, resamples=4000)
    np.testing.assert_allclose([interval.low, interval.high], np.percentile(drawn, [2.5, 97.5]), atol=0.01)
    assert interval.low < metric.value < interval.high
    assert interval == bootstrap_interval(metric, resamples=4000)
    assert interval != bootstrap_interval(metric, resamples=4000, seed=1)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(2)
    intervals = [bootstrap_interval(mean_metric("m", rng.random(200) < 0.8), resamples=400) for _ in range(200)]
    assert 0.88 <= np.mean([interval.low <= 0.8 <= interval.high for interval in intervals]) <= 0.99


def test_a_higher_level_gives_a_wider_interval():
    [spearman, _] = score_numbers(np.arange(40), np.arange(40) + np.random.default_rng(0).normal(size=40) * 20)
    narrow, wide = (bootstrap_interval(spearman, level=level, resamples=300) for level in (0.5, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_values_without_spread_have_no_width():
    interval = bootstrap_interval(mean_metric("m", [1.0] * 20))
    assert (interval.low, interval.high) == (1.0, 1.0)


def test_right_or_wrong_is_compared_by_mcnemars_exact_test():
    first = mean_metric("accuracy", [1] * 50 + [0] * 3 + [1] * 12 + [0] * 35)
    second = mean_metric("accuracy", [1] * 50 + [1] * 3 + [0] * 12 + [0] * 35)
    comparison = compare(first, second)
    exact = 2 * sum(math.comb(15, k) for k in range(4)) / 2**15
    assert comparison.test == "McNemar's exact test"
    assert comparison.p_value == pytest.approx(exact)
    assert comparison.difference == pytest.approx(-0.09)
    assert comparison.interval.low < -0.09 < comparison.interval.high < 0
    assert compare(first, first).p_value == 1.0


def test_other_metrics_are_compared_by_the_paired_bootstrap():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=120)
    good, like_it, worse = (score_numbers(truth, truth + noise * rng.normal(size=120))[0] for noise in (0.5, 0.5, 1.5))
    assert compare(good, worse, resamples=500).p_value == pytest.approx(1 / 501)
    assert compare(good, like_it, resamples=500).p_value > 0.05
    assert compare(good, worse, resamples=500).test == "paired bootstrap"
    assert compare(good, good, resamples=100).p_value == 1.0


def test_the_paired_bootstrap_of_means_is_about_the_t_test():
    from scipy import stats

    rng = np.random.default_rng(4)
    first = rng.random(200)
    second = first + rng.normal(0.02, 0.15, 200)
    p_value = compare(mean_metric("f1", first), mean_metric("f1", second), resamples=5000).p_value
    assert p_value == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.02)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_interval(mean_metric("m", [1])), "at least 2 examples to draw from, got 1"),
        (lambda: bootstrap_interval(mean_metric("m", [1, 0]), level=1), "level must be greater than 0 and less than 1"),
        (
            lambda: compare(mean_metric("m", [1, 0]), mean_metric("m", [1])),
            "the same over the same examples, got m over 2 examples and m over 1 examples",
        ),
        (lambda: compare(mean_metric("m", [1, 0]), mean_metric("n", [1, 0])), "got m over 2 .* and n over 2"),
    ],
)
def test_what_cannot_be_compared_is_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
