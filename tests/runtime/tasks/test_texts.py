"""Texts as lists: whatever gives one text after the other, and nothing that would give something else."""

from __future__ import annotations

import numpy as np
import pytest

import dynbert
from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.tasks.texts import as_items, as_pairs, as_texts, check_strings, pair_names, text_records
from tests.helpers.bundles import make_bundle

TEXTS = ["the book", "", "Zoé"]


class Column:
    """A column of a table: iterable, and nothing else."""

    def __init__(self, values):
        self.values = values

    def __iter__(self):
        return iter(self.values)


FORMS = {
    "list": list,
    "tuple": tuple,
    "generator": lambda texts: (text for text in texts),
    "iterator": iter,
    "array of str": np.array,
    "array of objects": lambda texts: np.array(texts, dtype=object),
    "keys": lambda texts: dict.fromkeys(texts).keys(),
    "column": Column,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_several_texts_come_in_any_form(form):
    items, is_single = as_texts(form(TEXTS))
    assert (items, is_single) == (TEXTS, False)
    assert [type(item) for item in items] == [str] * 3
    assert as_texts(form([])) == ([], False)


def test_a_string_is_one_text():
    assert as_texts("the book") == (["the book"], True)
    assert as_texts(np.str_("the book")) == (["the book"], True)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (None, "Texts must be a string or a list of strings, got NoneType."),
        (7, "Texts must be a string or a list of strings, got int."),
        (b"the book", "Texts must be a string or a list of strings, got bytes."),
        (bytearray(b"the"), "Texts must be a string or a list of strings, got bytearray."),
        ({"the book": 1}, "Texts must be a string or a list of strings, got dict."),
        (np.array("the book"), "Texts must be a string or a list of strings, got ndarray."),
        ([None], "text must be a string, got NoneType."),
        (["the", None, 7], "text 1 must be a string, got NoneType."),
        (["the", b"book"], "text 1 must be a string, got bytes."),
        ((item for item in ("the", 7)), "text 1 must be a string, got int."),
        (np.array([b"the", b"book"]), "text 0 must be a string, got bytes."),
        (np.array([["the"], ["book"]]), "text 0 must be a string, got list."),
        (np.array(["the", None], dtype=object), "text 1 must be a string, got NoneType."),
    ],
)
def test_what_is_no_text_is_refused_by_its_place(texts, message):
    with pytest.raises(InputError) as info:
        as_texts(texts)
    assert str(info.value) == message


def test_pairs_come_in_any_form():
    names = ("texts", "text_pair")
    assert as_pairs(names, "a", "b") == ([("a", "b")], True)
    for form in FORMS.values():
        assert as_pairs(names, form(TEXTS), form(["x", "y", "z"])) == (
            [("the book", "x"), ("", "y"), ("Zoé", "z")],
            False,
        )


LENGTHS = "texts and text_pair must be two strings or two lists of one length"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ("a", ["b"], f"{LENGTHS}, got a string and a list of 1."),
        (iter("ab"), iter("abc"), f"{LENGTHS}, got a list of 2 and a list of 3."),
        (["a", None], ["b", "c"], "text 1 must be a string, got NoneType."),
        (["a", "b"], ["b", None], "text_pair 1 must be a string, got NoneType."),
        ("a", None, "Texts must be a string or a list of strings, got NoneType."),
    ],
)
def test_what_is_no_pair_is_refused(first, second, message):
    with pytest.raises(InputError) as info:
        as_pairs(("texts", "text_pair"), first, second)
    assert str(info.value) == message


def test_an_item_is_named_by_its_own_argument():
    with pytest.raises(InputError) as info:
        as_pairs(("question", "context"), ["who", "what"], ["zoe", None])
    assert str(info.value) == "context 1 must be a string, got NoneType."


def test_an_error_of_a_generator_is_its_own():
    def texts():
        yield "the book"
        raise TypeError("no more")

    with pytest.raises(TypeError, match="no more"):
        as_texts(texts())


@pytest.mark.parametrize("value", ["ab", b"ab", {"a": 1}, None, 3, np.array("ab")])
def test_as_items_is_none_for_what_is_no_list(value):
    assert as_items(value) is None


def test_check_strings_takes_strings_and_nothing_else():
    check_strings(["a", np.str_("b")], ["first", "second"])
    with pytest.raises(InputError) as info:
        check_strings(["a", 1.5], ["first", "second"])
    assert str(info.value) == "second must be a string, got float."


def test_pair_names_have_a_place_where_there_are_several():
    assert pair_names(1) == [("text", "text_pair")]
    assert pair_names(2) == [("text 0", "text_pair 0"), ("text 1", "text_pair 1")]


def test_text_records_have_the_pair_where_there_is_one():
    assert text_records({"texts": ["a", "b"]}) == [{"text": "a"}, {"text": "b"}]
    assert text_records({"texts": ["a"], "text_pair": ["b"]}) == [{"text": "a", "text_pair": "b"}]


ANY_FORM = {
    Task.QUESTION_ANSWERING: {"question": ["who", "what"], "context": ["zoe wrote it", "the book"]},
    Task.TEXT_CLASSIFICATION: {"texts": ["good film", "bad"], "text_pair": ["it was", "the old film"]},
    Task.TOKEN_CLASSIFICATION: {"texts": ["zoe was in paris", "bad"]},
    Task.FILL_MASK: {"texts": ["a good [MASK]", "[MASK]"]},
    Task.NEXT_SENTENCE_PREDICTION: {"texts": ["the film", "zoe"], "text_pair": ["was bad", "was good"]},
    Task.MULTIPLE_CHOICE: {"texts": ["the film was", "it"], "choices": [["good", "bad"], ["old", "a book"]]},
    Task.PRETRAINING: {"texts": ["a [MASK]", "the"], "text_pair": ["was bad", "[MASK]"]},
    Task.FEATURE_EXTRACTION: {"texts": ["the book", "paris"]},
}


@pytest.mark.parametrize("task", list(Task))
def test_every_task_takes_arrays_and_generators(tmp_path, task):
    model = dynbert.load(make_bundle(tmp_path / "bundle", task=task).folder)
    arguments = ANY_FORM[task]
    expected = model(**arguments)
    assert len(expected) == 2
    for form in (np.array, lambda texts: np.array(texts, dtype=object), iter):
        got = model(**{name: form(values) for name, values in arguments.items()})
        assert [type(item) for item in got] == [type(item) for item in expected]
        np.testing.assert_array_equal(np.array(got, dtype=object), np.array(expected, dtype=object))


def test_choices_of_one_text_come_in_any_form(tmp_path):
    model = dynbert.load(make_bundle(tmp_path / "bundle", task=Task.MULTIPLE_CHOICE).folder)
    expected = model("the film was", choices=["good", "bad"])
    for form in FORMS.values():
        assert model("the film was", choices=form(["good", "bad"])) == expected
    assert type(model("the film was", choices=np.array(["good", "bad"])).text) is str
    nested = (iter(of_text) for of_text in (["good", "bad"], ["old"]))
    assert model(iter(["the film was", "it"]), choices=nested)[0] == expected


def test_encode_takes_a_generator(embedding_bundle):
    model = dynbert.load(embedding_bundle.folder)
    texts = ["the book", "paris", "zoe was in the tower"]
    np.testing.assert_array_equal(model.encode(text for text in texts), model.encode(texts))
