"""A graph's facts as cells: the same words wherever a graph is shown."""

from __future__ import annotations

import msgspec
import pytest

from dynbert.graph_rows import (
    conditions_header,
    layers_header,
    list_conditions,
    list_rows,
    metric_text,
    milliseconds,
    pooling_text,
    size_text,
)
from dynbert.manifest import ANYTIME, Latency, Pooling, PoolingMode
from tests.helpers.bundles import make_bundle


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("toy")).manifest


def _latency(tokens, median_ms, batch=1, threads=1):
    return Latency(tokens=tokens, batch=batch, threads=threads, median_ms=median_ms)


def test_rows_are_the_graphs_in_their_order(manifest):
    rows = list_rows(manifest)
    assert [row.file for row in rows] == [graph.file for graph in manifest.graphs]
    by_file = {row.file: row for row in rows}
    fast = by_file["fast.int8.onnx"]
    assert (fast.profile, fast.lengths, fast.precision, fast.target) == ("fast", "0.5,0.25", "int8", "avx2")
    assert (fast.number_format, by_file["fast.fp32.onnx"].number_format) == ("int8 avx2", "fp32")
    assert by_file["fast.fp32.onnx"].target == "any"
    assert by_file["full.int8.onnx"].lengths == "all"
    assert by_file["anytime.int8.onnx"].lengths == "at run time"
    assert (fast.quality, fast.quality_in_full) == ("0.9976", "0.9976 cosine (toy texts)")
    assert fast.latencies == {(16, 1, 1): "1.25"}


def test_a_graph_that_was_not_judged_has_no_quality(manifest):
    graphs = tuple(msgspec.structs.replace(graph, quality=None) for graph in manifest.graphs)
    unjudged = msgspec.structs.replace(manifest, graphs=graphs)
    assert {(row.quality, row.quality_in_full) for row in list_rows(unjudged)} == {("", "")}
    assert metric_text(unjudged) == "agreement"


def test_the_metric_is_that_of_the_first_graph_that_has_one(manifest):
    graphs = tuple(
        msgspec.structs.replace(
            graph,
            quality=None
            if graph.profile == ANYTIME
            else msgspec.structs.replace(graph.quality, metric="label_agreement"),
        )
        for graph in reversed(manifest.graphs)
    )
    assert metric_text(msgspec.structs.replace(manifest, graphs=graphs)) == "label agreement"


def test_latency_cells_are_by_column_and_empty_where_nothing_was_measured(manifest):
    latency = (_latency(128, 4.5), _latency(16, 0.125))
    graph = msgspec.structs.replace(manifest.graphs[0], latency=latency)
    [row] = list_rows(msgspec.structs.replace(manifest, graphs=(graph,)))
    columns = list_conditions([*latency, _latency(64, 1.0), _latency(64, 2.0)])
    assert columns == ((16, 1, 1), (64, 1, 1), (128, 1, 1))
    assert row.latency_cells(columns) == ("0.12", "", "4.50")
    assert milliseconds(latency[0]) == "4.50"


@pytest.mark.parametrize(
    ("conditions", "header"),
    [
        ((64, 1, 1), "ms at 64"),
        ((64, 8, 1), "ms at 64, batch 8"),
        ((64, 1, 2), "ms at 64, 2 threads"),
        ((64, 8, 2), "ms at 64, batch 8, 2 threads"),
    ],
)
def test_headers_name_what_is_not_one(conditions, header):
    assert conditions_header(conditions) == header


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0.0 kB"), (999_949, "999.9 kB"), (1_000_000, "1.0 MB"), (131_900_000, "131.9 MB")]
)
def test_sizes_have_a_unit(size, text):
    assert size_text(size) == text


def test_pooling_in_words():
    assert pooling_text(Pooling(mode=PoolingMode.MEAN, normalize=True)) == "mean, normalised"
    assert pooling_text(Pooling(mode=PoolingMode.CLS, normalize=False)) == "cls, not normalised"
    assert pooling_text(None) == "none"


def test_layers_have_a_cell_only_where_a_profile_leaves_out_some(manifest, tmp_path):
    assert layers_header(manifest) == ()
    assert {row.layer_cells for row in list_rows(manifest)} == {()}
    profiles = {"full": None, "fast": (0.5, 0.25), "short": None}
    bundle = make_bundle(tmp_path / "toy", profiles=profiles, layers={"fast": (0,), "short": (0, 1)})
    assert layers_header(bundle.manifest) == ("layers",)
    cells = {row.profile: (row.lengths, row.layer_cells) for row in list_rows(bundle.manifest)}
    assert cells == {"full": ("all", ("all",)), "fast": ("0.5,0.25", ("0",)), "short": ("all", ("0,1",))}
