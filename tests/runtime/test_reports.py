"""What the ``dynbert`` command prints of bundles."""

from __future__ import annotations

import msgspec
import pytest

from dynbert.manifest import FULL, Embeddings, Latency, Task
from dynbert.reports import bench_text, info_text, verification_text
from dynbert.verify import Check
from tests.helpers.bundles import make_bundle

_TOKENS = (16, 32, 64, 128, 512)


@pytest.fixture
def manifest(tmp_path):
    return make_bundle(tmp_path / "bundle", profiles={FULL: None, "fast": (0.5, 0.25)}).manifest


def _latencies(factor, tokens=_TOKENS):
    return tuple(Latency(tokens=count, batch=1, threads=1, median_ms=factor * count) for count in tokens)


def _cells(text):
    """Return the rows of the table at the end of a text; cells are two spaces apart."""
    lines = text.split("\n\n")[-1].splitlines()
    return [[cell.strip() for cell in line.split("  ") if cell.strip()] for line in (lines[0], *lines[2:])]


def test_info_has_a_column_for_each_length(manifest):
    graphs = tuple(msgspec.structs.replace(graph, latency=_latencies(0.01)) for graph in manifest.graphs)
    header, *rows = _cells(info_text(msgspec.structs.replace(manifest, graphs=graphs)))
    assert header[6:] == [*(f"ms at {count}" for count in _TOKENS), "quality"]
    assert [row[:5] for row in rows] == [
        ["full", "all", "int8", "avx2", "full.int8.onnx"],
        ["full", "all", "fp32", "any", "full.fp32.onnx"],
        ["fast", "0.5,0.25", "int8", "avx2", "fast.int8.onnx"],
        ["fast", "0.5,0.25", "fp32", "any", "fast.fp32.onnx"],
    ]
    for row in rows:
        assert row[6:] == ["0.16", "0.32", "0.64", "1.28", "5.12", "0.9976 cosine (toy texts)"]


def test_info_leaves_a_cell_empty_where_a_graph_was_not_measured(manifest):
    """Bundles that were exported before have no short lengths."""
    graphs = (
        msgspec.structs.replace(manifest.graphs[0], latency=_latencies(0.01, (64, 128))),
        *(msgspec.structs.replace(graph, latency=_latencies(0.01)) for graph in manifest.graphs[1:]),
    )
    header, first, *_ = _cells(info_text(msgspec.structs.replace(manifest, graphs=graphs)))
    assert header[6:] == [*(f"ms at {count}" for count in _TOKENS), "quality"]
    assert first[6:] == ["0.64", "1.28", "0.9976 cosine (toy texts)"]


def test_bench_compares_at_the_longest_input_whatever_the_order(manifest):
    results = {
        graph.file: _latencies(factor, (512, 16))
        for graph, factor in zip(manifest.graphs, (0.01, 0.04, 0.02, 0.03), strict=True)
    }
    header, *rows = _cells(bench_text(manifest, results))
    assert header == ["profile", "precision", "target", "ms at 16", "ms at 512", "speed-up"]
    assert rows == [
        ["full", "int8", "avx2", "0.16", "5.12", "4.00x"],
        ["full", "fp32", "any", "0.64", "20.48", "1.00x"],
        ["fast", "int8", "avx2", "0.32", "10.24", "2.00x"],
        ["fast", "fp32", "any", "0.48", "15.36", "1.33x"],
    ]


def test_verification_has_every_failure_in_full_below_the_table():
    checks = [Check("a", "opens"), Check("b", "runs", ("one", "two"), "9 shapes"), Check("c", "probe", ("three",))]
    lines = verification_text(checks).splitlines()
    assert [line.split()[:3] for line in lines[2:5]] == [
        ["a", "opens", "ok"],
        ["b", "runs", "FAILED"],
        ["c", "probe", "FAILED"],
    ]
    assert lines[6:] == [
        "FAILED b, runs: one",
        "FAILED b, runs: two",
        "FAILED c, probe: three",
        "2 of 3 checks failed.",
    ]
    assert verification_text(checks[:1]).splitlines()[-1] == "All 1 checks passed."


@pytest.mark.parametrize(
    ("embeddings", "expected"), [("pooled", "pooled (mean, normalised)"), ("token-states", "token-")]
)
def test_info_says_what_the_graphs_of_an_embedder_give(tmp_path, embeddings, expected):
    text = info_text(make_bundle(tmp_path / "bundle", embeddings=Embeddings(embeddings)).manifest)
    [line] = [line for line in text.splitlines() if line.startswith("embeddings")]
    assert expected in line
    other = info_text(make_bundle(tmp_path / "other", task=Task.TEXT_CLASSIFICATION).manifest)
    assert "embeddings" not in other


def test_info_says_which_layers_run_where_some_are_left_out(tmp_path):
    bundle = make_bundle(tmp_path / "toy", profiles={FULL: None, "fast": (0.5, 0.25)}, layers={"fast": (1,)})
    header, *rows = _cells(info_text(bundle.manifest))
    assert header[:4] == ["profile", "lengths", "layers", "precision"]
    assert [row[:4] for row in rows[::2]] == [["full", "all", "all", "int8"], ["fast", "0.5,0.25", "1", "int8"]]
    assert {len(row) for row in rows} == {len(header)}
