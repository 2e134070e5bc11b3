"""A bundle of embeddings that was exported before graphs could pool: it loads, answers as it did, and verifies.

``golden/bundle-v2`` was written by dynbert 0.1.0 before schema 3; the numbers below are what it gave then.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import dynbert
from dynbert.errors import BundleError
from dynbert.manifest import MANIFEST_FILE, SCHEMA_VERSION, Embeddings, Task, read_manifest, write_manifest
from dynbert.schema_2 import upgrade
from dynbert.verify import verify_bundle
from tests.helpers.bundles import make_bundle

_BUNDLE = Path(__file__).parents[1] / "golden" / "bundle-v2"
_TEXT = "the film was bad"
_EMBEDDINGS = [
    ({}, [0.1726218, -0.1647932, 0.1224873, 0.2362053]),
    ({"profile": "fast"}, [0.2128838, 0.1133698, 0.0865024, 0.1216387]),
    ({"length_config": (0.3,)}, [0.1737681, 0.2233396, 0.0625581, 0.1091663]),
    ({"pooling": "cls"}, [0.1026916, -0.2907695, 0.0757686, 0.2026343]),
]
"""What is asked for -> the first numbers of the embedding."""


@pytest.fixture
def record():
    return json.loads((_BUNDLE / MANIFEST_FILE).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("asked", "expected"), _EMBEDDINGS)
def test_an_old_bundle_answers_as_it_did(asked, expected):
    model = dynbert.load(_BUNDLE, threads=1)
    assert model.encode(_TEXT, **asked)[:4] == pytest.approx(expected, abs=1e-5)


def test_an_old_bundle_verifies():
    checks = verify_bundle(_BUNDLE, threads=1)
    assert [failure for check in checks for failure in check.failures] == []
    assert sum(check.name == "probe" for check in checks) == 3


def test_an_old_manifest_is_read_and_written_as_a_new_one(record, tmp_path):
    assert record["schema_version"] == 2
    assert "embeddings" not in record["model"]
    manifest = read_manifest(_BUNDLE)
    assert (manifest.schema_version, manifest.model.embeddings) == (SCHEMA_VERSION, Embeddings.TOKEN_STATES)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def test_upgrade_leaves_its_argument_as_it_was(record):
    before = json.dumps(record)
    upgrade(record)
    assert json.dumps(record) == before


@pytest.mark.parametrize("task", list(Task))
def test_every_task_is_read(tmp_path, task):
    bundle = make_bundle(tmp_path / "bundle", task=task)
    record = json.loads((bundle.folder / MANIFEST_FILE).read_text(encoding="utf-8"))
    del record["model"]["embeddings"]
    assert upgrade(record)["model"]["embeddings"] == ("token-states" if task is Task.FEATURE_EXTRACTION else None)


def _lose_task(record):
    del record["model"]["task"]


def _lose_model(record):
    del record["model"]


def _have_a_foreign_key(record):
    record["model"]["surprise"] = 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_lose_task, r"missing required field `task` - at `\$.model`"),
        (_lose_model, "missing required field `model`"),
        (_have_a_foreign_key, "unknown field `surprise`"),
    ],
)
def test_an_old_manifest_that_breaks_its_schema_is_refused(record, tmp_path, damage, message):
    damage(record)
    _assert_refused(record, tmp_path, f"must follow the bundle schema, got: .*{message}")


def test_an_old_manifest_that_is_not_as_it_was_written_is_refused(record, tmp_path):
    record["model"]["pooling"]["mode"] = "cls"
    _assert_refused(record, tmp_path, "must be as it was written, got a digest that is not its own")


def _assert_refused(record, tmp_path, message):
    folder = shutil.copytree(_BUNDLE, tmp_path / "bundle")
    (folder / MANIFEST_FILE).write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(BundleError, match=message):
        read_manifest(folder)
