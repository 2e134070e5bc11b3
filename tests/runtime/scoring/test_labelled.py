"""Labelled data: what every task's files give, how columns are told, and what is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.scoring.labelled import (
    AnswerSpan,
    ChoiceExample,
    Columns,
    DataError,
    PlainExample,
    ProblemType,
    QuestionExample,
    TextExample,
    WordsExample,
    is_data_file,
    load_labelled,
)

_PROBLEMS = [None, *ProblemType]
_SINGLE = "single_label_classification"
_MULTI = "multi_label_classification"


def _jsonl(*rows):
    return "\n".join(map(json.dumps, rows))


def _example(text, label, pair=None):
    return TextExample(text, pair, label)


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.csv", "text,label\ngood,pos\nbad,neg\n", Columns()),
        ("a.tsv", "Sentence\tLabel\ngood\tpos\nbad\tneg\n", Columns()),
        ("a.csv", "id,gold_label,premise\n7,pos,good\n8,neg,bad\n", Columns()),
        ("a.jsonl", _jsonl({"text": "good", "label": "pos"}, {"text": "bad", "label": "neg"}), Columns()),
        ("a.csv", "review,stars,score\ngood,pos,1\nbad,neg,2\n", Columns("review", None, "Stars")),
        ("a.tsv", "good\tpos\nbad\tneg", Columns("1", None, "2")),
        ("a.csv", "pos,,good\nneg,bad,\n", Columns("2,3", None, "1")),
        ("a.csv", "label,sentence\npos,good\nneg,bad\n", Columns("2", None, "1")),
        ("a.csv", "t,body,class\n,good,pos\nbad,,neg\n", Columns("t,body")),
        ("a.csv", '"a,b",class\ngood,pos\nbad,neg\n', Columns("a,b")),
    ],
)
def test_texts_with_one_label(write, name, content, columns):
    data = load_labelled(write(name, content), Task.TEXT_CLASSIFICATION, columns=columns)
    assert (data.task, data.name, data.problem_type) == (Task.TEXT_CLASSIFICATION, name, _SINGLE)
    assert data.label_names == ("neg", "pos")
    assert data.examples == (_example("good", 1), _example("bad", 0))


def test_real_files_shapes(write):
    sst = "one long string of cliches\t0\nif you 've ever \"entertained , the film\t0\na masterpiece\t1\n"
    data = load_labelled(write("sst2.tsv", sst), Task.TEXT_CLASSIFICATION, columns=Columns("1", None, "2"))
    assert [example.label for example in data.examples] == [0, 0, 1]
    assert data.examples[1].text == "if you 've ever \"entertained , the film"
    news = '"3","Fears, for pensions","Unions say ""no"""\n"4","The \\Race","is on"\n"1","Storm","in Oslo"\n'
    data = load_labelled(write("agnews.csv", news), Task.TEXT_CLASSIFICATION, columns=Columns("2,3", None, "1"))
    assert data.label_names == ("1", "3", "4")
    assert data.examples[0] == _example('Fears, for pensions Unions say "no"', 1)
    mnli = (
        "index\tpromptID\tgenre\tsentence1_parse\tsentence1\tsentence2\tlabel1\tgold_label\n"
        "0\t1\tx\t( )\tA man eats.\tHe eats.\tneutral\tentailment\n1\t1\tx\t( )\tA man.\tA cat.\tneutral\tneutral\n"
    )
    data = load_labelled(write("mnli.tsv", mnli), Task.TEXT_CLASSIFICATION)
    assert data.examples == (_example("A man eats.", 0, "He eats."), _example("A man.", 1, "A cat."))
    sts = "genre\tsentence1\tsentence2\tscore\nx\ta\tb\t5.000\nx\tc\td\t0.25\n"
    data = load_labelled(write("sts.tsv", sts), Task.TEXT_CLASSIFICATION)
    assert data.problem_type == "regression"
    assert data.examples == (_example("a", 5.0, "b"), _example("c", 0.25, "d"))


