"""The folder beside a study: whose it is, what is kept in it, and who has the turn."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.errors import InputError
from dynbert_export.errors import ExportError
from dynbert_export.searching.disk import explain_disk, write_json_whole
from dynbert_export.searching.workplace import Workplace


@pytest.fixture
def workplace(tmp_path):
    place = Workplace.of(tmp_path / "study.db")
    place.lock()
    return place


def test_the_folder_stands_beside_the_study(tmp_path):
    assert Workplace.of(tmp_path / "study.db").folder == tmp_path / "study.db.work"


def test_scores_come_back_as_they_were_written(workplace):
    scores = {0: np.arange(3.0), 2: np.linspace(0, 1, 5)}
    workplace.write_scores("abc", scores)
    found = workplace.read_scores("abc")
    assert set(found) == {0, 2}
    for part, values in scores.items():
        np.testing.assert_array_equal(found[part], values)
    assert workplace.read_scores("other") == {}
    assert [path.name for path in (workplace.folder / "scores").iterdir()] == ["abc.npz"]


def test_the_folder_is_of_one_search(workplace):
    workplace.check({"seed": 0, "data": "x"})
    workplace.check({"seed": 0, "data": "x"})
    with pytest.raises(InputError, match=r"got another data, model, seed for .*study.db.work"):
        workplace.check({"seed": 1, "data": "y", "model": "z"})


def test_a_folder_with_other_files_is_refused(workplace):
    (workplace.folder / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"got other files in .*: mine.txt"):
        workplace.check({"seed": 0})


def test_what_a_killed_process_left_of_the_note_does_not_matter(workplace):
    (workplace.folder / ".fingerprint.json.123.part").write_text("{", encoding="utf-8")
    workplace.check({"seed": 0})


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_note_says_how_to_begin_anew(workplace, content):
    (workplace.folder / "fingerprint.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=r"Remove .*study.db.work to begin anew"):
        workplace.check({"seed": 0})


def test_the_lock_is_one_at_a_time(workplace):
    from filelock import Timeout

    other = workplace.lock()
    with workplace.lock(), pytest.raises(Timeout):
        other.acquire(timeout=0)
    other.acquire(timeout=0)
    other.release()


def test_what_the_disk_refuses_is_said(tmp_path):
    with pytest.raises(ExportError, match=r"x must be writable, got: No space left"), explain_disk(tmp_path / "x"):
        raise OSError(28, "No space left on device")


def test_a_file_is_there_as_a_whole_or_not_at_all(tmp_path):
    write_json_whole(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json_whole(tmp_path / "b.json", {"b": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
