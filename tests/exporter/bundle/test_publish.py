"""Publishing: a bundle appears whole or not at all, and nothing of somebody else's is ever removed."""

from __future__ import annotations

import errno
import os
import pathlib
import stat

import pytest

from dynbert.errors import InputError
from dynbert_export.bundle.publish import check_output, stage_bundle
from dynbert_export.errors import ExportError, GateError

_MANIFEST = "manifest.json"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "neighbour.txt").write_text("mine")
    return tmp_path


def _names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _make_bundle(folder, content="old"):
    folder.mkdir()
    (folder / _MANIFEST).write_text(content)
    (folder / f"{content}.onnx").write_text(content)
    return folder


def _fill(staging, content="new"):
    (staging.bundle / _MANIFEST).write_text(content)
    (staging.bundle / f"{content}.onnx").write_text(content)
    (staging.work / "scratch").write_text("never published")


def _stage(output, *, overwrite=False, meanwhile=None, failure=None):
    """Build a bundle; then let something else happen, or fail."""
    with stage_bundle(output, overwrite=overwrite) as staging:
        _fill(staging)
        if meanwhile is not None:
            meanwhile()
        if failure is not None:
            raise failure


def test_bundle_appears_when_the_block_ends(folder):
    with stage_bundle(folder / "out", overwrite=False) as staging:
        assert staging.bundle.parent.parent == folder  # a rename, not a copy
        _fill(staging)
        assert not (folder / "out").exists()
    assert _names(folder) == ["neighbour.txt", "out", "out/manifest.json", "out/new.onnx"]
    assert stat.S_IMODE((folder / "out").stat().st_mode) == 0o755 & ~_umask()


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_relative_output_is_relative_to_where_the_block_began(folder, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(folder)
    with stage_bundle(pathlib.Path("out"), overwrite=False) as staging:
        _fill(staging)
        monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert (folder / "out" / _MANIFEST).read_text() == "new"


def test_empty_folder_is_filled(folder):
    (folder / "out").mkdir()
    with stage_bundle(folder / "out", overwrite=False) as staging:
        _fill(staging)
    assert _names(folder / "out") == ["manifest.json", "new.onnx"]


_FAILURES = [
    (GateError("a gate"), GateError, "a gate"),
    (RuntimeError("a bug"), RuntimeError, "a bug"),
    (KeyboardInterrupt(), KeyboardInterrupt, None),
    (SystemExit(3), SystemExit, "3"),
    (OSError(errno.ENOSPC, "No space left on device"), ExportError, "No space left on device. Nothing was written"),
    (OSError("disk trouble"), ExportError, "got: disk trouble. Nothing was written"),
    (OSError("9 requested and 4 written"), ExportError, r"got: not enough room \(9 requested and 4 written\). Nothing"),
]


@pytest.mark.parametrize(("failure", "expected", "message"), _FAILURES)
def test_nothing_is_left_when_the_block_fails(folder, failure, expected, message):
    with pytest.raises(expected, match=message):
        _stage(folder / "a" / "b" / "out", failure=failure)
    assert _names(folder) == ["neighbour.txt"]


@pytest.mark.parametrize(("failure", "expected", "message"), _FAILURES)
def test_old_bundle_stays_when_the_block_fails(folder, failure, expected, message):
    _make_bundle(folder / "out")
    before = _names(folder)
    with pytest.raises(expected, match=message):
        _stage(folder / "out", overwrite=True, failure=failure)
    assert _names(folder) == before
    assert (folder / "out" / _MANIFEST).read_text() == "old"


def test_old_bundle_stays_until_the_new_one_is_complete(folder):
    _make_bundle(folder / "out")
    with stage_bundle(folder / "out", overwrite=True) as staging:
        _fill(staging)
        assert _names(folder / "out") == ["manifest.json", "old.onnx"]
    assert _names(folder) == ["neighbour.txt", "out", "out/manifest.json", "out/new.onnx"]


@pytest.mark.parametrize("failure", [OSError(errno.EACCES, "Permission denied"), KeyboardInterrupt()])
def test_old_bundle_comes_back_when_the_rename_fails(folder, monkeypatch, failure):
    _make_bundle(folder / "out")
    rename = pathlib.Path.rename

    def fail_into_place(self, target):
        if self.name == "bundle":
            raise failure
        return rename(self, target)

    monkeypatch.setattr(pathlib.Path, "rename", fail_into_place)
    expected = ExportError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        _stage(folder / "out", overwrite=True)
    assert _names(folder) == ["neighbour.txt", "out", "out/manifest.json", "out/old.onnx"]


def test_old_bundle_stays_when_it_cannot_be_moved_away(folder, monkeypatch):
    _make_bundle(folder / "out")

    def fail(*_):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(pathlib.Path, "rename", fail)
    with pytest.raises(ExportError, match="must be writable, got: Device or resource busy"):
        _stage(folder / "out", overwrite=True)
    assert _names(folder) == ["neighbour.txt", "out", "out/manifest.json", "out/old.onnx"]


def _foreign_folder(path):
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def _foreign_link(path):
    _make_bundle(path.with_name("real"))
    path.symlink_to(path.with_name("real"))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_foreign_folder, "must be a new folder or a bundle to replace, got a folder with other files"),
        (lambda path: path.write_text("a file"), "must be a folder that does not exist yet, got a file or link"),
        (_foreign_link, "got a file or link"),
        (lambda path: path.symlink_to("nowhere"), "got a file or link"),
    ],
)
def test_foreign_output_is_refused_and_left_alone(folder, make, message, overwrite):
    make(folder / "out")
    before = _names(folder)
    with pytest.raises(InputError, match=message):
        check_output(folder / "out", overwrite=overwrite)
    with pytest.raises(InputError, match=message):
        _stage(folder / "out", overwrite=overwrite)
    assert _names(folder) == before


