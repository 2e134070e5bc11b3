"""How long data is, in a few numbers."""

from __future__ import annotations

import pytest

from dynbert.lengths import LengthConfig
from dynbert_export.searching.candidate import Body, Candidate
from dynbert_export.searching.lengths_of_data import describe_lengths
from dynbert_export.searching.time_model import FEATURES, FitError, TimeModel


def test_the_sample_stands_for_all():
    lengths = describe_lengths([[tokens] for tokens in range(1, 801)])
    assert lengths.sample == (50, 150, 250, 350, 450, 550, 650, 750)
    assert lengths.marks == (80, 400, 720, 800)
    assert (lengths.longest, len(lengths.distinct), lengths.rows_per_input) == (800, 800, 1.0)


def test_windows_and_choices_count_for_their_input():
    lengths = describe_lengths([[64, 64, 10], [30]])
    assert lengths.rows_per_input == 2.0
    assert lengths.distinct == (10, 30, 64)
    assert lengths.marks == (10, 30, 64)  # equal ones once


def test_the_mean_time_is_of_an_input():
    error = FitError(1, 0.0, 0.0)
    model = TimeModel(dict.fromkeys(FEATURES, 0.0) | {"in": 1e-3}, 0, error, error, {})
    body = Body(2, 2, 64, always_keep_cls_token=True)
    lengths = describe_lengths([[10, 10], [30, 30]])
    everything = Candidate(LengthConfig((1.0, 1.0)))
    assert lengths.mean_seconds(model, everything, body) == pytest.approx(2 * 1e-3 * 2 * 20)
