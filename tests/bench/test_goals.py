"""Goals: their bounds, and how recorded rows are held to them."""

from __future__ import annotations

import pytest

from dynbert_bench.goals import GOALS
from dynbert_bench.results import Verdict
from tests.helpers.results import TC, make_goal_rows, make_results, make_row


def test_goals_are_those_that_were_promised():
    bounds = [(goal.bound, goal.is_least) for goal in GOALS]
    least = [(28.0, True), (2.2, True), (1.35, True), (1.15, True), (1.4, True)]
    assert bounds == [*least, (1.6, False), (1.0, True)]


def test_goals_are_judged_from_the_rows():
    goals = make_results(make_goal_rows()).goals
    assert [goal.verdict for goal in goals] == [Verdict.MET] * 6 + [Verdict.NOT_MET]
    assert [goal.ratio for goal in goals] == pytest.approx([37.1, 3.0, 1.7, 1.5, 2.0, 1.25, 5.0 / 5.5])
    assert (goals[0].lowest, goals[0].highest) == pytest.approx((371 / 11, 371 / 9))
    assert (goals[5].lowest, goals[5].highest) == pytest.approx((9 / 8, 11 / 8))


def test_slower_graphs_miss_the_goals():
    verdicts = [goal.verdict for goal in make_results(make_goal_rows(ours=14.5)).goals]
    assert verdicts == [
        *[Verdict.NOT_MET, Verdict.NOT_MET, Verdict.NOT_MET, Verdict.NOT_MET, Verdict.NOT_MET, Verdict.NOT_MET],
        Verdict.NOT_MET,
    ]


def test_a_goal_whose_row_failed_or_is_missing_was_not_measured():
    rows = [row for row in make_goal_rows() if row.competitor != "base-line" or row.cell.task == TC]
    rows = [
        make_row("openvino-fast", 384, 1.0, failure="it broke") if row.competitor == "openvino-fast" else row
        for row in rows
    ]
    results = make_results(rows)
    assert [goal.verdict for goal in results.goals][:5] == [
        Verdict.NOT_MEASURED,
        Verdict.MET,
        Verdict.MET,
        Verdict.NOT_MEASURED,
        Verdict.MET,
    ]
    assert results.failures == ("label of openvino-fast (question-answering, 384): it broke",)


def test_a_smoke_run_gives_no_verdict():
    goals = make_results(make_goal_rows(), is_quick=True).goals
    assert {goal.verdict for goal in goals} == {Verdict.SMOKE_RUN, Verdict.NOT_MEASURED}
