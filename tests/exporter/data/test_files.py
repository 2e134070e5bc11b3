"""Calibration files: what each kind of file gives, and what is refused."""

from __future__ import annotations

import itertools
import json

import pytest

from dynbert.manifest import Task
from dynbert_export.data.files import load_texts
from dynbert_export.data.samples import Sample
from dynbert_export.errors import CalibrationError
from dynbert_export.tasks import HEADS

_TEXTS = (Sample("a great day"), Sample("the river"))
_PAIRS = (Sample("who was it?", "it was she"), Sample("where?", "in the city by the river"))
_SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "x",
            "paragraphs": [
                {"context": "it was she", "qas": [{"question": "who was it?", "id": "1", "answers": []}]},
                {"context": "in the city by the river", "qas": [{"question": "where?", "id": "2"}]},
            ],
        }
    ],
}


def _write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a great day\n\n  the river  \n"),
        ("a.txt", "a great day\r\nthe river"),
        ("a.TXT", b"\xef\xbb\xbfa great day\nthe river\n"),
        ("a.csv", "text\na great day\nthe river\n"),
        ("a.csv", 'label,Sentence\n1,"a great day"\n\n0,the river\n'),
        ("a.csv", "a great day,1\nthe river,0\n"),
        ("a.tsv", "sentence\tlabel\na great day\t1\nthe river\t0\n"),
        ("a.tsv", "a great day\t1\r\nthe river\t0\r\n"),
        ("a.jsonl", '"a great day"\n\n{"text": "the river", "label": 1}\n'),
        ("a.json", '["a great day", {"sentence": "the river"}]'),
        ("a.json", '{"data": [{"text": "a great day"}, {"text": "the river"}]}'),
        ("a.txt", "a great day\na great day\nthe river\na great day\n"),
    ],
)
@pytest.mark.parametrize("task", [Task.TEXT_CLASSIFICATION, Task.FEATURE_EXTRACTION])
def test_load_texts_reads_single_texts(tmp_path, name, content, task):
    texts = load_texts(_write(tmp_path, name, content), task)
    assert (texts.samples, texts.name, texts.note) == (_TEXTS, name, None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(_SQUAD)),
        ("a.jsonl", "\n".join(json.dumps({"question": text, "context": pair}) for text, pair in _PAIRS)),
        ("a.csv", "id,context,question\n1,it was she,who was it?\n2,in the city by the river,where?\n"),
        ("a.csv", "who was it?,it was she\nwhere?,in the city by the river\n"),
        ("a.tsv", "question\tcontext\nwho was it?\tit was she\nwhere?\tin the city by the river\n"),
    ],
)
def test_load_texts_reads_pairs(tmp_path, name, content):
    path = _write(tmp_path, name, content)
    assert load_texts(path, Task.QUESTION_ANSWERING).samples == _PAIRS


def test_quotes_mean_something_in_csv_only(tmp_path):
    text = 'text\n"two\nlines, one text"\n'
    assert load_texts(_write(tmp_path, "a.csv", text), Task.FEATURE_EXTRACTION).samples == (
        Sample("two\nlines, one text"),
    )
    samples = load_texts(_write(tmp_path, "a.tsv", 'sentence\n"open quote\nnext\n'), Task.FEATURE_EXTRACTION).samples
    assert samples == (Sample('"open quote'), Sample("next"))


