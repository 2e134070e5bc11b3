"""Bundles with numbers to show."""

from __future__ import annotations

import pytest

from dynbert.manifest import ANYTIME, FULL, Precision
from tests.helpers.bundles import ToyBundle, make_bundle
from tests.helpers.pages import add_evaluations, add_latencies

_SPEEDS = {FULL: 1.0, "fast": 0.4, ANYTIME: 1.1}


def milliseconds(profile: str, precision: Precision, tokens: int) -> float:
    return _SPEEDS[profile] * tokens * (4 if precision is Precision.FP32 else 1)


@pytest.fixture(scope="session")
def timed_bundle(tmp_path_factory) -> ToyBundle:
    return add_latencies(make_bundle(tmp_path_factory.mktemp("timed")), milliseconds)


@pytest.fixture(scope="session")
def judged_bundle(tmp_path_factory) -> ToyBundle:
    bundle = add_latencies(make_bundle(tmp_path_factory.mktemp("judged")), milliseconds)
    return add_evaluations(bundle, "news", "letters")
