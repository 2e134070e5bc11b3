"""What a bundle takes on disk and in memory."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dynbert.errors import BundleError
from dynbert.manifest import Target
from dynbert.page import memory
from dynbert.page.memory import list_files_by_use, measure_memory
from tests.helpers.bundles import WORDS, make_bundle, rewrite_manifest

_needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's memory")


def test_files_are_listed_by_use_and_add_up(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle.folder / "weights.int8.bin").write_bytes(b"x" * 4_000_000)
    rows, total = list_files_by_use(rewrite_manifest(bundle).manifest)
    assert [(row.name, row.files) for row in rows] == [
        ("Weights that 3 graphs share", "weights.int8.bin"),
        ("int8 avx2 graphs, one a profile", "3 files"),
        ("fp32 graphs, one a profile", "3 files"),
        ("Tokenizer, configuration and records", "2 files"),
    ]
    assert rows[0].size == "4.0 MB"
    size = sum(path.stat().st_size for path in bundle.folder.iterdir() if path.name != "manifest.json")
    assert total == f"{size / 1e6:.1f} MB"
    assert rows[0].share > 90


@_needs_linux
def test_memory_is_that_of_a_process_with_one_graph_after_the_other(embedding_bundle):
    used = measure_memory(embedding_bundle.folder, embedding_bundle.manifest, machine=Target.AVX2, threads=1)
    assert [row.name for row in used.rows] == ["Python, onnxruntime and dynbert", "full", "fast"]
    assert used.number_formats == "int8 avx2"
    assert used.rows[0].megabytes > 5
    assert all(row.megabytes >= 0 for row in used.rows)
    assert used.total_megabytes == pytest.approx(sum(row.megabytes for row in used.rows))
    assert sum(row.share for row in used.rows) == pytest.approx(100, abs=2)


@_needs_linux
def test_memory_grows_with_the_weights(tmp_path):
    """A table of 40 MB, which the first graph brings; the oracle is its size."""
    table = np.random.default_rng(0).normal(size=(len(WORDS), 250_000)).astype(np.float32)
    bundle = make_bundle(tmp_path / "bundle", table=table, profiles={"full": None})
    used = measure_memory(bundle.folder, bundle.manifest, machine=Target.AVX2, threads=1)
    assert used.rows[1].megabytes > table.nbytes / 1e6


@_needs_linux
def test_a_graph_that_does_not_open_is_named(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle.folder / "fast.int8.onnx").write_bytes(b"nonsense")
    with pytest.raises(BundleError, match=r"must open in a process of its own, got: .*fast\.int8\.onnx"):
        measure_memory(bundle.folder, bundle.manifest, machine=Target.AVX2, threads=1)


@_needs_linux
def test_a_process_that_does_not_end_is_given_up(embedding_bundle, monkeypatch):
    monkeypatch.setattr(memory, "_SECONDS", 0.01)
    with pytest.raises(BundleError, match=r"got: no answer within 0\.01 s"):
        measure_memory(embedding_bundle.folder, embedding_bundle.manifest, machine=Target.AVX2, threads=1)


def test_elsewhere_there_is_no_measurement(embedding_bundle, monkeypatch, tmp_path):
    monkeypatch.setattr(memory, "_SMAPS", tmp_path / "smaps_rollup")
    assert measure_memory(embedding_bundle.folder, embedding_bundle.manifest, machine=None, threads=1) is None
