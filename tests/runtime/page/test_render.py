"""Where a page may be written, and that it is written whole."""

from __future__ import annotations

import os
import sys

import pytest

from dynbert.errors import DynbertError, InputError
from dynbert.packages import MissingPackageError
from dynbert.page import render
from dynbert.page.render import check_output, open_templates, write_page

_REPORT = '<!doctype html>\n<meta name="generator" content="dynbert report">\n'


def _check(output, bundle, *, overwrite=False):
    check_output(output, overwrite=overwrite, bundle=bundle)


def test_a_new_place_is_fine(tmp_path):
    _check(tmp_path / "new" / "report.html", tmp_path / "bundle")


def test_a_report_is_replaced_when_asked(tmp_path):
    output = tmp_path / "report.html"
    output.write_text(_REPORT, encoding="utf-8")
    with pytest.raises(InputError, match=r"must not exist yet, got the report .* Pass --overwrite"):
        _check(output, tmp_path / "bundle")
    _check(output, tmp_path / "bundle", overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_nothing_else_is_replaced(tmp_path, overwrite):
    other, folder, link = tmp_path / "thesis.html", tmp_path / "folder", tmp_path / "link.html"
    other.write_text("<p>not ours", encoding="utf-8")
    folder.mkdir()
    link.symlink_to(other)
    with pytest.raises(InputError, match="must be a new file or a report to replace, got another file"):
        _check(other, tmp_path / "bundle", overwrite=overwrite)
    for output in (folder, link):
        with pytest.raises(InputError, match="must be a file that does not exist yet, got a folder or link"):
            _check(output, tmp_path / "bundle", overwrite=overwrite)


@pytest.mark.parametrize("name", ["report.html", "deeper/report.html", "../bundle/report.html"])
def test_a_bundle_has_no_room_for_a_report(tmp_path, name):
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    with pytest.raises(InputError, match="must lie outside the bundle"):
        _check(bundle / name, bundle)


def test_a_page_appears_whole_with_its_folders(tmp_path):
    output = tmp_path / "new" / "report.html"
    write_page(output, "<p>\N{SNOWMAN}")
    assert output.read_text(encoding="utf-8") == "<p>\N{SNOWMAN}"
    assert output.stat().st_mode & 0o777 == 0o644
    assert os.listdir(output.parent) == ["report.html"]  # noqa: PTH208 - names


def test_a_failing_disk_leaves_what_was_there(tmp_path, monkeypatch):
    output = tmp_path / "report.html"
    output.write_text("old", encoding="utf-8")

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(render.Path, "write_text", fail)
    with pytest.raises(DynbertError, match=r"must be writable, got: No space left on device\. Nothing was written"):
        write_page(output, "new")
    monkeypatch.undo()
    assert output.read_text(encoding="utf-8") == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_a_place_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DynbertError, match="must be writable, got"):
        write_page(tmp_path / "file" / "report.html", "new")


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MissingPackageError, match=r"jinja2 must be installed to make a report.*dynbert\[report\]"):
        open_templates()


def test_templates_escape_everything():
    environment = open_templates()
    assert environment.from_string("{{ x }}").render(x="<b>\"'&") == "&lt;b&gt;&#34;&#39;&amp;"
    with pytest.raises(Exception, match="is undefined"):
        environment.from_string("{{ missing }}").render()
