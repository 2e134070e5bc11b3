"""What the page says of each graph, and which it advises."""

from __future__ import annotations

import msgspec
import pytest

from dynbert.manifest import Quality, Target
from dynbert.page.advice import advise
from dynbert.page.graphs import NO_NUMBER, column_of_milliseconds, list_graphs, milliseconds_text, quality_text
from dynbert.page.report import _recorded


def _views(manifest):
    return {view.name: view for view in list_graphs(manifest, _recorded(manifest))}


def _replace_graphs(manifest, change):
    return msgspec.structs.replace(manifest, graphs=tuple(map(change, manifest.graphs)))


@pytest.mark.parametrize(
    ("value", "text"), [(None, NO_NUMBER), (0.4321, "0.43"), (9.994, "9.99"), (12.34, "12.3"), (512.4, "512")]
)
def test_times_have_three_digits(value, text):
    assert milliseconds_text(value) == text


def test_a_column_s_times_have_equally_many_decimals():
    assert column_of_milliseconds([1.234, None, 56.78]) == ["1.2", NO_NUMBER, "56.8"]
    assert column_of_milliseconds([None]) == [NO_NUMBER]


def test_speeds_are_relative_to_full_fp32_at_the_typical_length(timed_bundle):
    manifest = timed_bundle.manifest
    assert _recorded(manifest).typical_tokens == 16
    views = _views(manifest)
    assert {name: view.speed for name, view in views.items()} == pytest.approx(
        {
            "full int8 avx2": 4.0,
            "full fp32": 1.0,
            "fast int8 avx2": 10.0,
            "fast fp32": 2.5,
            "anytime int8 avx2": 4 / 1.1,
            "anytime fp32": 1 / 1.1,
        }
    )
    assert [name for name, view in views.items() if view.is_base] == ["full fp32"]
    assert views["fast int8 avx2"].ms_text == "6.4"
    assert quality_text(views["fast fp32"]) == "0.998"


def test_without_fp32_speeds_are_relative_to_full(timed_bundle):
    manifest = timed_bundle.manifest
    int8 = msgspec.structs.replace(manifest, graphs=tuple(graph for graph in manifest.graphs if graph.target))
    assert _views(int8)["fast int8 avx2"].speed == pytest.approx(2.5)


def test_graphs_differ_by_shape_and_fill(timed_bundle):
    manifest = timed_bundle.manifest
    twins = tuple(
        msgspec.structs.replace(graph, target=Target.VNNI, file=f"vnni-{graph.file}")
        for graph in manifest.graphs
        if graph.target is not None
    )
    views = _views(msgspec.structs.replace(manifest, graphs=manifest.graphs + twins))
    assert len({(view.colour, view.fill) for view in views.values()}) == len(views) == 9


def test_a_graph_without_times_has_no_numbers(timed_bundle):
    untimed = _replace_graphs(
        timed_bundle.manifest, lambda graph: msgspec.structs.replace(graph, latency=(), quality=None)
    )
    view = _views(untimed)["fast fp32"]
    assert (view.ms, view.speed, view.ms_text, quality_text(view)) == (None, None, NO_NUMBER, NO_NUMBER)
    assert advise(untimed, list(_views(untimed).values())) == ()


def _agreeing(values):
    def change(graph):
        value = values.get(graph.profile)
        quality = value and Quality(metric="cosine", value=value, data="toy texts", samples=4)
        return msgspec.structs.replace(graph, quality=quality or None)

    return change


@pytest.mark.parametrize(
    ("fast", "chosen"),
    [
        (0.999, [("fast int8 avx2", 3)]),
        (0.96, [("full int8 avx2", 1), ("fast int8 avx2", 2)]),
        (0.5, [("full int8 avx2", 2), ("fast int8 avx2", 1)]),
    ],
)
def test_advice_by_agreement_is_the_fastest_that_agrees_enough(timed_bundle, fast, chosen):
    manifest = _replace_graphs(timed_bundle.manifest, _agreeing({"full": 1.0, "fast": fast}))
    advice = advise(manifest, list_graphs(manifest, _recorded(manifest)))
    assert [(item.graph.name, len(item.wishes)) for item in advice] == chosen
    assert advice[-1].reason == f"cosine {fast:.3f}"


def test_one_number_of_quality_is_of_one_data_set(judged_bundle):
    """Whatever the order in which a graph has its evaluations."""
    manifest = _replace_graphs(
        judged_bundle.manifest,
        lambda graph: msgspec.structs.replace(
            graph, evaluations=graph.evaluations[::-1] if graph.profile == "fast" else graph.evaluations
        ),
    )
    assert {view.evaluation.data for view in _views(manifest).values() if view.evaluation} == {"news"}


def test_advice_by_labelled_data_weighs_intervals(judged_bundle):
    """Full INT8 loses 0.01 of 0.9, within the interval; fast loses 0.11, beyond it."""
    manifest = judged_bundle.manifest
    advice = advise(manifest, list_graphs(manifest, _recorded(manifest)))
    assert [(item.wishes, item.graph.name) for item in advice] == [
        (("No loss that the data show", "At least 98% of the full model's score"), "full int8 avx2"),
        (("The fastest",), "fast int8 avx2"),
    ]
    assert advice[1].reason == "exact match 0.790 (0.760 to 0.820), -0.110 against full fp32 (-0.130 to -0.090)"