def test_existing_bundle_is_refused_without_overwrite(folder):
    _make_bundle(folder / "out")
    with pytest.raises(InputError, match=r"must not exist yet, got the bundle .* Pass --overwrite"):
        check_output(folder / "out", overwrite=False)
    check_output(folder / "out", overwrite=True)


def test_somebody_faster_is_not_overwritten(folder):
    with pytest.raises(InputError, match="must not exist yet"):
        _stage(folder / "out", meanwhile=lambda: _make_bundle(folder / "out", "theirs"))
    assert _names(folder) == ["neighbour.txt", "out", "out/manifest.json", "out/theirs.onnx"]


def test_parents_are_made(folder):
    with stage_bundle(folder / "a" / "b" / "out", overwrite=False) as staging:
        _fill(staging)
    assert _names(folder / "a") == ["b", "b/out", "b/out/manifest.json", "b/out/new.onnx"]


def test_parents_stay_when_somebody_else_uses_them_by_now(folder):
    theirs = folder / "a" / "theirs"
    with pytest.raises(RuntimeError, match="a bug"):
        _stage(folder / "a" / "b" / "out", meanwhile=lambda: theirs.write_text("x"), failure=RuntimeError("a bug"))
    assert _names(folder) == ["a", "a/theirs", "neighbour.txt"]


def test_parent_that_is_a_file_is_refused(folder):
    with pytest.raises(ExportError, match=r"must be writable, got: (Not a directory|File exists)"):
        _stage(folder / "neighbour.txt" / "out")
    assert _names(folder) == ["neighbour.txt"]


def test_parents_are_removed_when_making_them_fails(folder, monkeypatch):
    mkdir = pathlib.Path.mkdir

    def fail_on_b(self, *arguments, **options):
        if self.name == "b":
            raise OSError(errno.ENOSPC, "No space left on device")
        mkdir(self, *arguments, **options)

    monkeypatch.setattr(pathlib.Path, "mkdir", fail_on_b)
    (folder / "a").mkdir()
    with pytest.raises(ExportError, match="No space left"):
        _stage(folder / "a" / "b" / "out")
    assert _names(folder) == ["a", "neighbour.txt"]


@pytest.mark.parametrize("output", ["/", "."])
def test_output_without_a_name_is_refused(folder, monkeypatch, output):
    monkeypatch.chdir(folder)
    with pytest.raises(InputError):
        check_output(pathlib.Path(output), overwrite=True)
    assert _names(folder) == ["neighbour.txt"]