def test_a_named_text_has_a_pair_only_where_that_is_named_too(write):
    path = write("a.csv", "premise,hypothesis,label\na,b,x\nc,d,y\n")
    load = load_labelled
    assert load(path, Task.TEXT_CLASSIFICATION).examples[0].pair == "b"
    assert load(path, Task.TEXT_CLASSIFICATION, columns=Columns("premise")).examples[0].pair is None
    assert load(path, Task.TEXT_CLASSIFICATION, columns=Columns("hypothesis", "premise")).examples[0].pair == "a"


@pytest.mark.parametrize(
    ("name", "content", "problem_type", "names"),
    [
        ("a.jsonl", _jsonl({"text": "x", "labels": ["b", "a"]}, {"text": "y", "labels": []}), None, ("a", "b")),
        ("a.csv", "text,labels\nx,b|a\ny,\n", _MULTI, ("a", "b")),
        ("a.jsonl", _jsonl({"text": "x", "labels": [10, 9]}, {"text": "y", "labels": []}), None, ("9", "10")),
    ],
)
def test_texts_with_several_labels(write, name, content, problem_type, names):
    data = load_labelled(write(name, content), Task.TEXT_CLASSIFICATION, problem_type=problem_type)
    assert (data.problem_type, data.label_names) == (_MULTI, names)
    assert data.examples == (_example("x", (1.0, 1.0)), _example("y", (0.0, 0.0)))


def test_known_labels_decide_on_indices(write):
    path = write("a.csv", "text,label\ngood,1\nbad,1\n")
    data = load_labelled(path, Task.TEXT_CLASSIFICATION, label_names=("negative", "positive"))
    assert [example.label for example in data.examples] == [1, 1]
    data = load_labelled(path, Task.TEXT_CLASSIFICATION, label_names=("2", "1", "3"))
    assert [example.label for example in data.examples] == [1, 1]
    data = load_labelled(path, Task.TEXT_CLASSIFICATION, problem_type="ranking")
    assert (data.problem_type, data.label_names, data.examples[0].label) == ("ranking", (), 1.0)


_CONTEXT = "It was Ada. Ada wrote it in London."
_NEW = {"id": "n", "question": "who?", "context": _CONTEXT}


def _squad(*questions):
    return json.dumps(
        {"version": "v2.0", "data": [{"title": "t", "paragraphs": [{"context": _CONTEXT, "qas": questions}]}]}
    )


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "v2.json",
            _squad(
                {
                    "question": "who?",
                    "id": "n",
                    "answers": [{"text": "Ada", "answer_start": 7}] * 2 + [{"text": "London", "answer_start": 0}],
                    "is_impossible": False,
                },
                {
                    "question": "why?",
                    "id": "m",
                    "answers": [],
                    "is_impossible": True,
                    "plausible_answers": [{"text": "Ada", "answer_start": 7}],
                },
            ),
        ),
        (
            "hub.jsonl",
            _jsonl(
                {**_NEW, "answers": {"text": ["Ada", "Ada", "London"], "answer_start": [7, 7, 28]}},
                {"id": "m", "question": "why?", "context": _CONTEXT, "answers": {"text": [], "answer_start": []}},
            ),
        ),
    ],
)
def test_questions_with_and_without_answers(write, name, content):
    data = load_labelled(write(name, content), Task.QUESTION_ANSWERING)
    assert (data.label_names, data.problem_type) == ((), None)
    assert data.examples == (
        QuestionExample("n", "who?", _CONTEXT, (AnswerSpan("Ada", 7), AnswerSpan("London", 28))),
        QuestionExample("m", "why?", _CONTEXT, ()),
    )
    for example in data.examples:
        assert all(example.context[span.start :].startswith(span.text) for span in example.answers)


