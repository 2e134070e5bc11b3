"""A bundle that was exported before: it loads, answers as it did, and verifies.

``golden/bundle-v1`` was written by dynbert 0.1.0 before schema 2; the answers below are what it gave then.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import dynbert
from dynbert.errors import BundleError
from dynbert.manifest import MANIFEST_FILE, SCHEMA_VERSION, Precision, read_manifest, write_manifest
from dynbert.schema_1 import upgrade
from dynbert.verify import verify_bundle

_BUNDLE = Path(__file__).parents[1] / "golden" / "bundle-v1"
_TEXT = "the film was bad"
_LABELS = ["negative", "positive", "positive", "positive"]
_SCORES = {
    ("int8", None): [0.6088328, 0.4627586, 0.6955274, 0.7351259],
    ("int8", "fast"): [0.6088328, 0.4627586, 0.8193802, 0.7769534],
    ("int8", (0.3,)): [0.5268614, 0.4627586, 0.8193802, 0.7769534],
    ("fp32", None): [0.6107284, 0.4616098, 0.6983188, 0.7316156],
    ("fp32", "fast"): [0.6107284, 0.4616098, 0.8203181, 0.7773300],
    ("fp32", (0.3,)): [0.5273478, 0.4616098, 0.8203181, 0.7773300],
}
"""Precision and profile or length config -> each word's score."""


@pytest.fixture
def record():
    return json.loads((_BUNDLE / MANIFEST_FILE).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("precision", "lengths"), list(_SCORES))
def test_an_old_bundle_answers_as_it_did(precision, lengths):
    model = dynbert.load(_BUNDLE, threads=1, precision=precision)
    asked = {"profile": lengths} if isinstance(lengths, str) else {"length_config": lengths}
    words = model(_TEXT, **asked).words
    assert [word.text for word in words] == _TEXT.split()
    assert [word.label for word in words] == _LABELS
    assert [word.score for word in words] == pytest.approx(_SCORES[precision, lengths], abs=1e-5)


def test_an_old_bundle_verifies():
    checks = verify_bundle(_BUNDLE, threads=1)
    assert [failure for check in checks for failure in check.failures] == []
    assert sum(check.name == "probe" for check in checks) == 6


def test_an_old_manifest_is_read_as_a_new_one(record):
    assert record["schema_version"] == 1
    manifest = read_manifest(_BUNDLE)
    assert manifest.schema_version == SCHEMA_VERSION
    assert len(manifest.graphs) == len(record["graphs"]) == 6
    for graph, old in zip(manifest.graphs, record["graphs"], strict=True):
        parity = old["parity"]
        if graph.precision is Precision.FP32:
            assert graph.agreement is None
            assert graph.parity.selection_agreement == parity["agreement"]
            assert (graph.parity.inputs, graph.parity.near_ties) == (parity["inputs"], 0)
            assert graph.parity.max_abs_difference == parity["max_abs_difference"]
        else:
            assert graph.parity is None
            assert (graph.agreement.metric, graph.agreement.value) == ("token_agreement", parity["agreement"])
            assert graph.agreement.inputs == parity["inputs"]
            assert graph.agreement.max_abs_difference == parity["max_abs_difference"]
    assert {graph.agreement.value for graph in manifest.graphs if graph.agreement} != {1.0}


def test_an_old_manifest_is_written_as_a_new_one(tmp_path):
    manifest = read_manifest(_BUNDLE)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert json.loads((tmp_path / MANIFEST_FILE).read_text())["schema_version"] == SCHEMA_VERSION


def test_upgrade_leaves_its_argument_as_it_was(record):
    before = json.dumps(record)
    upgrade(record)
    assert json.dumps(record) == before


def test_a_regression_s_agreement_gets_its_right_name(record):
    record["model"]["problem_type"] = "regression"
    for graph in record["graphs"]:
        if graph["quality"]:
            graph["quality"]["metric"] = "label_agreement"
    graphs = upgrade(record)["graphs"]
    assert {graph["quality"]["metric"] for graph in graphs if graph["quality"]} == {"closeness"}
    assert {graph["agreement"]["metric"] for graph in graphs if "agreement" in graph} == {"closeness"}


def test_an_old_bundle_of_which_nothing_was_judged_is_read(record):
    for graph in record["graphs"]:
        graph["quality"] = None
    assert {graph["agreement"]["metric"] for graph in upgrade(record)["graphs"] if "agreement" in graph} == {
        "agreement"
    }


def _lose_parity(record):
    del record["graphs"][0]["parity"]


def _lose_graphs(record):
    del record["graphs"]


def _have_digest(record):
    record["digest"] = "0" * 64


def _have_both(record):
    record["graphs"][0]["agreement"] = {"inputs": 1, "max_abs_difference": 0.0, "metric": "x", "value": 1.0}
    record["graphs"][0]["precision"] = "fp32"


def _be_numbers(record):
    record["graphs"] = [1, 2]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_lose_parity, r"missing required field `parity` - at `\$.graphs\[0\]`"),
        (_lose_graphs, "missing required field `graphs`"),
        (_have_digest, "unknown field `digest`"),
        (_have_both, "an fp32 graph must have parity alone, got parity and agreement"),
        (_be_numbers, "Expected `object`, got `int`"),
    ],
)
def test_an_old_manifest_that_breaks_its_schema_is_refused(record, tmp_path, damage, message):
    damage(record)
    folder = shutil.copytree(_BUNDLE, tmp_path / "bundle")
    (folder / MANIFEST_FILE).write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BundleError, match=f"must follow the bundle schema, got: .*{message}"):
        read_manifest(folder)
