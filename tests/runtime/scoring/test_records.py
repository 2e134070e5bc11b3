"""Rows of files: what each format gives, and how faults are told."""

from __future__ import annotations

import csv
import io
import json
import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from dynbert.packages import MissingPackageError
from dynbert.scoring.records import DataError, Record, RowFault, read_records

_SQUAD = {
    "data": [
        {"paragraphs": [{"context": "c", "qas": [{"question": "q0", "id": "0"}]}]},
        {
            "paragraphs": [
                {"context": "d", "qas": [{"question": "q1", "id": "1"}]},
                {"context": "e", "qas": [{"question": "q2", "id": "2", "answers": []}]},
            ]
        },
    ]
}


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("a.csv", "text,label\none,1\ntwo,0\n", ("row 2", "row 3")),
        ("a.CSV", b"\xef\xbb\xbftext,label\r\none,1\r\n\r\ntwo,0\r\n", ("row 2", "row 4")),
        ("a.csv", '"text",label \none,1\n" two",0', ("row 2", "row 3")),
        ("a.tsv", "text\tlabel\none\t1\n\n\t\ntwo\t0", ("row 2", "row 5")),
        ("a.jsonl", '{"text": "one", "label": "1"}\n\n{"text": "two", "label": "0"}\r\n', ("line 1", "line 3")),
        ("a.json", '[{"text": "one", "label": "1"}, {"text": "two", "label": "0"}]', ("item 1", "item 2")),
        ("a.json", '{"data": [{"text": "one", "label": "1"}, {"text": "two", "label": "0"}]}', ("item 1", "item 2")),
    ],
)
def test_read_records_gives_names_values_and_places(write, name, content, where):
    records = list(read_records(write(name, content)))
    assert tuple(record.where for record in records) == where
    stripped = [{key: value.strip() for key, value in record.values.items()} for record in records]
    assert stripped == [{"text": "one", "label": "1"}, {"text": "two", "label": "0"}]


def test_read_records_gives_one_record_a_question_of_squad(write):
    records = list(read_records(write("a.json", json.dumps(_SQUAD))))
    assert records == [
        Record("article 1, question 1", {"question": "q0", "id": "0", "context": "c"}),
        Record("article 2, question 1", {"question": "q1", "id": "1", "context": "d"}),
        Record("article 2, question 2", {"question": "q2", "id": "2", "answers": [], "context": "e"}),
    ]


def test_read_records_reads_parquet_with_lists_and_nothing(write, tmp_path):
    table = pa.table({"tokens": [["a", "b"], ["c"]], "label": [1, None], "score": [0.5, 1.0]})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert list(read_records(tmp_path / "a.parquet")) == [
        Record("row 1", {"tokens": ["a", "b"], "label": 1, "score": 0.5}),
        Record("row 2", {"tokens": ["c"], "label": None, "score": 1.0}),
    ]
    with pytest.raises(DataError, match=r"must be readable, got .*broken.parquet \(.*[Pp]arquet"):
        list(read_records(write("broken.parquet", "no parquet")))
    with pytest.raises(DataError, match="must be an existing file, got none at"):
        list(read_records(tmp_path / "gone.parquet"))