def test_a_question_without_id_is_called_by_its_place(write):
    content = _squad({"question": "who?", "answers": [{"text": "Ada", "answer_start": 7}]})
    assert load_labelled(write("a.json", content), Task.QUESTION_ANSWERING).examples[0].id == "article 1, question 1"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.conll", "-DOCSTART- -X- O\n\nAda NNP B-PER\nspoke VB O\n\n\nIn IN O\nLondon NNP B-LOC\n"),
        ("a.txt", "Ada\tB-PER\r\nspoke\tO\r\n\r\nIn\tO\r\nLondon\tB-LOC"),
        (
            "a.jsonl",
            _jsonl(
                {"tokens": ["Ada", "spoke"], "ner_tags": ["B-PER", "O"]},
                {"tokens": ["In", "London"], "ner_tags": ["O", "B-LOC"]},
            ),
        ),
    ],
)
def test_words_with_labels(write, name, content):
    data = load_labelled(write(name, content), Task.TOKEN_CLASSIFICATION)
    assert data.label_names == ("B-LOC", "B-PER", "O")
    assert data.examples == (WordsExample(("Ada", "spoke"), (1, 2)), WordsExample(("In", "London"), (2, 0)))


def test_words_with_labels_by_index(write):
    path = write("a.jsonl", _jsonl({"words": ["Ada", "spoke"], "tags": [1, 0]}))
    data = load_labelled(path, Task.TOKEN_CLASSIFICATION, label_names=("O", "B-PER"))
    assert data.examples == (WordsExample(("Ada", "spoke"), (1, 0)),)


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("a.jsonl", _jsonl({"question": "It", "choices": ["is", "was"], "label": 1}), Columns()),
        ("a.jsonl", _jsonl({"question": "It", "choices": ["is", "was"], "label": "b"}), Columns()),
        ("a.csv", "text,ending0,ending1,label\nIt,is,was,1\n", Columns()),
        ("a.csv", "It,is,was,B\n", Columns("1", None, "4", ("2", "3"))),
        (
            "a.jsonl",
            _jsonl({"question": "It", "choices": {"text": ["is", "was"], "label": ["1", "2"]}, "answerKey": "2"}),
            Columns(),
        ),
        ("a.csv", "sentence,left,right,label\nIt,is,was,1\n", Columns(choices=("left", "right"))),
    ],
)
def test_choices(write, name, content, columns):
    data = load_labelled(write(name, content), Task.MULTIPLE_CHOICE, columns=columns)
    assert data.examples == (ChoiceExample("It", ("is", "was"), 1),)


def test_choices_of_swag(write):
    content = "video-id,startphrase,sent1,sent2,ending0,ending1,label\nx,He sat. He,He sat.,He,ate.,ran.,0\n"
    data = load_labelled(write("swag.csv", content), Task.MULTIPLE_CHOICE)
    assert data.examples == (ChoiceExample("He sat.", ("He ate.", "He ran."), 0),)


@pytest.mark.parametrize(
    ("name", "content", "columns", "example"),
    [
        ("a.txt", "\na text\n", Columns(), PlainExample("a text", None, None)),
        ("a.csv", "text,label\na text,sports\n", Columns(), PlainExample("a text", None, None)),
        ("a.csv", "query,passage\nq,p\n", Columns(), PlainExample("q", "p", None)),
        ("a.tsv", "sentence1\tsentence2\tscore\nq\tp\t2.5\n", Columns(), PlainExample("q", "p", 2.5)),
        ("a.csv", "1,q,p\n", Columns("2", "3", "1"), PlainExample("q", "p", 1.0)),
        ("a.jsonl", '"a text"', Columns(), PlainExample("a text", None, None)),
        ("a.json", _squad({"question": "q", "answers": []}), Columns(), PlainExample("q", _CONTEXT, None)),
    ],
)
def test_texts_for_embeddings(write, name, content, columns, example):
    data = load_labelled(write(name, content), Task.FEATURE_EXTRACTION, columns=columns)
    assert data.examples == (example,)


