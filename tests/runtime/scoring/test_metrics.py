"""Metrics against scikit-learn, scipy and seqeval on random answers, whole and resampled."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from seqeval.metrics import f1_score as entity_f1_score
from seqeval.metrics import precision_score as entity_precision_score
from seqeval.metrics import recall_score as entity_recall_score
from sklearn import metrics as sklearn

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.packages import MissingPackageError
from dynbert.scoring.metrics import (
    Scores,
    are_entities,
    mean_metric,
    score_choices,
    score_classes,
    score_label_sets,
    score_numbers,
    score_similarities,
    score_words,
)

_TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def _values(metrics):
    return {metric.name: metric.value for metric in metrics}


def _answers(rng, right, size):
    return np.where(rng.random(len(right)) < 0.7, right, rng.integers(0, size, len(right)))


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_classes_agree_with_scikit_learn_also_over_a_resample(classes):
    rng = np.random.default_rng(classes)
    gold = rng.integers(0, classes, 200)
    predicted = _answers(rng, gold, classes)
    metrics = score_classes(gold, predicted, classes=classes)
    assert [metric.name for metric in metrics] == ["accuracy", "f1" if classes == 2 else "macro_f1", "matthews"]
    for indices in (np.arange(200), rng.integers(0, 200, 200), np.arange(5)):
        right, answered = gold[indices], predicted[indices]
        average = "binary" if classes == 2 else "macro"
        expected = [
            sklearn.accuracy_score(right, answered),
            sklearn.f1_score(right, answered, average=average, zero_division=0),
            sklearn.matthews_corrcoef(right, answered),
        ]
        np.testing.assert_allclose([metric.over(indices) for metric in metrics], expected, atol=1e-12)
    assert len(set(_values(metrics).values())) == 3
    assert metrics[0].per_example == tuple((gold == predicted).astype(float))


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12))
@settings(deadline=None)
def test_classes_agree_with_scikit_learn_where_few_or_none_are_there(pairs):
    gold, predicted = (np.array(side) for side in zip(*pairs, strict=True))
    values = _values(score_classes(gold, predicted, classes=3))
    assert values["macro_f1"] == pytest.approx(sklearn.f1_score(gold, predicted, average="macro", zero_division=0))
    assert -1 <= values["matthews"] <= 1


def test_classes_that_are_never_right_nor_answered_do_not_count():
    values = _values(score_classes([0, 1, 1], [0, 1, 0], classes=9))
    assert values["macro_f1"] == pytest.approx(2 / 3)
    assert _values(score_classes([1, 1], [1, 1], classes=2)) == {"accuracy": 1.0, "f1": 1.0, "matthews": 0.0}
    assert _values(score_classes([0, 0], [0, 0], classes=2))["f1"] == 0.0


@pytest.mark.parametrize("labels", [1, 4])
def test_label_sets_agree_with_scikit_learn(labels):
    rng = np.random.default_rng(labels)
    gold = rng.integers(0, 2, (120, labels))
    predicted = np.where(rng.random(gold.shape) < 0.8, gold, 1 - gold)
    metrics = score_label_sets(gold, predicted)
    for indices in (np.arange(120), rng.integers(0, 120, 120)):
        right, answered = gold[indices], predicted[indices]
        options = {"zero_division": 0} if labels > 1 else {"zero_division": 0, "pos_label": 1}
        averages = ("micro", "macro") if labels > 1 else ("binary", "binary")
        right, answered = (right, answered) if labels > 1 else (right[:, 0], answered[:, 0])
        expected = [sklearn.f1_score(right, answered, average=average, **options) for average in averages]
        expected.append(sklearn.accuracy_score(right, answered))
        np.testing.assert_allclose([metric.over(indices) for metric in metrics], expected, atol=1e-12)
    assert [metric.name for metric in metrics] == ["micro_f1", "macro_f1", "exact_match"]


def test_label_sets_without_any_label_are_worth_nothing_but_equal():
    assert _values(score_label_sets([[0, 0]], [[0, 0]])) == {"micro_f1": 0.0, "macro_f1": 0.0, "exact_match": 1.0}


def test_numbers_agree_with_scipy():
    rng = np.random.default_rng(3)
    gold = rng.integers(0, 6, 80) / 2  # with ties
    predicted = gold + rng.normal(size=80)
    metrics = score_numbers(gold, predicted)
    for indices in (np.arange(80), rng.integers(0, 80, 80)):
        expected = [
            stats.spearmanr(gold[indices], predicted[indices]).statistic,
            stats.pearsonr(gold[indices], predicted[indices]).statistic,
        ]
        np.testing.assert_allclose([metric.over(indices) for metric in metrics], expected, atol=1e-12)
    assert [metric.name for metric in metrics] == ["spearman", "pearson"]


def test_equal_numbers_correlate_with_nothing():
    assert _values(score_numbers([1, 1, 1], [1, 2, 3])) == {"spearman": 0.0, "pearson": 0.0}
    assert _values(score_numbers([1], [2])) == {"spearman": 0.0, "pearson": 0.0}


def test_similarities_are_those_of_the_cosines():
    rng = np.random.default_rng(4)
    first, second, gold = rng.normal(size=(30, 5)), rng.normal(size=(30, 5)), rng.random(30)
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(first, second, strict=True)]
    values = _values(score_similarities(gold, 3 * first, second))
    assert values["spearman"] == pytest.approx(stats.spearmanr(gold, cosines).statistic)
    assert values["pearson"] == pytest.approx(stats.pearsonr(gold, cosines).statistic)
    assert np.isfinite(score_similarities([1, 2], np.zeros((2, 3)), np.ones((2, 3)))[0].value)


def test_choices_are_right_or_wrong():
    [accuracy] = score_choices([0, 1, 2, 1], [0, 1, 1, 1])
    assert (accuracy.name, accuracy.value, accuracy.per_example) == ("accuracy", 0.75, (1.0, 1.0, 0.0, 1.0))


def test_words_agree_with_seqeval():
    rng = np.random.default_rng(5)
    gold = [list(rng.choice(_TAGS, rng.integers(1, 12))) for _ in range(60)]
    predicted = [[tag if rng.random() < 0.7 else str(rng.choice(_TAGS)) for tag in sentence] for sentence in gold]
    metrics = score_words(gold, predicted)
    assert [metric.name for metric in metrics] == [
        "entity_f1",
        "entity_precision",
        "entity_recall",
        "word_accuracy",
    ]
    for indices in (np.arange(60), rng.integers(0, 60, 60)):
        right, answered = ([side[index] for index in indices] for side in (gold, predicted))
        expected = [
            entity_f1_score(right, answered),
            entity_precision_score(right, answered),
            entity_recall_score(right, answered),
            sklearn.accuracy_score(list(chain(*right)), list(chain(*answered))),
        ]
        np.testing.assert_allclose([metric.over(indices) for metric in metrics], expected, atol=1e-12)
    assert len(set(_values(metrics).values())) == 4


def test_words_without_entities_have_their_accuracy_alone():
    assert _values(score_words([["NOUN", "VERB"], ["X"]], [["NOUN", "NOUN"], ["X"]])) == {
        "word_accuracy": pytest.approx(2 / 3)
    }
    assert _values(score_words([["O", "B-PER"]], [["O", "O"]]))["entity_f1"] == 0.0
    assert are_entities(["O", "B-PER"])
    assert not are_entities(["O"])
    assert not are_entities(["O", "PER"])


def test_scores_know_their_metrics_by_name():
    metric = mean_metric("accuracy", [1, 0])
    scores = Scores("data", Task.TEXT_CLASSIFICATION, "full", 2, (metric,))
    assert scores.metric("accuracy") is metric
    with pytest.raises(InputError, match="metric must be one of accuracy, got 'f1'"):
        scores.metric("f1")


@pytest.mark.parametrize(
    ("module", "call"),
    [
        ("scipy", lambda: score_numbers([1, 2], [1, 2])),
        ("seqeval", lambda: score_words([["B-X"]], [["B-X"]])),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch, module, call):
    for name in (module, "scipy.stats", "seqeval.metrics", "seqeval.metrics.sequence_labeling"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    with pytest.raises(
        MissingPackageError, match=rf"^{module} must be installed to .*, got none. .*'dynbert\[eval\]'$"
    ):
        call()
