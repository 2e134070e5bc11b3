"""A report that nobody found, for the tests of what is made of one."""

from __future__ import annotations

import pytest

from dynbert_export.searching.results import (
    Contrast,
    GraphResult,
    MetricResult,
    RandomComparison,
    Refusal,
    Role,
    SearchReport,
    TrialResult,
)
from dynbert_export.searching.time_model import FitError


def _graph(name, role, value, milliseconds, *, config=None, trial=None, is_reference=False):
    difference = (
        {}
        if is_reference
        else {
            "difference": value - 0.9,
            "difference_low": value - 0.92,
            "difference_high": value - 0.88,
            "p_value": 0.5,
            "test": "McNemar's exact test",
        }
    )
    return GraphResult(
        name=name,
        role=role,
        config=config,
        trial=trial,
        searched_quality=None if is_reference else value + 0.01,
        predicted_ms=None if is_reference else 1.02 * milliseconds,
        measured_ms=milliseconds,
        ms_by_tokens={16: milliseconds / 2, 32: milliseconds, 64: 2 * milliseconds},
        macs=int(milliseconds * 1e8),
        metrics=(MetricResult("accuracy", value, value - 0.03, value + 0.03, **difference),),
    )


@pytest.fixture
def report():
    trials = tuple(
        TrialResult(
            number,
            "evolution",
            f"0.{9 - number},0.5,0.4",
            8.0 - number,
            None if number == 3 else 0.9 - number / 50,
            None,
        )
        for number in range(6)
    )
    return SearchReport(
        model="a[b]c",
        task="text-classification",
        processor="Some CPU",
        threads=1,
        precision="int8",
        sampler="evolution",
        data="data.csv, 60 searched by",
        examples=60,
        aside="data.csv, 40 kept aside",
        aside_examples=40,
        metric="accuracy",
        queries=None,
        lengths_of_data={"sample": (16, 32, 64), "marks": (16, 32, 64), "rows_per_input": 1.0},
        profiles={"accurate": (0.8, 0.5, 0.4), "fast": (0.5, 0.5, 0.4)},
        graphs=(
            _graph("fp32 full", Role.REFERENCE, 0.9, 20.0, is_reference=True),
            _graph("full", Role.FULL, 0.9, 8.0, trial=0),
            _graph("accurate", Role.PROFILE, 0.88, 6.0, config="0.8,0.5,0.4", trial=1),
            _graph("fast", Role.PROFILE, 0.82, 4.0, config="0.5,0.5,0.4", trial=4),
            _graph("uniform (trial 2)", Role.UNIFORM, 0.88, 7.0, config="0.7,0.7,0.7", trial=2),
        ),
        contrasts=(
            Contrast("accurate", Role.UNIFORM, "uniform (trial 2)", 7 / 6),
            Contrast("accurate", Role.MACS, "accurate", 1.0),
            Contrast("fast", Role.STAIRCASE, "full", 2.0),
        ),
        refusals=(Refusal("balanced", "0.6,0.5,0.4", 3, "it is faster on no input than full, which is better"),),
        trials=trials,
        reference_point=(0.81, 8.1),
        hypervolume=0.0123,
        random=RandomComparison(0.0101, trials[:4]),
        time_model={"costs": {}},
        final_error=FitError(20, 0.04, 0.09),
        final_error_at_one_speed=FitError(20, 0.02, 0.05),
        speed_change=1.03,
    )
