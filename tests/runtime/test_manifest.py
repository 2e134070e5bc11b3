"""Reading and writing ``manifest.json``: what is refused, and that no change of it goes unnoticed."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest

from dynbert.errors import BundleError
from dynbert.manifest import MANIFEST_FILE, SCHEMA_VERSION, manifest_record, read_manifest, write_manifest
from tests.helpers.bundles import make_bundle


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "bundle")


def edit(bundle, **changes):
    """Set keys of a manifest, and leave its digest."""
    path = bundle.folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_read_manifest_returns_what_was_written(bundle, tmp_path):
    read = read_manifest(bundle.folder)
    assert read == bundle.manifest
    assert read.graphs
    assert read.schema_version == SCHEMA_VERSION == 4
    assert {entry.file for entry in read.entries} | {MANIFEST_FILE} == {p.name for p in bundle.folder.iterdir()}
    write_manifest(tmp_path, read)
    assert (tmp_path / MANIFEST_FILE).read_bytes() == (bundle.folder / MANIFEST_FILE).read_bytes()


def test_read_manifest_names_the_folder_when_there_is_none(tmp_path):
    with pytest.raises(BundleError, match=r"must be a folder with a readable manifest.json, got .*absent"):
        read_manifest(tmp_path / "absent")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"schema_version": "1", "minimum_runtime": "0"}',
        b'{"schema_version": 1, "minimum_runtime": "0"}',
        b'{"schema_version": 0, "minimum_runtime": "0"}',
        b'{"schema_version": 2, "minimum_runtime": "0"}',
        b'{"schema_version": 3, "minimum_runtime": "0"}',
        b'{"schema_version": 4, "minimum_runtime": "0"}',
        b'{"schema_version": 4, "minimum_runtime": "\xff"}',
        b'{"schema_version": 1e999, "minimum_runtime": "0"}',
    ],
)
def test_read_manifest_refuses_what_is_no_manifest(tmp_path, raw):
    (tmp_path / MANIFEST_FILE).write_bytes(raw)
    with pytest.raises(BundleError, match=r"must follow the bundle schema, got: .* Export the bundle again"):
        read_manifest(tmp_path)


def test_read_manifest_names_the_version_to_install_when_schema_is_newer(tmp_path):
    raw = {"schema_version": 99, "minimum_runtime": "7.1.0", "something": "else"}
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=r"schema version must be at most 4 .* got 99. Install dynbert>=7.1.0"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, "unknown field `surprise`"),
        (
            {"profiles": [{"name": "full", "length_config": None}]},
            "graphs must belong to profiles of the manifest, got anytime, fast",
        ),
        (
            {"profiles": [{"name": name, "length_config": [3, 2, 1]} for name in ("full", "fast", "anytime")]},
            "must have 2 entries, one a layer, got 3",
        ),
        (
            {"files": [{"file": "../outside.bin", "sha256": "0" * 64, "bytes": 1}]},
            r"file must be a plain name inside the bundle or one of its folders, got '\.\./outside\.bin'",
        ),
    ],
)
def test_read_manifest_refuses_what_breaks_the_schema(bundle, changes, message):
    edit(bundle, **changes)
    with pytest.raises(BundleError, match=message):
        read_manifest(bundle.folder)


def change_label(record):
    record["model"]["labels"][0] = "positive"


def change_maximum(record):
    record["model"]["max_length"] += 1


def change_latency(record):
    record["graphs"][0]["latency"][0]["median_ms"] *= 2


def swap_files(record):
    first, second = record["graphs"][:2]
    for key in ("file", "sha256", "bytes"):
        first[key], second[key] = second[key], first[key]


def change_digest(record):
    record["digest"] = "0" * 64


def lose_digest(record):
    del record["digest"]


@pytest.mark.parametrize(
    "change", [change_label, change_maximum, change_latency, swap_files, change_digest, lose_digest]
)
def test_read_manifest_refuses_what_is_not_as_it_was_written(tmp_path, change):
    bundle = make_bundle(tmp_path / "bundle", task="text-classification")
    path = bundle.folder / MANIFEST_FILE
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(BundleError, match=r"manifest.json must be as it was written, got a digest that is not its own"):
        read_manifest(bundle.folder)


def test_the_digest_is_of_the_content_and_not_of_its_form(bundle):
    path = bundle.folder / MANIFEST_FILE
    record = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(record.items())), indent=7))
    assert read_manifest(bundle.folder) == bundle.manifest


def test_the_digest_is_what_the_readme_says(bundle):
    record = json.loads((bundle.folder / MANIFEST_FILE).read_text())
    digest = record.pop("digest")
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
    assert digest == hashlib.sha256(canonical.encode("ascii")).hexdigest()


def test_manifest_record_is_what_the_file_has(bundle):
    changed = msgspec.structs.replace(bundle.manifest, cpu="Zoé's CPU", created_by={"z": "1", "a": "2"})
    write_manifest(bundle.folder, changed)
    assert manifest_record(changed) == json.loads((bundle.folder / MANIFEST_FILE).read_text())
    assert read_manifest(bundle.folder) == changed