def test_a_missing_package_is_one_line_that_names_the_extra(write, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    message = "pyarrow must be installed to read .parquet, got none. Run: pip install 'dynbert[data]'"
    with pytest.raises(MissingPackageError, match=re.escape(message)):
        list(read_records(write("a.parquet", b"PAR1")))


def test_escaped_pairs_are_characters(write):
    assert next(read_records(write("a.jsonl", r'"\ud83d\ude00"'))).values == {"text": "\U0001f600"}


def test_quotes_mean_something_in_csv_only(write):
    assert next(read_records(write("a.csv", 'text\n"two\nlines ""so"""\n'))).values == {"text": 'two\nlines "so"'}
    tsv = list(read_records(write("a.tsv", 'text\n"open quote\nnext\n')))
    assert [record.values["text"] for record in tsv] == ['"open quote', "next"]


def test_a_table_without_names_has_numbers(write):
    records = list(read_records(write("a.csv", "3,title,body\n4,other,more\n"), is_header=lambda _: False))
    assert records[0] == Record("row 1", {"1": "3", "2": "title", "3": "body"})
    assert next(read_records(write("b.csv", ",text\n0,x\n"))).values == {"1": "0", "text": "x"}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xls", "x", "must end in .csv, .tsv, .jsonl, .json, .parquet, got .*a.xls. Rename or convert the file."),
        ("a.csv", b"fine\nStra\xdfe", "must be UTF-8 text, got other bytes on line 2 of .*a.csv. Convert the file."),
        ("a.tsv", "wide".encode("utf-16"), "must be UTF-8 text"),
        ("a.jsonl", b'"\x00"', "must be text, got zero bytes in"),
    ],
)
def test_read_records_refuses_what_is_no_text_file(write, name, content, message):
    with pytest.raises(DataError, match=f"^Labelled data {message}"):
        list(read_records(write(name, content)))


def test_read_records_refuses_what_is_no_readable_file(write, tmp_path, monkeypatch):
    with pytest.raises(DataError, match=r"must be an existing file, got none at .*gone.csv"):
        list(read_records(tmp_path / "gone.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="must be an existing file, got something else at"):
        list(read_records(tmp_path / "folder.csv"))
    path = write("a.csv", "text")

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(DataError, match=r"must be readable, got .*a.csv \(Permission denied\)"):
        list(read_records(path))


@pytest.mark.parametrize(
    ("name", "content", "where", "rule", "got"),
    [
        ("a.csv", "id,text\n1,fine\n2\n", "row 3", "hold rows of 2 cells as the first one is", "1 cells"),
        ("a.tsv", "id\ttext\n1\ta\tb\n", "row 2", "hold rows of 2 cells as the first one is", "3 cells"),
        ("a.csv", 'text\n"never closed', "row 2", "hold rows of cells (unexpected end of data)", "something else"),
        ("a.csv", "text,b,text\n1,2,3", "row 1", "hold columns of different names", "'text' more than once"),
        ("a.jsonl", '{"a": 1}\n{"text": ', "line 2", "hold JSON objects", "something else"),
        ("a.jsonl", "3", "line 1", "hold JSON objects", "something else"),
        ("a.jsonl", "[" * 100_000, "line 1", "hold JSON objects", "something else"),
        ("a.jsonl", '"fine"\n{"a": "\\ud83d"}', "line 2", "hold valid Unicode", "a lone surrogate"),
        ("a.json", '["\\uD83d"]', "its top", "hold valid Unicode", "a lone surrogate"),
        ("a.json", '["x", null]', "item 2", "hold JSON objects", "something else"),
        ("a.json", "{", "its top", "hold SQuAD json, or a list of texts or objects", "something else"),
        ("a.json", '{"data": [{"paragraphs": 3}]}', "article 1", "hold SQuAD paragraphs, with", "something else"),
        (
            "a.json",
            '{"data": [{"paragraphs": [{"context": "x", "qas": [{"question": "x"}, {}]}]}]}',
            "article 1, question 2",
            "hold SQuAD paragraphs, with a context and with qas that have a question",
            "something else",
        ),
    ],
)
def test_read_records_names_the_place_of_a_fault(write, name, content, where, rule, got):
    with pytest.raises(RowFault) as caught:
        list(read_records(write(name, content)))
    assert (caught.value.where, caught.value.got) == (where, got)
    assert caught.value.rule.startswith(rule)


_CELL = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters='\n",\t'), max_size=12)


@given(rows=st.lists(st.tuples(_CELL, _CELL), min_size=1, max_size=8))
def test_csv_gives_back_what_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("text", "label"), *rows])
    path.write_bytes(text.getvalue().encode())
    kept = [row for row in rows if any(cell.strip() for cell in row)]
    assert [tuple(record.values.values()) for record in read_records(path)] == kept
