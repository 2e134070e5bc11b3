"""Bundles of schema 3 are read: they lack what schema 4 added, and nothing else has changed."""

from __future__ import annotations

import hashlib
import json

import pytest

from dynbert.manifest import MANIFEST_FILE, SCHEMA_VERSION, Manifest, manifest_record, read_manifest, write_manifest
from dynbert.schema_3 import VERSION, upgrade
from tests.helpers.bundles import make_bundle


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle").folder


def _as_written_then(manifest: Manifest) -> dict:
    """Return a manifest's record as schema 3 had it, with the digest of what it says."""
    record = {key: value for key, value in manifest_record(manifest).items() if key != "digest"}
    record["schema_version"] = VERSION
    for graph in record["graphs"]:
        del graph["evaluations"]
    for profile in record["profiles"]:
        del profile["layer_config"]
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":")).encode("ascii")
    return {**record, "digest": hashlib.sha256(canonical).hexdigest()}


def test_an_old_manifest_is_read_and_written_as_a_new_one(bundle):
    manifest = read_manifest(bundle)
    (bundle / MANIFEST_FILE).write_text(json.dumps(_as_written_then(manifest)))
    read = read_manifest(bundle)
    assert read == manifest
    assert read.schema_version == SCHEMA_VERSION
    write_manifest(bundle, read)
    assert read_manifest(bundle) == manifest


def test_upgrade_leaves_its_argument_as_it_was(bundle):
    record = _as_written_then(read_manifest(bundle))
    before = json.dumps(record)
    upgrade(record)
    assert json.dumps(record) == before