def test_embeddings_take_the_halves_of_a_pair_one_by_one_and_each_once(tmp_path):
    squad = json.loads(json.dumps(_SQUAD))
    squad["data"][0]["paragraphs"][0]["qas"].append({"question": "and when?"})
    samples = load_texts(_write(tmp_path, "a.json", json.dumps(squad)), Task.FEATURE_EXTRACTION).samples
    assert [sample.text for sample in samples] == [
        "who was it?",
        "it was she",
        "and when?",
        "where?",
        "in the city by the river",
    ]
    assert all(sample.pair is None for sample in samples)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "must have at least one text, got none in .*a.txt"),
        ("a.txt", " \n\t\n", "must have at least one text"),
        ("a.csv", "text\n", "must have at least one text"),
        ("a.jsonl", '{"text": " "}', "must have at least one text"),
        ("a.json", "[]", "must have at least one text"),
        ("a.md", "text", "must end in .txt, .csv, .tsv, .jsonl, .json, got .*a.md"),
        ("a", "text", "must end in"),
        ("a.json.gz", "text", "must end in"),
        ("a.txt", b"fine\nStra\xdfe", "must be UTF-8 text, got other bytes on line 2"),
        ("a.txt", b"\x00\x01binary", "must be text, got zero bytes"),
        ("a.txt", "wide".encode("utf-16"), "must be UTF-8 text"),
        ("a.jsonl", '"fine"\n{"text": ', "must hold JSON texts, or objects .*, got something else at line 2 of"),
        ("a.jsonl", '"fine"\n3', "at line 2 of"),
        ("a.jsonl", '{"body": "x"}', "at line 1 of"),
        ("a.jsonl", '{"text": 3}', "at line 1 of"),
        ("a.jsonl", "[" * 100_000, "at line 1 of"),
        ("a.json", "{", "must hold SQuAD json, or a list of texts or objects, got something else at its top"),
        ("a.json", '{"data": 3}', "must hold SQuAD json"),
        ("a.json", '["x", null]', "got something else at item 2 of"),
        ("a.json", '{"data": [{"paragraphs": 3}]}', "must hold SQuAD paragraphs, .*, got something else at article 1"),
        ("a.json", '{"data": [{"paragraphs": [{"context": "x"}]}]}', "at article 1"),
        ("a.json", '{"data": [{"paragraphs": [{"context": 1, "qas": [{"question": "x"}]}]}]}', "at article 1"),
        ("a.csv", "id,text\n1,fine\n2\n", "must hold rows of at least 2 cells, got something else at row 3"),
        ("a.csv", 'text\n"never closed', r"must hold rows of cells \(unexpected end of data\)"),
        ("a.jsonl", '"one"\n{"text": "x", "context": "y"}', "only single texts or only pairs, got both"),
    ],
)
def test_load_texts_names_file_place_and_rule(tmp_path, name, content, message):
    path = _write(tmp_path, name, content)
    with pytest.raises(CalibrationError, match=message) as caught:
        load_texts(path, Task.TEXT_CLASSIFICATION)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.txt", "one\ntwo", "line 1"),
        ("a.jsonl", '{"question": "a", "context": "b"}\n"alone"', "line 2"),
        ("a.tsv", "question\tlabel\nwhy?\t1", "row 2"),
    ],
)
def test_question_answering_needs_pairs(tmp_path, name, content, place):
    with pytest.raises(CalibrationError, match=f"pairs of question and context .* at {place} of"):
        load_texts(_write(tmp_path, name, content), Task.QUESTION_ANSWERING)


def test_load_texts_refuses_what_is_no_readable_file(tmp_path, monkeypatch):
    with pytest.raises(CalibrationError, match=r"must be an existing file, got none at .*gone.txt"):
        load_texts(tmp_path / "gone.txt", Task.FEATURE_EXTRACTION)
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(CalibrationError, match="must be an existing file, got something else at"):
        load_texts(tmp_path / "folder.txt", Task.FEATURE_EXTRACTION)
    path = _write(tmp_path, "a.txt", "text")
    monkeypatch.setattr("dynbert_export.data.files._MAX_FILE_BYTES", 3)
    with pytest.raises(CalibrationError, match="must be at most"):
        load_texts(path, Task.FEATURE_EXTRACTION)
    monkeypatch.undo()

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(CalibrationError, match=r"must be readable, got .*a.txt \(Permission denied\)"):
        load_texts(path, Task.FEATURE_EXTRACTION)


@pytest.mark.parametrize("task", list(Task))
def test_built_in_texts_are_many_and_varied_and_name_the_option(task):
    texts = load_texts(None, task)
    assert texts.name == "built-in"
    assert len(texts.samples) >= 100
    assert "--calibration FILE" in texts.note
    assert all((sample.pair is not None) == HEADS[task].pairs.is_required for sample in texts.samples)
    words = [len((sample.pair or sample.text).split()) for sample in texts.samples]
    assert max(words) > 80
    assert (min(words) == 1) == (task is not Task.QUESTION_ANSWERING)


_SENTENCES = [Task.NEXT_SENTENCE_PREDICTION, Task.MULTIPLE_CHOICE, Task.PRETRAINING]


@pytest.mark.parametrize("task", _SENTENCES)
def test_single_texts_are_paired_with_their_successors_when_any_pair_will_do(tmp_path, task):
    path = _write(tmp_path, "a.txt", "one\ntwo\nthree\n")
    expected = (Sample("one", "two"), Sample("two", "three"), Sample("three", "one"))
    assert load_texts(path, task).samples == expected
    assert load_texts(_write(tmp_path, "b.txt", "alone"), task).samples == (Sample("alone", "alone"),)
    built_in = load_texts(None, task).samples
    assert all(first.pair == second.text for first, second in itertools.pairwise(built_in))


@pytest.mark.parametrize("task", _SENTENCES)
def test_pairs_of_a_file_stay_as_they_are(tmp_path, task):
    path = _write(tmp_path, "a.csv", "sentence1,sentence2\nwho was it?,it was she\nwhere?,in the city by the river\n")
    assert load_texts(path, task).samples == _PAIRS
    with pytest.raises(CalibrationError, match="only single texts or only pairs"):
        load_texts(_write(tmp_path, "b.jsonl", '"one"\n{"text": "x", "text_pair": "y"}'), task)
