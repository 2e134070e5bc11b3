"""Latency: which lengths, and that what is measured is a graph's own run."""

from __future__ import annotations

import json

import pytest

from dynbert.latency import latency_lengths, measure_latency
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, Task, read_manifest
from tests.helpers.bundles import make_bundle
from tests.helpers.commands import invoke_dynbert


@pytest.mark.parametrize(
    ("max_length", "lengths"),
    [
        (512, (16, 32, 64, 128, 512)),
        (128, (16, 32, 64, 128)),
        (100, (16, 32, 64, 100)),
        (32, (16, 32)),
        (16, (16,)),
        (8, (8,)),
    ],
)
def test_latency_lengths_end_with_the_maximum(max_length, lengths):
    assert latency_lengths(max_length) == lengths


def test_measure_latency_gives_a_positive_median_for_each_length(embedding_bundle):
    manifest = read_manifest(embedding_bundle.folder)
    for graph in manifest.graphs:
        config = LengthConfig((0.5,) * manifest.model.num_layers) if graph.profile == ANYTIME else None
        latencies = measure_latency(embedding_bundle.folder / graph.file, manifest.model, (3, 7), config=config)
        assert [(latency.tokens, latency.batch, latency.threads) for latency in latencies] == [(3, 1, 1), (7, 1, 1)]
        assert all(latency.median_ms > 0 for latency in latencies)


def test_bench_prints_a_row_for_each_graph(embedding_bundle):
    result = invoke_dynbert("bench", embedding_bundle.folder, "--tokens", "4")
    assert result.exit_code == 0, result.output
    graphs = read_manifest(embedding_bundle.folder).graphs
    assert "ms at 4" in result.output
    for graph in graphs:
        assert f"\n{graph.profile}" in result.output


@pytest.mark.parametrize("task", list(Task))
def test_bench_measures_bundles_of_every_task(tmp_path, task):
    bundle = make_bundle(tmp_path / "bundle", task=task, profiles={ANYTIME: None})
    result = invoke_dynbert("bench", bundle.folder, "--tokens", "4", "--json")
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.output)["graphs"]) == {graph.file for graph in bundle.manifest.graphs}


def test_bench_prints_json_when_asked(embedding_bundle):
    result = invoke_dynbert("bench", embedding_bundle.folder, "--tokens", "4", "--json")
    record = json.loads(result.output)
    assert set(record["graphs"]) == {graph.file for graph in read_manifest(embedding_bundle.folder).graphs}
    assert all(latency["tokens"] == 4 for latencies in record["graphs"].values() for latency in latencies)


def test_bench_refuses_a_length_beyond_the_maximum(embedding_bundle):
    result = invoke_dynbert("bench", embedding_bundle.folder, "--tokens", "100000")
    assert result.exit_code == 2
    assert "--tokens must be at most" in result.output
