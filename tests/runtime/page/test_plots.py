"""Quality against time, and latency by length."""

from __future__ import annotations

import msgspec
import pytest

from dynbert.page.graphs import Times, list_graphs
from dynbert.page.latency_charts import plot_latency
from dynbert.page.plots import plot_quality
from dynbert.page.report import _recorded
from tests.helpers.bundles import make_bundle
from tests.helpers.pages import add_evaluations


def _plots(manifest, times=None):
    times = times or _recorded(manifest)
    return plot_quality(manifest, list_graphs(manifest, times), times)


def test_without_evaluations_there_is_agreement_and_the_page_says_so(timed_bundle):
    [plot] = _plots(timed_bundle.manifest)
    assert plot.note.startswith("This is agreement, not quality: cosine")
    assert "Toy CPU" in plot.note
    assert plot.x_title == "ms, one text of 16 tokens"
    assert (plot.headers, plot.rows, plot.missing) == ((), (), ())
    assert all(marker.low is None for marker in plot.markers)


def test_each_data_set_has_a_plot_at_its_own_lengths(judged_bundle):
    plots = _plots(judged_bundle.manifest)
    assert [(plot.name, plot.metric) for plot in plots] == [("news", "exact match"), ("letters", "exact match")]
    plot = plots[0]
    assert plot.x_title == "ms, one text at the data's own lengths"
    assert "1,234 examples of news" in plot.note
    assert len(plot.markers) == 4  # the anytime graphs were not evaluated
    for marker in plot.markers:
        assert marker.low < marker.y < marker.high
        assert marker.x == plot.x_axis.percent(3.0 if marker.graph.profile == "full" else 1.5)
    rows = {graph.name: cells for graph, cells in plot.rows}
    assert plot.headers == ("median ms", "p95 ms", "exact match", "95 % interval", "against full fp32", "p", "f1")
    assert rows["fast fp32"] == (
        *("1.50", "7.25", "0.800", "0.770 to 0.830", "-0.100 (-0.120 to -0.080)", "0.250", "0.400"),
    )
    assert rows["full fp32"][4:6] == ("\N{EN DASH}", "\N{EN DASH}")
    assert plot.tests == ("a test",)


def test_the_front_is_what_no_other_graph_beats(judged_bundle):
    """Fast INT8 is as fast as fast fp32 and worse; likewise full."""
    plot = _plots(judged_bundle.manifest)[0]
    assert [marker.graph.name for marker in plot.front] == ["fast fp32", "full fp32"]


def test_times_measured_here_take_the_place_of_the_data_s(judged_bundle):
    manifest = judged_bundle.manifest
    times = Times("This CPU", is_here=True, latencies=_recorded(manifest).latencies)
    plot = _plots(manifest, times)[0]
    assert plot.x_title == "ms, one text of 16 tokens"
    assert "This CPU" in plot.note
    assert plot.headers[:2] == ("ms", "exact match")


def test_without_times_at_the_data_s_lengths_the_typical_one_serves(timed_bundle, tmp_path):
    bundle = add_evaluations(make_bundle(tmp_path / "bundle"), "news", has_times=False)
    latencies = {graph.file: graph.latency for graph in timed_bundle.manifest.graphs if graph.profile == "full"}
    [plot] = _plots(bundle.manifest, Times("Toy CPU", is_here=False, latencies=latencies))
    assert plot.x_title == "ms, one text of 16 tokens"
    assert {marker.graph.profile for marker in plot.markers} == {"full"}
    assert plot.missing == ("fast int8 avx2", "fast fp32")


def test_there_is_no_plot_of_nothing(timed_bundle):
    manifest = timed_bundle.manifest
    assert _plots(manifest, Times("Toy CPU", is_here=False, latencies={})) == ()
    graphs = tuple(msgspec.structs.replace(graph, quality=None) for graph in manifest.graphs)
    assert _plots(msgspec.structs.replace(manifest, graphs=graphs)) == ()


def test_latency_has_a_chart_a_format_on_common_axes(timed_bundle):
    manifest = timed_bundle.manifest
    times = _recorded(manifest)
    int8, fp32 = plot_latency(list_graphs(manifest, times), times)
    assert (int8.name, fp32.name, int8.lengths) == ("int8 avx2", "fp32", (4, 8, 16))
    assert (int8.x_axis, int8.y_axis) == (fp32.x_axis, fp32.y_axis)
    assert [(line.graph.profile, line.cells) for line in int8.lines] == [
        ("full", ("4.00", "8.00", "16.0")),
        ("fast", ("1.60", "3.20", "6.4")),
        ("anytime", ("4.40", "8.80", "17.6")),
    ]
    for line in int8.lines:
        assert [y for _, y in line.places] == sorted(y for _, y in line.places)
        assert len(line.segments) == 2
    heights = [line.places[0][1] for line in (*int8.lines, *fp32.lines)]
    assert heights[3] - heights[0] == pytest.approx(heights[4] - heights[1], abs=0.01)  # four times, in each profile


def test_a_length_that_a_graph_was_not_measured_at_is_left_out(timed_bundle):
    manifest = timed_bundle.manifest
    latencies = dict(_recorded(manifest).latencies)
    latencies["fast.fp32.onnx"] = latencies["fast.fp32.onnx"][1:]
    times = Times("Toy CPU", is_here=False, latencies=latencies)
    fp32 = plot_latency(list_graphs(manifest, times), times)[1]
    assert [line.cells[0] for line in fp32.lines] == ["16.0", "\N{EN DASH}", "17.6"]
    assert [len(line.places) for line in fp32.lines] == [3, 2, 3]
    assert plot_latency((), Times("Toy CPU", is_here=False, latencies={})) == ()
