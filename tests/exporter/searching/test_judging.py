"""Judging: parts of the data in order, and an end where there is no hope."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dynbert.lengths import LengthConfig
from dynbert.scoring.jobs import Job
from dynbert.scoring.metrics import mean_metric
from dynbert_export.searching.candidate import Candidate
from dynbert_export.searching.examination import Examination
from dynbert_export.searching.judging import Judge, Rivals
from dynbert_export.searching.resampling import RESAMPLES, resample

_NOBODY = Rivals({}, {})
_CANDIDATE = Candidate(LengthConfig((0.5, 0.5)))
_SIZES = (50, 100, 400)


def _metric(answers):
    return mean_metric("accuracy", answers)


class _Asker:
    """Answers whether a config gets an example right: the config's share of them, the easy ones first."""

    def __init__(self, share):
        self.right = np.random.default_rng(0).random(_SIZES[-1]) < share
        self.asked: list = []

    def answer(self, respondent, job, inputs, on_answers):
        assert (respondent, job.arguments([1])) == ("graph of 0.5,0.5", {"texts": [1]})
        self.asked += list(inputs)
        on_answers(len(inputs))
        return [float(self.right[number]) for number in inputs]


class _Graphs:
    def ask_candidate(self, candidate):
        return f"graph of {candidate}"


def _judge(share):
    jobs = tuple(Job(range(size), lambda some: {"texts": some}, lambda answers: (_metric(answers),)) for size in _SIZES)
    asker = _Asker(share)
    return Judge(asker, _Graphs(), Examination(jobs), "accuracy", 0), asker


def _known(share):
    """What is kept of a finished candidate."""
    right = _Asker(share).right
    return {part: resample(_metric(right[:size]), seed=0) for part, size in enumerate(_SIZES)}


def test_a_candidate_without_rivals_answers_everything_once():
    judge, asker = _judge(0.8)
    told: list = []
    verdict = judge.judge(_CANDIDATE, _NOBODY, lambda *said: told.append(said))
    assert asker.asked == list(range(400))
    assert told == [(50, 400), (100, 400), (400, 400)]
    assert verdict.reason is None
    assert verdict.quality == asker.right.mean()
    assert verdict.examples == 400
    assert {part: values.shape for part, values in verdict.resampled.items()} == dict.fromkeys(range(3), (RESAMPLES,))


def test_a_candidate_that_is_surely_worse_than_a_faster_one_is_given_up():
    judge, asker = _judge(0.5)
    verdict = judge.judge(_CANDIDATE, Rivals({"trial 3": _known(0.9)}, {}))
    assert verdict.reason == "slower and worse than trial 3"
    assert asker.asked == list(range(50))
    assert verdict.examples == 50


def test_a_small_difference_takes_more_examples_to_see():
    judge, asker = _judge(0.8)
    verdict = judge.judge(_CANDIDATE, Rivals({"trial 3": _known(0.86)}, {}))
    assert verdict.reason == "slower and worse than trial 3"
    assert len(asker.asked) == 100


def test_a_candidate_that_is_as_good_is_asked_to_the_end():
    for share in (0.8, 0.9):
        judge, asker = _judge(share)
        assert judge.judge(_CANDIDATE, Rivals({"trial 3": _known(0.8)}, {})).reason is None
        assert len(asker.asked) == 400


def test_a_candidate_that_nobody_would_want_is_given_up():
    judge, _ = _judge(0.5)
    floor = {part: 0.9 * values for part, values in _known(0.95).items()}
    assert judge.judge(_CANDIDATE, Rivals({}, floor)).reason == "below the quality to keep"


def test_a_part_that_the_metric_is_not_defined_for_tells_nothing():
    judge, asker = _judge(0.5)
    first, *others = judge.examination.jobs
    silent = replace(first, score=lambda answers: (mean_metric("another", answers),))
    judge = replace(judge, examination=Examination((silent, *others)))
    verdict = judge.judge(_CANDIDATE, Rivals({"trial 3": _known(0.9)}, {}))
    assert verdict.reason == "slower and worse than trial 3"
    assert len(asker.asked) == 100
    assert set(verdict.resampled) == {1}


def test_a_rival_whose_scores_are_lost_is_no_rival():
    judge, _ = _judge(0.5)
    assert judge.judge(_CANDIDATE, Rivals({"trial 3": {}}, {})).reason is None
