"""Hopeless candidates: paired resamples, for means and for what is none."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.scoring.metrics import mean_metric, score_classes, score_numbers
from dynbert_export.searching import resampling
from dynbert_export.searching.resampling import RESAMPLES, is_worse, resample


def _right(shares, count=200, seed=0):
    """Answers of systems that get so much right, of the same examples: the easy ones first."""
    difficulty = np.random.default_rng(seed).random(count)
    return [mean_metric("accuracy", difficulty < share) for share in shares]


def test_resamples_are_the_same_for_all_and_centred_on_the_metric():
    good, better = _right([0.7, 0.9])
    one, other = resample(good, seed=1), resample(better, seed=1)
    assert one.shape == (RESAMPLES,)
    assert one.mean() == pytest.approx(good.value, abs=0.01)
    assert one.std() == pytest.approx(np.sqrt(good.value * (1 - good.value) / 200), rel=0.15)
    # The same examples: what is right for the worse one is right for the better one in every resample.
    assert (other >= one).all()
    assert (resample(good, seed=1) == one).all()
    assert (resample(good, seed=2) != one).any()


def test_pieces_that_fit_into_memory_draw_the_same(monkeypatch):
    [metric] = _right([0.7])
    whole = resample(metric, seed=1)
    monkeypatch.setattr(resampling, "_NUMBERS_AT_ONCE", 1000)
    np.testing.assert_array_equal(resample(metric, seed=1), whole)


def test_metrics_that_are_no_mean_are_computed_anew():
    generator = np.random.default_rng(0)
    gold = generator.random(100)
    [spearman, _] = score_numbers(gold, gold + 0.3 * generator.random(100))
    drawn = resample(spearman, seed=0)
    assert drawn.std() > 0
    assert drawn.mean() == pytest.approx(spearman.value, abs=0.02)
    answers = generator.integers(2, size=100)
    means = resample(score_classes(answers, answers ^ (generator.random(100) < 0.2), classes=2)[1], seed=0)
    assert 0.6 < means.mean() < 1.0


def test_clearly_worse_is_hopeless_and_a_little_worse_is_not():
    bad, near, good = (resample(metric, seed=0) for metric in _right([0.6, 0.895, 0.9]))
    assert is_worse(bad, good)
    assert not is_worse(near, good)
    assert not is_worse(good, good)
    assert not is_worse(good, bad)


def test_pairs_tell_what_samples_of_their_own_would_not():
    """Three points of accuracy on 400 examples are noise between strangers, and certain between these two."""
    one, other = _right([0.80, 0.84], count=400)
    assert is_worse(resample(one, seed=0), resample(other, seed=0))
    assert not is_worse(resample(one, seed=0), resample(other, seed=1))


def test_equally_good_candidates_are_hardly_ever_given_up():
    """Equally good, and wrong on different examples: given up in about the share of ``_CHANCE``."""
    generator = np.random.default_rng(3)
    given_up = 0
    for _ in range(300):
        first, second = (mean_metric("accuracy", generator.random(100) < 0.8) for _ in range(2))
        given_up += is_worse(resample(first, seed=0), resample(second, seed=0))
    assert given_up <= 8