_TEXT, _QA, _NER = Task.TEXT_CLASSIFICATION, Task.QUESTION_ANSWERING, Task.TOKEN_CLASSIFICATION
_CHOICE, _EMBED = Task.MULTIPLE_CHOICE, Task.FEATURE_EXTRACTION


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["", " ", "a", "B", "1", "0.5", "a|b", "\ud800"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "label", "answer_start"]), inner)
    ),
    max_leaves=4,
)
_KEYS = {
    Task.TEXT_CLASSIFICATION: ("text", "text_pair", "label"),
    Task.QUESTION_ANSWERING: ("id", "question", "context", "answers", "is_impossible"),
    Task.TOKEN_CLASSIFICATION: ("words", "labels"),
    Task.MULTIPLE_CHOICE: ("text", "choices", "label"),
    Task.FEATURE_EXTRACTION: ("text", "text_pair", "score"),
}


@pytest.mark.parametrize("task", list(_KEYS))
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_the_rows_hold_they_are_examples_or_a_fault(tmp_path_factory, task, data):
    rows = data.draw(st.lists(st.fixed_dictionaries(dict.fromkeys(_KEYS[task], _VALUES)), max_size=3))
    problem_type = data.draw(st.sampled_from(_PROBLEMS))
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(_jsonl(*rows))
    fault = None
    try:
        loaded = load_labelled(path, task, problem_type=problem_type)
    except DataError as err:
        fault = str(err)
    assert str(path) in fault if fault else len(loaded.examples) == len(rows)


