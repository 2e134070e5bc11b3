"""JSON files: the message for every one that cannot be read, and what is written."""

from __future__ import annotations

import pytest

from dynbert_export.checkpoint.json_files import read_json, read_json_object, write_json
from dynbert_export.errors import CheckpointError


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "file.json"
    value = {"text": "café", "list": [1, 2.5, None, True]}
    write_json(path, value)
    assert read_json(path) == read_json_object(path) == value
    assert path.read_text(encoding="utf-8").startswith('{\n  "text": "café",\n')
    assert path.read_text(encoding="utf-8").endswith("}\n")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        (b"\xff{}", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    ],
)
def test_what_is_no_json_is_refused(tmp_path, content, reason):
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        read_json(path)
    assert str(caught.value) == f"{path} must be JSON, got: {reason}. Get the file again."


def test_json_nested_without_end_is_refused(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"file\.json must be JSON, got: maximum recursion depth exceeded"):
        read_json(path)


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "file.json"
    with pytest.raises(CheckpointError) as caught:
        read_json(path)
    assert str(caught.value) == f"A checkpoint must have a readable file.json, got {path} (No such file or directory)."


def test_another_value_than_an_object_is_refused(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, [1])
    with pytest.raises(CheckpointError) as caught:
        read_json_object(path)
    assert str(caught.value) == f"{path} must hold a JSON object, got list. Get the file again."
