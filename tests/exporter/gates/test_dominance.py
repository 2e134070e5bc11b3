"""The gate of dominance: a profile that is faster on no input than a better one has no reason to be."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert.manifest import DataLatency, Evaluation, Latency, MetricValue, Precision, Task
from dynbert_export.errors import GateError
from dynbert_export.gates.dominance import Choice, check_dominance, find_dominated, is_faster_somewhere
from tests.helpers.bundles import make_bundle

_NUMBERS = st.integers(0, 3)
_CHOICES = st.lists(st.tuples(_NUMBERS, _NUMBERS, _NUMBERS), min_size=1, max_size=6)


def _choice(name, quality, *times):
    return Choice(name, quality, {f"at {place} tokens": float(ms) for place, ms in enumerate(times)})


@given(_CHOICES)
def test_dominated_are_those_with_a_better_one_that_is_nowhere_slower(numbers):
    choices = [_choice(str(place), *each) for place, each in enumerate(numbers)]
    expected = [
        str(place)
        for place, (quality, *times) in enumerate(numbers)
        if any(other > quality and a <= times[0] and b <= times[1] for other, a, b in numbers)
    ]
    found = find_dominated(choices)
    assert [each.choice.name for each in found] == expected
    assert all(each.by.quality > each.choice.quality for each in found)
    assert not {each.by.name for each in found} & set(expected)  # the best that dominates is dominated by none


@pytest.mark.parametrize(("own", "is_faster"), [((2.0, 5.0), False), ((1.99, 6.0), False), ((1.9, 6.0), True)])
def test_faster_is_what_noise_would_not_make(own, is_faster):
    assert is_faster_somewhere(own, (2.0, 5.0)) is is_faster


def test_the_reason_names_both_and_their_numbers():
    [dominated] = find_dominated([_choice("full", 0.9, 2.0, 5.0), _choice("odd", 0.85, 2.5, 5.0)])
    assert dominated.explain() == (
        "odd must be faster on some input than full, which answers better (85.0 and 90.0 %), "
        "got 2.50 and 2.00 ms at 0 tokens, 5.00 and 5.00 ms at 1 tokens."
    )


def _measured(manifest, numbers):
    """Return a manifest whose graphs have these qualities and times: (profile, precision) -> both."""

    def measure(graph):
        if (graph.profile, graph.precision) not in numbers:
            return graph
        quality, ms = numbers[graph.profile, graph.precision]
        evaluation = Evaluation(
            data="toy.csv",
            sha256="0" * 64,
            examples=40,
            metrics=(MetricValue(name="accuracy", value=quality, low=0.0, high=1.0),),
            latency=DataLatency(inputs=5, threads=1, median_ms=ms, p95_ms=2 * ms),
        )
        latency = (Latency(tokens=16, batch=1, threads=1, median_ms=ms),)
        return msgspec.structs.replace(graph, latency=latency, evaluations=(evaluation,))

    return msgspec.structs.replace(manifest, graphs=tuple(map(measure, manifest.graphs)))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("toy"), task=Task.TEXT_CLASSIFICATION).manifest


def test_a_profile_is_refused_by_name_with_the_reason(manifest):
    numbers = {("full", Precision.INT8): (0.9, 2.0), ("fast", Precision.INT8): (0.8, 3.0)}
    with pytest.raises(GateError) as caught:
        check_dominance(_measured(manifest, numbers))
    reason, remedy = str(caught.value).splitlines()
    assert reason == (
        "Profile fast must be faster on some input than full, which answers better (80.0 and 90.0 %), "
        "got 3.00 and 2.00 ms at 16 tokens, 3.00 and 2.00 ms at the data's median, "
        "6.00 and 4.00 ms at its 95th percentile. (int8)"
    )
    assert remedy == "Leave the profile out, or give it shorter lengths; gates.refuse_dominated: false publishes it."


@pytest.mark.parametrize(
    "numbers",
    [
        {},
        {("full", Precision.INT8): (0.9, 2.0), ("fast", Precision.INT8): (0.8, 1.0)},
        {("full", Precision.INT8): (0.8, 2.0), ("fast", Precision.INT8): (0.8, 3.0)},
        {("full", Precision.INT8): (0.8, 3.0), ("fast", Precision.INT8): (0.9, 2.0)},  # full is never refused
        {("full", Precision.FP32): (0.9, 2.0), ("fast", Precision.INT8): (0.8, 3.0)},  # of another precision
    ],
)
def test_what_has_a_reason_passes(manifest, numbers):
    check_dominance(_measured(manifest, numbers))