_FAULTS = {
    _TEXT: [
        ("a.csv", "", "at least one example, got none in .*a.csv"),
        ("a.csv", "text,label\n", "at least one example"),
        ("a.json", "[]", "at least one example"),
        ("a.txt", "x", "must end in .csv, .tsv, .jsonl, .json, .parquet, got .*a.txt"),
        (
            "a.csv",
            "good film,1\nbad film,0\n",
            r"have a column of texts \(text, .*\), got the columns 'good film', '1' in .*; .* is no header",
        ),
        (
            "a.jsonl",
            '{"text": "x", "stars": 1}',
            r"have a column of labels \(label, .*\), got the columns 'text', 'stars' in .*. --label-column.$",
        ),
        ("a.csv", "question,sentence,label\na,b,1\n", "one plain column of texts, got question and sentence in"),
        ("a.csv", "text,label,score\na,b,1\n", "one plain column of labels, got label and score in"),
        (
            "a.csv",
            "text,label\na,1\n ,0\n,2",
            "have a text as 'text', got none at row 3 of .*a.csv and 1 more of its rows. Leave the row out.",
        ),
        ("a.csv", "text,label\na,1\nb,\n", "have a label in every row, got none at row 3"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}', "have 'label' in every row, got none at line 2"),
        ("a.jsonl", '{"text": 3, "label": 1}', "have texts as 'text', got a value of type int at line 1"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{', "hold JSON objects, got something else at line 2"),
        ("a.jsonl", '"a"', "have a column of labels"),
        ("a.csv", "text,label\na,1\nb,1\n", "at least two different labels, got '1' alone in .*a.csv"),
        ("a.csv", "sentence1,sentence2,gold_label\na,b,-\n", "have a label in every row, got '-' at row 2"),
        ("a.csv", "sentence1,sentence2,label\na,,1\n", "have a text as 'sentence2', got none at row 2"),
        (
            "a.jsonl",
            _jsonl({"text": "a", "label": ["x"]}, {"text": "b", "label": 0.5}),
            r"have lists of labels, or labels with \| between, got 0.5 at line 2",
        ),
        ("a.jsonl", _jsonl({"text": "a", "labels": []}), "have at least one label, got none in"),
        (
            "a.csv",
            "text,label\n" + "\n".join(f"t{n},l{n}" for n in range(20)),
            "labels that rows share, got 20 different ones in the 20 rows of",
        ),
    ],
    _QA: [
        ("a.csv", "x", "must end in .jsonl, .json, .parquet, got"),
        (
            "a.json",
            _squad({"question": "q", "id": "1"}),
            "'answers' with text and answer_start for each question, got none at article 1, question 1 of",
        ),
        (
            "a.json",
            _squad({"question": "q", "answers": [{"text": "Bob", "answer_start": 0}]}),
            "have answers that stand in their context, got 'Bob' at article 1, question 1",
        ),
        (
            "a.json",
            _squad({"question": "q", "answers": [{"text": "Ada", "answer_start": 6}]}),
            "start at answer_start, or stand only once in their context, got 'Ada' at 6 at article 1, question 1",
        ),
        (
            "a.json",
            _squad({"question": "q", "answers": [{"text": "Ada", "answer_start": 7}], "is_impossible": True}),
            "have no answers where is_impossible is true, got 'Ada' at",
        ),
        (
            "a.json",
            _squad(*[{"question": "q", "id": "1", "answers": []}] * 2),
            "an id of its own for each question, got '1' again at article 1, question 2",
        ),
        ("a.json", _squad({"question": "q", "answers": ["Ada"]}), "have 'answers' with text and answer_start"),
        ("a.json", _squad({"question": "q", "answers": [{"text": " ", "answer_start": 0}]}), "answers with a text"),
        ("a.jsonl", _jsonl({**_NEW, "answers": {"text": ["Ada"], "answer_start": []}}), "have 'answers' with"),
        ("a.jsonl", _jsonl({**_NEW, "question": " ", "answers": []}), "have a text as 'question', got none at line 1"),
    ],
    _NER: [
        ("a.tsv", "x", "must end in .conll, .txt, .jsonl, .json, .parquet, got"),
        ("a.conll", "Ada B-PER\nspoke\n", "hold lines of 2 columns, the last one a label, got 1 at line 2 of"),
        ("a.conll", "Ada B-PER\n\nso x O\n", "hold lines of 2 columns, the last one a label, got 3 at line 3"),
        ("a.conll", "Ada\n", "hold lines of 2 columns"),
        ("a.conll", "\n", "at least one example"),
        ("a.conll", "Ada O\n", "at least two different labels, got 'O' alone"),
        ("a.jsonl", _jsonl({"words": ["a", "b"], "labels": ["O"]}), "as many labels as words, got 2 and 1 at line 1"),
        ("a.jsonl", _jsonl({"words": [], "labels": []}), "have at least one word, got none at line 1"),
        ("a.jsonl", _jsonl({"words": [" "], "labels": ["O"]}), "have words that are texts, got ' ' at line 1"),
        ("a.jsonl", _jsonl({"words": "a b", "labels": ["O"]}), "have lists as 'words', got a value of type str"),
    ],
    _CHOICE: [
        ("a.jsonl", _jsonl({"text": "a", "choices": ["x"], "label": 0}), "have at least two choices"),
        ("a.jsonl", _jsonl({"text": "a", "choices": "x", "label": 0}), "have lists as 'choices'"),
        (
            "a.jsonl",
            _jsonl({"text": "a", "choices": ["x", "y"], "label": 2}),
            r"have labels that name a choice \(0 to 1, or A to B\), got 2 at line 1",
        ),
        ("a.jsonl", _jsonl({"text": "a", "choices": ["x", "y"], "label": "C"}), "got 'C' at line 1"),
        ("a.csv", "text,label\na,0\n", r"have a column of choices \(choices, options\), got the columns"),
    ],
    _EMBED: [
        ("a.csv", "text,text_pair,label\na,b,c\n", "have finite numbers as labels, got 'c' at row 2"),
        ("a.txt", "\n", "at least one example"),
    ],
}


@pytest.mark.parametrize(
    ("task", "name", "content", "message"), [(task, *fault) for task, faults in _FAULTS.items() for fault in faults]
)
def test_faults_name_the_rule_the_value_and_the_place(write, task, name, content, message):
    path = write(name, content)
    with pytest.raises(DataError, match=message) as caught:
        load_labelled(path, task)
    assert str(caught.value).startswith("Labelled data must ")
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            Columns("body"),
            r"have the column 'body', got the columns 'text', 'label' in .*a.csv. Name one with --text-co",
        ),
        (Columns("text,body"), "have the column 'text,body'"),
        (Columns(label="text,label"), "have the column 'text,label'"),
        (Columns("3", None, "2"), "have the column '3'"),
        (Columns(pair="x"), "have the column 'x', .* Name one with --pair-column"),
    ],
)
def test_columns_that_are_not_there_are_refused(write, columns, message):
    with pytest.raises(DataError, match=message):
        load_labelled(write("a.csv", "text,label\na,1\nb,2\n"), Task.TEXT_CLASSIFICATION, columns=columns)


