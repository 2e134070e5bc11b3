"""SQuAD's metrics against transformers' copy of the official script."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.data.metrics import squad_metrics
from transformers.data.processors.squad import SquadExample

from dynbert.scoring.squad import best_exact, best_f1, normalize_answer, score_answers

_TEXTS = st.text(st.sampled_from("aAnthe T.,-!\u2019\u00a0x1 "), max_size=14)


@given(_TEXTS)
def test_answers_are_normalised_as_transformers_does(text):
    assert normalize_answer(text) == squad_metrics.normalize_answer(text)


@given(_TEXTS, _TEXTS)
def test_one_answer_is_scored_as_transformers_does(predicted, right):
    if squad_metrics.normalize_answer(right):
        assert best_exact(predicted, [right]) == squad_metrics.compute_exact(right, predicted)
        assert best_f1(predicted, [right]) == pytest.approx(squad_metrics.compute_f1(right, predicted))


def _questions(seed, *, answerable):
    rng = np.random.default_rng(seed)
    words = ["the", "a", "Ada", "wrote", "it.", "in", "London", "1843"]

    def text():
        return " ".join(["an", *rng.choice(words, rng.integers(0, 4)), str(rng.choice(words[2:]))])

    answers = [[text() for _ in range(rng.integers(1, 4))] if rng.random() < answerable else [] for _ in range(150)]
    predicted = [of_question[0] if of_question and rng.random() < 0.6 else text() for of_question in answers]
    sure = [(0.5 if of_question else 0.0) + 0.5 * rng.random() for of_question in answers]
    return predicted, answers, sure


def _official(predicted, answers, sure):
    examples = [
        SquadExample(
            qas_id=str(number),
            question_text="?",
            context_text="",
            answer_text=None,
            start_position_character=None,
            title="",
            answers=[{"text": text} for text in of_question],
            is_impossible=not of_question,
        )
        for number, of_question in enumerate(answers)
    ]
    by_id = {str(number): text for number, text in enumerate(predicted)}
    no_answer = {str(number): 1 - value for number, value in enumerate(sure)}
    return squad_metrics.squad_evaluate(examples, by_id, no_answer, no_answer_probability_threshold=2.0)


@pytest.mark.parametrize(("seed", "answerable"), [(0, 1.0), (1, 0.5), (2, 0.9), (3, 0.1), (4, 0.0)])
def test_scores_are_those_of_the_official_script(seed, answerable):
    predicted, answers, sure = _questions(seed, answerable=answerable)
    official = _official(predicted, answers, sure)
    expected = {"f1": official["f1"], "exact_match": official["exact"]}
    if answerable < 1:
        expected |= {"best_f1": official["best_f1"], "best_exact_match": official["best_exact"]}
    if 0 < answerable < 1:
        expected |= {"answerable_f1": official["HasAns_f1"], "answerable_exact_match": official["HasAns_exact"]}
    metrics = score_answers(predicted, answers, sure)
    assert {metric.name: 100 * metric.value for metric in metrics} == pytest.approx(expected)
    assert metrics[0].name == "f1"
    for metric in metrics:
        assert metric.value == pytest.approx(np.mean(metric.per_example))
        assert metric.examples == len(metric.per_example)


def test_equally_sure_answers_go_or_stay_together():
    metrics = score_answers(["x", "y", "z"], [["x"], [], ["z"]], [0.5, 0.5, 0.9])
    values = {metric.name: metric.value for metric in metrics}
    assert values["exact_match"] == values["best_exact_match"] == pytest.approx(2 / 3)
    metrics = score_answers(["x", "y", "z"], [["x"], [], ["z"]], [0.5, 0.4, 0.9])
    assert {metric.name: metric.value for metric in metrics}["best_exact_match"] == 1.0


def test_answers_without_words_are_no_answers():
    assert best_exact("", ["the"]) == 1.0
    assert best_f1("Ada", ["the", "ada"]) == 1.0
    assert best_f1("the", ["Ada"]) == 0.0
