"""The file contract: what a bundle's folder must be, and that nothing else is read."""

from __future__ import annotations

import json

import pytest

from dynbert.errors import BundleError
from dynbert.manifest import (
    MANIFEST_FILE,
    check_files,
    is_file_name,
    read_manifest,
    write_manifest,
)
from tests.helpers.bundles import make_bundle


def edit(bundle, **changes):
    path = bundle.folder / MANIFEST_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_read_manifest_returns_what_was_written(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    read = read_manifest(bundle.folder)
    assert read == bundle.manifest
    assert read.graphs
    assert {entry.file for entry in read.entries} | {MANIFEST_FILE} == {p.name for p in bundle.folder.iterdir()}
    write_manifest(tmp_path, read)
    assert (tmp_path / MANIFEST_FILE).read_bytes() == (bundle.folder / MANIFEST_FILE).read_bytes()


def test_read_manifest_names_the_folder_when_there_is_none(tmp_path):
    with pytest.raises(BundleError, match=r"must be a folder with a readable manifest.json, got .*absent"):
        read_manifest(tmp_path / "absent")


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema_version": "1", "minimum_runtime": "0"}'])
def test_read_manifest_refuses_what_is_no_manifest(tmp_path, raw):
    (tmp_path / MANIFEST_FILE).write_bytes(raw)
    with pytest.raises(BundleError, match=r"must follow the bundle schema, got: .* Export the bundle again"):
        read_manifest(tmp_path)


def test_read_manifest_names_the_version_to_install_when_schema_is_newer(tmp_path):
    raw = {"schema_version": 99, "minimum_runtime": "7.1.0", "something": "else"}
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=r"schema version must be at most 1 .* got 99. Install dynbert>=7.1.0"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("name", "is_valid"),
    [
        ("full.int8.onnx", True),
        ("a", True),
        ("", False),
        (".hidden", False),
        ("..", False),
        ("../weights.bin", False),
        ("/etc/passwd", False),
        ("folder/file", False),
        ("folder\\file", False),
        ("C:file", False),
        ("new\nline", False),
        ("trailing\n", False),
        ("nul\0", False),
        ("a" * 129, False),
    ],
)
def test_is_file_name_accepts_plain_names_only(name, is_valid):
    assert is_file_name(name) is is_valid


@pytest.mark.parametrize("name", ["../outside.bin", "/etc/passwd", "sub/file.bin"])
def test_read_manifest_refuses_a_path_that_leaves_the_folder(tmp_path, name):
    bundle = make_bundle(tmp_path / "bundle")
    entry = {"file": name, "sha256": "0" * 64, "bytes": 1}
    edit(bundle, files=[entry])
    with pytest.raises(BundleError, match="file must be a plain name inside the bundle, got"):
        read_manifest(bundle.folder)


def test_read_manifest_refuses_unknown_keys(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    edit(bundle, surprise=1)
    with pytest.raises(BundleError, match="unknown field `surprise`"):
        read_manifest(bundle.folder)


def test_read_manifest_refuses_a_graph_of_no_profile(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    edit(bundle, profiles=[{"name": "full", "length_config": None}])
    with pytest.raises(BundleError, match="graphs must belong to profiles of the manifest, got anytime, fast"):
        read_manifest(bundle.folder)


def test_read_manifest_refuses_a_length_config_of_another_depth(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    profiles = [{"name": name, "length_config": [3, 2, 1]} for name in ("full", "fast", "anytime")]
    edit(bundle, profiles=profiles)
    with pytest.raises(BundleError, match="must have 2 entries, one a layer, got 3"):
        read_manifest(bundle.folder)


def damage_missing(path):
    path.unlink()


def damage_truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_changed(path):
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def damage_linked(path):
    target = path.with_suffix(".moved")
    path.rename(target)
    path.symlink_to(target)


def damage_folder(path):
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing, "tokenizer.json must be a regular file of the bundle, got none"),
        (damage_linked, "tokenizer.json must be a regular file of the bundle, got none"),
        (damage_folder, "tokenizer.json must be a regular file of the bundle, got none"),
        (damage_truncated, r"tokenizer.json must have \d+ bytes, got \d+"),
        (damage_changed, "tokenizer.json must have SHA-256 [0-9a-f]{64}, got another"),
    ],
)
def test_check_files_names_the_file_when_it_is_damaged(tmp_path, damage, message):
    bundle = make_bundle(tmp_path / "bundle")
    check_files(bundle.folder, bundle.manifest.entries)
    damage(bundle.folder / "tokenizer.json")
    with pytest.raises(BundleError, match=message):
        check_files(bundle.folder, bundle.manifest.entries)
