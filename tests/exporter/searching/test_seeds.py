"""What is tried first: known shapes, spread over the time."""

from __future__ import annotations

import dataclasses

import numpy as np

from dynbert.lengths import LengthConfig
from dynbert_export.options.vocabularies import LengthKind
from dynbert_export.searching.candidate import Body, Candidate
from dynbert_export.searching.contrasts import propose_contrasts
from dynbert_export.searching.seeds import make_seeds
from dynbert_export.searching.space import Space
from dynbert_export.searching.study import TrialRecord

_SPACE = Space(Body(6, 6, 256, always_keep_cls_token=True), (LengthKind.FRACTIONS,), 200)


def _predict(candidate):
    return 0.5 + sum(_SPACE.shares_of(candidate))


def _seeds(trials=100, known=(), seed=0):
    return make_seeds(_SPACE, _predict, trials=trials, known=known, seed=seed)


def test_full_comes_first_then_what_is_known_then_the_families():
    known = [("configured", Candidate(LengthConfig((100, 90, 80, 70, 60, 50))))]
    seeds = _seeds(known=known)
    assert seeds[0] == ("full", _SPACE.full())
    assert seeds[1] == known[0]
    families = [family for family, _ in seeds]
    assert {family: families.count(family) for family in families} == {
        "full": 1,
        "configured": 1,
        "uniform": 10,
        "staircase": 10,
        "spread": 10,
    }


def test_families_have_their_shapes_and_even_times():
    for family in ("uniform", "staircase", "spread"):
        candidates = [candidate for each, candidate in _seeds() if each == family]
        times = np.log([_predict(candidate) for candidate in candidates])
        assert (np.diff(times) < 0).all()
        assert np.diff(times).max() < 0.5 * np.diff(times).mean()
    uniform = [candidate.lengths.lengths for family, candidate in _seeds() if family == "uniform"]
    assert all(len(set(lengths)) == 1 for lengths in uniform)


def test_few_trials_get_few_seeds_and_many_not_all():
    assert [len(_seeds(trials)) for trials in (5, 50, 1000)] == [1 + 3 * 2, 1 + 3 * 5, 1 + 3 * 12]


def test_layers_are_left_out_one_by_one_where_they_are_searched():
    space = dataclasses.replace(_SPACE, most_left_out=2)
    seeds = make_seeds(space, _predict, trials=100, known=[], seed=0)
    layers = [candidate for family, candidate in seeds if family == "layers"]
    assert [candidate.list_running(space.body) for candidate in layers] == [
        tuple(layer for layer in range(6) if layer != left) for left in range(6)
    ]
    assert all(not any(candidate.find_cuts(space.body)) for candidate in layers)
    few = make_seeds(space, _predict, trials=20, known=[], seed=0)
    assert sum(family == "layers" for family, _ in few) == 2


def test_the_seed_decides_the_spread():
    assert _seeds(seed=1) == _seeds(seed=1)
    assert _seeds(seed=1) != _seeds(seed=2)


def _record(number, candidate, quality, family):
    return TrialRecord(number, candidate, family, quality, _predict(candidate), str(number))


def test_contrasts_close_in_on_what_is_just_as_good():
    """Quality is the mean share: the bisection finds the uniform config with that of the profile."""
    profile = _record(1, _SPACE.make(LengthKind.FRACTIONS, [0.9, 0.8, 0.5, 0.5, 0.3, 0.3]), 0.55, "evolution")
    records = [
        _record(0, _SPACE.full(), 1.0, "full"),
        profile,
        _record(2, _SPACE.uniform(0.8), 0.8, "uniform"),
        _record(3, _SPACE.uniform(0.3), None, "uniform"),
    ]
    tried = []
    for _ in range(8):
        proposed = propose_contrasts([profile], records, _SPACE)
        tried.append([family for family, _ in proposed])
        for family, candidate in proposed:
            quality = float(np.mean(_SPACE.shares_of(candidate)))
            records.append(_record(len(records), candidate, quality, family))
    assert tried[0] == ["uniform", "staircase"]
    assert tried[-1] == []
    good = {
        family: min(
            (each for each in records if each.family == family and (each.quality or 0) >= 0.55),
            key=lambda each: each.quality,
        )
        for family in ("uniform", "staircase")
    }
    assert 0.55 <= good["uniform"].quality < 0.575
    assert 0.55 <= good["staircase"].quality < 0.575


def test_nothing_is_proposed_for_what_full_is_not_as_good_as():
    profile = _record(1, _SPACE.uniform(0.5), 1.2, "evolution")
    assert propose_contrasts([profile], [_record(0, _SPACE.full(), 1.0, "full"), profile], _SPACE) == []
