"""From examples to inputs: which tokens a label belongs to, windows of long contexts, and batches."""

from __future__ import annotations

import pytest

from dynbert.manifest import Task
from dynbert.scoring.examples import (
    AnswerSpan,
    ChoiceExample,
    LabelledData,
    PlainExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from dynbert_export.options.vocabularies import TrainingTaskOption
from dynbert_export.training.features import list_questions, make_collator, make_features
from dynbert_export.training.model import find_start, load_training_tokenizer


@pytest.fixture(scope="module")
def tokenizer(encoder):
    return load_training_tokenizer(find_start(str(encoder), task=TrainingTaskOption.TEXT_CLASSIFICATION))


def _data(task, *examples, problem=None):
    return LabelledData(task, examples, (), problem, "data")


def _text(text="the food was good", pair=None, label=1):
    return TextExample(text, pair, label)


def _pieces(tokenizer, row):
    return tokenizer.convert_ids_to_tokens(row["input_ids"])


def test_texts_and_pairs_have_a_label(tokenizer):
    features = make_features(
        _data(Task.TEXT_CLASSIFICATION, _text(), _text("food", "was good", 0)), tokenizer, max_length=64
    )
    first, second = features.rows
    assert _pieces(tokenizer, first) == ["[CLS]", "the", "food", "was", "good", "[SEP]"]
    assert (first["labels"], second["labels"]) == (1, 0)
    assert second["token_type_ids"] == [0, 0, 0, 1, 1, 1]
    assert features.lengths == (6, 6)


def test_texts_are_cut_at_the_end(tokenizer):
    [row] = make_features(_data(Task.TEXT_CLASSIFICATION, _text("the " * 90 + "good")), tokenizer, max_length=8).rows
    assert _pieces(tokenizer, row) == ["[CLS]", *["the"] * 6, "[SEP]"]


@pytest.mark.parametrize(
    ("problem", "label", "expected"),
    [
        ("regression", 2, 2.0),
        ("ranking", 1, 1.0),
        ("multi_label_classification", (0, 1, 1), [0.0, 1.0, 1.0]),
        ("single_label_classification", 2, 2),
    ],
)
def test_labels_are_as_the_head_takes_them(tokenizer, problem, label, expected):
    data = _data(Task.TEXT_CLASSIFICATION, _text(label=label), problem=problem)
    [row] = make_features(data, tokenizer, max_length=64).rows
    assert row["labels"] == expected
    assert type(row["labels"]) is type(expected)


def test_a_word_s_label_is_that_of_its_first_token(tokenizer):
    example = WordsExample(("the", "cityhouse", "was", "good"), (0, 3, 1, 2))
    [row] = make_features(_data(Task.TOKEN_CLASSIFICATION, example), tokenizer, max_length=64).rows
    pieces = _pieces(tokenizer, row)
    labels = dict(zip(pieces, row["labels"], strict=True))
    assert len(pieces) > 6
    assert (labels["the"], labels["was"], labels["good"]) == (0, 1, 2)
    first = pieces.index("the") + 1
    last = pieces.index("was")
    assert row["labels"][first] == 3
    assert set(row["labels"][first + 1 : last]) == {-100}
    assert (row["labels"][0], row["labels"][-1]) == (-100, -100)


def test_choices_are_pairs_of_one_text(tokenizer):
    example = ChoiceExample("the food", ("was good", "was bad"), 1)
    features = make_features(_data(Task.MULTIPLE_CHOICE, example), tokenizer, max_length=64)
    [row] = features.rows
    assert [tokenizer.convert_ids_to_tokens(ids)[-2] for ids in row["input_ids"]] == ["good", "bad"]
    assert (row["labels"], features.lengths) == (1, (7,))


def test_texts_for_embeddings_are_read_apart(tokenizer):
    features = make_features(
        _data(Task.FEATURE_EXTRACTION, PlainExample("the food", "was very good", None)), tokenizer, max_length=64
    )
    [row] = features.rows
    assert _pieces(tokenizer, row) == ["[CLS]", "the", "food", "[SEP]"]
    assert set(row["pair_token_type_ids"]) == {0}
    assert features.lengths == (len(row["input_ids"]) + len(row["pair_input_ids"]),)


def _question(context, answer, *, start=None, question="how was it"):
    answers = () if answer is None else (AnswerSpan(answer, context.index(answer) if start is None else start),)
    return QuestionExample("q", question, context, answers)


@pytest.mark.parametrize("answer", ["great", "great food", " great ", "food."])
def test_answers_become_tokens(tokenizer, answer):
    data = _data(Task.QUESTION_ANSWERING, _question("the city had great food.", answer))
    features = make_features(data, tokenizer, max_length=64)
    [row] = features.rows
    pieces = _pieces(tokenizer, row)[row["start_positions"] : row["end_positions"] + 1]
    assert "".join(pieces) == answer.replace(" ", "")
    [window] = features.windows
    span = window.offsets[row["start_positions"]][0], window.offsets[row["end_positions"]][1]
    assert "the city had great food."[slice(*span)] == answer.strip()


def test_a_question_without_an_answer_points_to_cls(tokenizer):
    [row] = make_features(_data(Task.QUESTION_ANSWERING, _question("the city", None)), tokenizer, max_length=64).rows
    assert (row["start_positions"], row["end_positions"]) == (0, 0)


def test_long_contexts_are_read_in_windows_that_overlap(tokenizer):
    context = "the city was old and " * 8 + "the food was great at night"
    data = _data(Task.QUESTION_ANSWERING, _question(context, "great"), _question("good", "good"))
    features = make_features(data, tokenizer, max_length=24)
    assert [window.example for window in features.windows] == [0] * (len(features.windows) - 1) + [1]
    assert len(features.windows) > 4
    assert all(length <= 24 for length in features.lengths)
    found = 0
    covered = set()
    for row, window in zip(features.rows, features.windows, strict=True):
        spans = [span for span in window.offsets if span is not None]
        if window.example == 0:
            covered |= set(spans)
            shown = any(context[first:last] == "great" for first, last in spans)
            assert (row["start_positions"] > 0) == shown
            found += shown
    assert found >= 1
    assert len(covered) == len(context.split())


def test_long_questions_leave_room_for_the_context(tokenizer):
    data = _data(Task.QUESTION_ANSWERING, _question("the food was good", "good", question="how was it " * 30))
    features = make_features(data, tokenizer, max_length=8)
    assert {window.example for window in features.windows} == {0}
    assert any(row["start_positions"] for row in features.rows)


def test_the_longest_rows_come_first_when_sorted(tokenizer):
    questions = [_question("good " * count, "good", start=0) for count in (1, 30, 4)]
    features = make_features(_data(Task.QUESTION_ANSWERING, *questions), tokenizer, max_length=64)
    ordered = features.sorted_by_length()
    assert [window.example for window in ordered.windows] == [1, 2, 0]
    assert ordered.lengths == tuple(sorted(features.lengths, reverse=True))
    assert [len(row["input_ids"]) for row in ordered.rows] == list(ordered.lengths)


def test_questions_are_listed():
    question = _question("a", None)
    assert list_questions(_data(Task.QUESTION_ANSWERING, question)) == (question,)


@pytest.mark.parametrize(
    ("task", "examples", "shapes"),
    [
        (Task.TEXT_CLASSIFICATION, [_text(), _text("good")], {"input_ids": (2, 6), "labels": (2,)}),
        (
            Task.TOKEN_CLASSIFICATION,
            [WordsExample(("a", "b"), (0, 1)), WordsExample(("a",), (1,))],
            {"input_ids": (2, 4), "labels": (2, 4)},
        ),
        (
            Task.MULTIPLE_CHOICE,
            [ChoiceExample("a", ("b", "c"), 1), ChoiceExample("a", ("b", "c d e"), 0)],
            {"input_ids": (2, 2, 7), "labels": (2,)},
        ),
        (
            Task.FEATURE_EXTRACTION,
            [PlainExample("a", "b c d", None), PlainExample("a b", "c", None)],
            {"input_ids": (2, 4), "pair_input_ids": (2, 5), "pair_attention_mask": (2, 5)},
        ),
        (Task.FEATURE_EXTRACTION, [PlainExample("a", None, None)], {"input_ids": (1, 3)}),
    ],
)
def test_batches_are_padded_to_their_longest_row(tokenizer, task, examples, shapes):
    rows = list(make_features(_data(task, *examples), tokenizer, max_length=64).rows)
    batch = make_collator(task, tokenizer)(rows)
    assert {name: tuple(batch[name].shape) for name in shapes} == shapes
    assert ("pair_input_ids" in batch) == ("pair_input_ids" in shapes)
    assert batch["attention_mask"].shape == batch["input_ids"].shape == batch["token_type_ids"].shape
    assert int(batch["attention_mask"].flatten()[0]) == 1  # padded at the end
