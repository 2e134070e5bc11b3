"""From logits to a metric, for every task."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dynbert.manifest import Task
from dynbert.scoring.examples import AnswerSpan, LabelledData, PlainExample, QuestionExample
from dynbert_export.training import judge as judge_module
from dynbert_export.training.features import Features, Window
from dynbert_export.training.judge import Judge, find_training_metric


def _judge(task, *, examples=(), names=(), problem=None, windows=()):
    return Judge(LabelledData(task, tuple(examples), names, problem, "data"), Features(None, (), tuple(windows)))


def _call(judge, predictions, labels):
    return judge(SimpleNamespace(predictions=predictions, label_ids=labels))


@pytest.mark.parametrize(
    ("task", "names", "problem", "metric"),
    [
        (Task.TEXT_CLASSIFICATION, ("a", "b"), None, "accuracy"),
        (Task.TEXT_CLASSIFICATION, ("a", "b"), "single_label_classification", "accuracy"),
        (Task.TEXT_CLASSIFICATION, ("a", "b"), "multi_label_classification", "micro_f1"),
        (Task.TEXT_CLASSIFICATION, (), "regression", "spearman"),
        (Task.TEXT_CLASSIFICATION, (), "ranking", "spearman"),
        (Task.TOKEN_CLASSIFICATION, ("B-X", "O"), None, "entity_f1"),
        (Task.TOKEN_CLASSIFICATION, ("NOUN", "VERB"), None, "word_accuracy"),
        (Task.QUESTION_ANSWERING, (), None, "f1"),
        (Task.MULTIPLE_CHOICE, (), None, "accuracy"),
        (Task.FEATURE_EXTRACTION, (), None, "cosine"),
    ],
)
def test_every_kind_of_data_has_a_metric(task, names, problem, metric):
    judge = _judge(task, names=names, problem=problem)
    assert find_training_metric(judge.data) == judge.metric == metric


def test_classes_are_the_largest_logits():
    found = _call(
        _judge(Task.TEXT_CLASSIFICATION, names=("a", "b", "c")),
        np.array([[3.0, 0, 0], [0, 1, 2], [0, 1, 0], [9, 0, 0]]),
        np.array([0, 2, 1, 1]),
    )
    assert found["accuracy"] == pytest.approx(0.75)


def test_several_labels_are_those_above_zero():
    judge = _judge(Task.TEXT_CLASSIFICATION, names=("a", "b"), problem="multi_label_classification")
    found = _call(judge, np.array([[1.0, -1], [1, 1]]), np.array([[1.0, 0], [1, 0]]))
    assert found["micro_f1"] == pytest.approx(0.8)


@pytest.mark.parametrize("problem", ["regression", "ranking"])
def test_numbers_are_judged_by_their_order(problem):
    judge = _judge(Task.TEXT_CLASSIFICATION, problem=problem)
    found = _call(judge, np.array([[1.0], [2.0], [30.0]]), np.array([0.1, 0.2, 0.3]))
    assert found["spearman"] == pytest.approx(1.0)
    assert _call(judge, np.zeros((3, 1)), np.array([0.1, 0.2, 0.3]))["spearman"] == 0.0  # and not NaN


def test_words_are_judged_where_they_have_a_label():
    judge = _judge(Task.TOKEN_CLASSIFICATION, names=("B-X", "O"))
    logits = np.full((2, 4, 2), -100.0)  # as Trainer pads
    logits[0, 1], logits[0, 2], logits[1, 1] = (1, 0), (0, 1), (0, 1)
    labels = np.array([[-100, 0, 1, -100], [-100, 0, -100, -100]])
    found = _call(judge, logits, labels)
    assert found["entity_f1"] == pytest.approx(2 / 3)


def test_choices_are_the_largest_logits():
    assert _call(_judge(Task.MULTIPLE_CHOICE), np.array([[1.0, 2], [3, 1]]), np.array([1, 1]))["accuracy"] == 0.5


_CONTEXT = "one two three four"
_OFFSETS = (None, None, (0, 3), (4, 7), (8, 13), (14, 18))


def _spans(**best):
    """Return logits of one window: 0 but for named places."""
    start, end = np.zeros(8), np.zeros(8)
    for place, value in best.items():
        (start if place[0] == "s" else end)[int(place[1])] = value
    return start, end


def _answer(*windows, questions=None, offsets=None):
    examples = questions or [QuestionExample("q", "?", _CONTEXT, (AnswerSpan("two three", 4),))]
    offsets = offsets or [Window(0, _OFFSETS)] * len(windows)
    judge = _judge(Task.QUESTION_ANSWERING, examples=examples, windows=offsets)
    starts, ends = (np.stack([window[side] for window in windows]) for side in (0, 1))
    return _call(judge, (starts, ends, None), None)


def test_answers_are_the_best_spans_of_the_context():
    assert _answer(_spans(s3=5, e4=5)) == {"exact_match": 1.0, "f1": 1.0}
    assert _answer(_spans(s3=5, e3=5))["f1"] == pytest.approx(2 / 3)
    assert _answer(_spans(s3=5, e4=5, s0=90, e0=90, s6=90, e7=90))["exact_match"] == 1.0  # question and padding
    assert _answer(_spans(s4=5, e3=6, s3=4))["f1"] == pytest.approx(2 / 3)  # none that ends before it begins


def test_answers_are_the_best_of_all_windows():
    windows = [Window(0, (None, (0, 3), (4, 7))), Window(0, (None, (4, 7), (8, 13)))]
    found = _answer(_spans(s1=4, e1=4), _spans(s1=5, e2=5), offsets=windows)
    assert found["exact_match"] == 1.0


def test_no_answer_is_one_where_the_data_has_questions_without():
    questions = [
        QuestionExample("q", "?", _CONTEXT, (AnswerSpan("two", 4),)),
        QuestionExample("r", "?", _CONTEXT, ()),
    ]
    windows = [Window(0, _OFFSETS), Window(1, _OFFSETS)]
    found = _answer(_spans(s3=5, e3=5, s0=1), _spans(s3=1, s0=3, e0=3), questions=questions, offsets=windows)
    assert found["exact_match"] == 1.0
    found = _answer(_spans(s3=5, e3=5, s0=9), _spans(s3=9, s0=3, e0=3), questions=questions, offsets=windows)
    assert found["exact_match"] == 0.5


def test_answers_are_never_longer_than_thirty_tokens():
    offsets = (None, *((2 * place, 2 * place + 1) for place in range(40)))
    start, end = np.zeros(41), np.zeros(41)
    start[1], end[40], end[30] = 9, 9, 5
    question = QuestionExample("q", "?", "a " * 40, (AnswerSpan("a " * 29 + "a", 0),))
    judge = _judge(Task.QUESTION_ANSWERING, examples=[question], windows=[Window(0, offsets)])
    assert _call(judge, (start[None], end[None]), None)["f1"] == 1.0


def test_embeddings_are_judged_by_the_angle_to_the_teacher_s():
    plain = [PlainExample("a", None, None)] * 2
    judge = _judge(Task.FEATURE_EXTRACTION, examples=plain)
    found = _call(judge, np.array([[3.0, 0], [1, 1]]), np.array([[1.0, 0], [0, 2]]))
    assert found == {"cosine": pytest.approx((1 + 2**-0.5) / 2)}


@pytest.mark.parametrize("at_once", [1, 2, 1024])
def test_partners_are_to_be_found(monkeypatch, at_once):
    monkeypatch.setattr(judge_module, "_TEXTS_AT_ONCE", at_once)
    generator = np.random.default_rng(0)
    texts = generator.normal(size=(5, 8))
    partners = texts + 0.01 * generator.normal(size=(5, 8))
    partners[[0, 1]] = partners[[1, 0]]
    judge = _judge(Task.FEATURE_EXTRACTION, examples=[PlainExample("a", "b", None)] * 5)
    assert _call(judge, (texts, partners), (texts, partners))["recall_at_1"] == pytest.approx(0.6)


def test_pairs_with_scores_may_be_strangers():
    judge = _judge(Task.FEATURE_EXTRACTION, examples=[PlainExample("a", "b", 0.1)])
    assert list(_call(judge, (np.ones((1, 2)),) * 2, (np.ones((1, 2)),) * 2)) == ["cosine"]


def test_the_deciding_number_of_each_profile_is_picked():
    judge = _judge(Task.QUESTION_ANSWERING)
    found = {"before_full_f1": 0.5, "before_full_exact_match": 0.1, "before_my_way_f1": 0.4, "before_score": 0.45}
    assert judge.pick(found, prefix="before") == {"full": 0.5, "my_way": 0.4}