def test_a_header_among_data_is_noticed(write):
    rows = "\n".join(f"text {number},{number % 2}" for number in range(30))
    path = write("a.csv", f"review,sentiment\n{rows}\n")
    message = (
        "must have no header where columns go by number, got the label 'sentiment' at row 1 of .* and nowhere else"
    )
    with pytest.raises(DataError, match=message):
        load_labelled(path, Task.TEXT_CLASSIFICATION, columns=Columns("1", None, "2"))
    data = load_labelled(path, Task.TEXT_CLASSIFICATION, columns=Columns("review", None, "sentiment"))
    assert (len(data.examples), data.label_names) == (30, ("0", "1"))


def test_numbers_name_no_columns_of_objects(write):
    path = write("a.jsonl", '{"text": "a", "label": 1}')
    with pytest.raises(DataError, match="have the column '1', got the columns 'text', 'label' in"):
        load_labelled(path, Task.TEXT_CLASSIFICATION, columns=Columns("1", None, "2"))


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (Task.FILL_MASK, {}, "must be for one of text-classification, .*, got fill-mask"),
        (_TEXT, {"problem_type": "many"}, "problem_type must be one of single_label_classification, .*, got 'many'"),
        (_TEXT, {"label_names": ("a", "a")}, "label_names must differ, got a, a"),
    ],
)
def test_calls_that_make_no_sense_are_refused(write, task, options, message):
    with pytest.raises(InputError, match=message):
        load_labelled(write("a.csv", "text,label\na,1\n"), task, **options)


@pytest.mark.parametrize(
    ("label_names", "label", "message"),
    [
        (("neg", "pos"), "neutral", "have known labels only, got 'neutral' at row 3 of .*. Known are neg, pos."),
        (("neg", "pos"), "2", "have whole numbers from 0 to 1 as labels, got 2 at row 3 of"),
    ],
)
def test_unknown_labels_name_the_known_ones(write, label_names, label, message):
    path = write("a.csv", f"text,label\na,pos\nb,{label}\n")
    with pytest.raises(DataError, match=message):
        load_labelled(path, Task.TEXT_CLASSIFICATION, label_names=label_names)


def test_what_is_a_file(tmp_path):
    assert is_data_file("some/folder/train.CSV")
    assert is_data_file(tmp_path)
    assert not is_data_file("owner/set")
    assert not is_data_file("set:config")


def test_training_asks_for_rankings_from_0_to_1(write):
    path = write("a.csv", "text,label\na,0.5\nb,4\nc,-1\n")
    assert len(load_labelled(path, Task.TEXT_CLASSIFICATION, problem_type="ranking").examples) == 3
    message = (
        "Labelled data must have labels from 0 to 1 to train a ranking on, got 4 at row 3 of .*a.csv and 1 more of its "
        r"rows\. Scale the labels, or train it as a regression with --problem-type regression\."
    )
    with pytest.raises(DataError, match=message):
        load_labelled(path, Task.TEXT_CLASSIFICATION, problem_type="ranking", for_training=True)
    for problem_type in ("regression", None):
        assert load_labelled(path, Task.TEXT_CLASSIFICATION, problem_type=problem_type, for_training=True).examples


def test_training_asks_for_as_many_choices_in_every_row(write):
    rows = [{"text": "a", "choices": ["b", "c", "d"][:count], "label": 0} for count in (2, 3, 2)]
    path = write("a.jsonl", _jsonl(*rows))
    assert len(load_labelled(path, Task.MULTIPLE_CHOICE).examples) == 3
    message = (
        r"have as many choices in every row to train on, got 3 and not 2 at line 2 of .*a.jsonl\. Leave the row out"
    )
    with pytest.raises(DataError, match=message):
        load_labelled(path, Task.MULTIPLE_CHOICE, for_training=True)
