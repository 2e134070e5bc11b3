"""Next sentence prediction: the probability that the second text follows the first."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dynbert
from dynbert import NextSentence
from dynbert.errors import InputError
from dynbert.manifest import Task
from tests.helpers.bundles import WORDS, make_bundle


def sigmoid(value):
    return 1.0 / (1.0 + math.exp(-value))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    # good says that it follows, bad that it does not; token types add the same to both logits.
    table = np.zeros((len(WORDS), 2), np.float32)
    table[WORDS.index("good"), 0] = 2.0
    table[WORDS.index("bad"), 1] = 3.0
    folder = tmp_path_factory.mktemp("next")
    return dynbert.load(make_bundle(folder, task=Task.NEXT_SENTENCE_PREDICTION, table=table).folder)


@pytest.mark.parametrize(
    ("pair", "is_next", "score"),
    [
        (("the book", "was good"), True, sigmoid(2)),
        (("the book", "was bad"), False, sigmoid(-3)),
        (("good", "bad"), False, sigmoid(-1)),
        (("good good", "bad"), True, sigmoid(1)),
        (("the", "book"), True, 0.5),
    ],
)
def test_pair_follows_with_the_probability_of_the_first_logit(model, pair, is_next, score):
    assert model(pair[0], text_pair=pair[1]) == NextSentence(is_next, pytest.approx(score, rel=1e-6))


def test_predictions_keep_order_when_lists_are_given(model):
    firsts, seconds = ["the", "the good old film", "bad"] * 12, ["bad", "was", "naive and running"] * 12
    results = model(firsts, text_pair=seconds)
    assert [result.is_next for result in results] == [False, True, False] * 12
    assert model([], text_pair=[]) == []
    fractions = model(firsts[:3], text_pair=seconds[:3], length_config=(0.5, 0.5))
    assert [result.is_next for result in fractions] == [False, True, False]


def test_long_pair_is_cut_when_told_to(model):
    # Room for 13 tokens: the longer text gives way.
    long = "good " * 12 + "bad " * 20
    assert model(long, text_pair="the old", truncate=True).score == pytest.approx(sigmoid(22), rel=1e-6)
    with pytest.raises(InputError, match=r"text and text_pair must have at most 13 tokens .*, got 34. .*trunc"):
        model(long, text_pair="the old")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "a"}, r"must be called as model\(texts, text_pair=...\), got texts. Options: batch_size, truncate"),
        ({"text_pair": "a"}, "got text_pair"),
        ({"texts": "a", "text_pair": ["a"]}, "texts and text_pair must be two strings or two lists of one length"),
        ({"texts": ["a"], "text_pair": ["a", "b"]}, "got a list of 1 and a list of 2"),
        ({"texts": "a", "text_pair": 5}, "Texts must be a string or a list of strings, got int"),
        ({"texts": "a", "text_pair": ""}, "text_pair must have at least one token, got ''"),
        ({"texts": ["a", " "], "text_pair": ["a", "a"]}, "text 1 must have at least one token, got ' '"),
    ],
)
def test_call_names_rule_and_value_when_it_is_wrong(model, arguments, message):
    with pytest.raises(InputError, match=message):
        model(**arguments)
