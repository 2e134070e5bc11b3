"""Artifacts: made once, made again when anything that they depend on changes."""

from __future__ import annotations

import pytest

from dynbert_bench import store
from dynbert_bench.arrays import read_arrays
from dynbert_bench.floor import Product
from dynbert_bench.layout import GRAPH_FILE
from dynbert_bench.store import Blueprint, PreparationError, Store

_PRODUCT = Product("int8", "tiny", 0, rows=4, inner=8, columns=16)


def test_an_artifact_is_made_once(tmp_path):
    first = Store(tmp_path).get(_PRODUCT.blueprint)
    made = (first / GRAPH_FILE).stat().st_mtime_ns
    assert Store(tmp_path).get(_PRODUCT.blueprint) == first
    assert (first / GRAPH_FILE).stat().st_mtime_ns == made
    assert list(read_arrays(first / "inputs.npz")[0]) == ["left"]


def test_key_depends_on_all_that_the_artifact_is_made_of(monkeypatch):
    source = Blueprint("a")
    blueprints = [
        Blueprint("b"),
        Blueprint("b", {"x": 1}),
        Blueprint("b", {}, {"source": source}),
        Blueprint("b", {}, {"source": Blueprint("a", {"x": 1})}),
        Blueprint("b", {}, {}, ("numpy",)),
    ]
    keys = [blueprint.key for blueprint in blueprints]
    assert len(set(keys)) == len(keys)
    monkeypatch.setattr(store, "code_digest", lambda: "other code")
    assert blueprints[0].key not in keys


def test_a_failure_has_its_reason_and_is_not_tried_twice(tmp_path, monkeypatch):
    blueprint = Blueprint("bundle", {"quantize": "none"}, {"checkpoint": Blueprint("no such kind")})
    artifacts = Store(tmp_path)
    with pytest.raises(
        PreparationError, match=r"no such kind must be made without an error, got exit code 1: KeyError"
    ):
        artifacts.get(blueprint)
    monkeypatch.setattr(artifacts, "_make", lambda *_: pytest.fail("tried again"))
    with pytest.raises(PreparationError, match="KeyError"):
        artifacts.get(blueprint)
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and not path.name.startswith(".")]
