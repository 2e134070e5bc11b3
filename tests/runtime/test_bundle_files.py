"""The files of a bundle on disk: every one is what the manifest says, and lies where it says."""

from __future__ import annotations

import hashlib

import pytest

from dynbert.errors import BundleError
from dynbert.manifest import MANIFEST_FILE, check_files, file_entry, list_files, read_manifest
from tests.helpers.bundles import make_bundle, rewrite_manifest
from tests.helpers.damage import damage_changed, damage_folder, damage_linked, damage_missing, damage_truncated

_NESTED = "1_Pooling/config.json"


@pytest.fixture
def bundle(tmp_path):
    """A bundle with a file in a folder of it."""
    bundle = make_bundle(tmp_path / "bundle")
    (bundle.folder / "1_Pooling").mkdir()
    (bundle.folder / _NESTED).write_text("{}", encoding="utf-8")
    return rewrite_manifest(bundle)


@pytest.mark.parametrize("file", ["tokenizer.json", _NESTED])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_missing, "must be a regular file of the bundle, got none"),
        (damage_linked, "must be a regular file of the bundle, got none"),
        (damage_folder, "must be a regular file of the bundle, got none"),
        (damage_truncated, r"must have \d+ bytes, got \d+"),
        (damage_changed, "must have SHA-256 [0-9a-f]{64}, got another"),
    ],
)
def test_check_files_names_the_file_when_it_is_damaged(bundle, file, damage, message):
    check_files(bundle.folder, bundle.manifest.entries)
    damage(bundle.folder / file)
    with pytest.raises(BundleError, match=f"{file} {message}"):
        check_files(bundle.folder, bundle.manifest.entries)


def test_check_files_refuses_a_folder_that_is_a_link(bundle, tmp_path):
    folder = (bundle.folder / _NESTED).parent
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match=f"{_NESTED} must be a regular file of the bundle, got none"):
        check_files(bundle.folder, bundle.manifest.entries)


def test_check_files_takes_a_bundle_behind_a_link(bundle, tmp_path):
    (tmp_path / "link").symlink_to(bundle.folder)
    check_files(tmp_path / "link", bundle.manifest.entries)


def test_check_files_sees_no_change_of_content_without_checksums(bundle):
    damage_changed(bundle.folder / "tokenizer.json")
    check_files(bundle.folder, bundle.manifest.entries, checksums=False)


def test_list_files_is_every_file_but_the_manifest(bundle):
    names = [path.relative_to(bundle.folder).as_posix() for path in list_files(bundle.folder)]
    assert len(names) == len(set(names))
    assert set(names) == {entry.file for entry in bundle.manifest.entries}
    assert MANIFEST_FILE not in names
    assert _NESTED in names


def test_file_entry_is_relative_to_the_bundle(bundle):
    entry = file_entry(bundle.folder / _NESTED, bundle.folder)
    assert (entry.file, entry.bytes, entry.sha256) == (_NESTED, 2, hashlib.sha256(b"{}").hexdigest())
    assert file_entry(bundle.folder / _NESTED).file == "config.json"


def test_a_nested_file_is_read_back(bundle):
    assert read_manifest(bundle.folder) == bundle.manifest
