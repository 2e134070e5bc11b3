"""Multiple choice: the softmax over choices, each of which runs as a row of its own."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dynbert
from dynbert import Choice
from dynbert.errors import InputError
from dynbert.manifest import Task
from tests.helpers.bundles import WORDS, make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    table = np.zeros((len(WORDS), 1), np.float32)
    for word, logit in (("good", 1.0), ("old", 0.5), ("bad", -1.0), ("[SEP]", -0.5)):
        table[WORDS.index(word)] = logit
    return make_bundle(tmp_path_factory.mktemp("choice"), task=Task.MULTIPLE_CHOICE, table=table)


@pytest.fixture(scope="module")
def model(bundle):
    return dynbert.load(bundle.folder)


def test_best_choice_has_the_softmax_over_all(model):
    result = model("the film was", choices=["bad", "good", "old"])
    # Every row has the same first text, and as many tokens of each type.
    weights = [math.exp(-1), math.exp(1), math.exp(0.5)]
    expected = [weight / sum(weights) for weight in weights]
    assert result == Choice(1, "good", pytest.approx(expected[1]), pytest.approx(tuple(expected)))
    assert result.scores[result.index] == result.score
    assert sum(result.scores) == pytest.approx(1.0)


def test_one_choice_is_certain_and_the_first_of_equals_is_taken(model):
    assert model("the", choices=("bad",)) == Choice(0, "bad", 1.0, (1.0,))
    assert model("the", choices=["book", "film"]) == Choice(0, "book", 0.5, (0.5, 0.5))


def test_choices_of_several_texts_keep_order_and_may_differ_in_number(model):
    texts = ["the film was", "it was the", "naive"]
    choices = [["bad", "good film of paris"], ["old book"], ["a", "good", "bad", "running"]]
    results = model(texts, choices=choices)
    assert [result.text for result in results] == ["good film of paris", "old book", "good"]
    assert [len(result.scores) for result in results] == [2, 1, 4]
    assert results == [model(text, choices=of_text) for text, of_text in zip(texts, choices, strict=True)]
    assert model([], choices=[]) == []
    many = model(texts * 9, choices=choices * 9)  # more than one batch
    assert [(result.index, pytest.approx(result.score)) for result in many] == [
        (result.index, result.score) for result in results
    ] * 9


def test_choices_are_not_padded_to_each_other_under_fractions(model, fed_shapes):
    model("the", choices=["good", "good old", "bad old", "bad"], length_config=(0.5, 0.5))
    assert fed_shapes == [((2, 1, 6), False), ((2, 1, 5), False)]


def test_run_takes_and_gives_all_choices_of_an_example(model, bundle):
    ids = np.random.default_rng(0).integers(4, len(WORDS), (2, 3, 6))
    mask = np.ones_like(ids)
    mask[0, 1, 4:] = 0
    outputs = model.run({"input_ids": ids, "attention_mask": mask})
    expected = bundle.expected("full.int8.onnx", ids, mask=mask)
    assert outputs["logits"].shape == (2, 3)
    np.testing.assert_allclose(outputs["logits"], expected["logits"], rtol=1e-5, atol=1e-6)
    lengths = (3, 2)  # fractions of the tokens, which are the last axis
    outputs = model.run({"input_ids": ids}, length_config=(0.5, 0.25))
    expected = bundle.expected("anytime.int8.onnx", ids, lengths=lengths)
    np.testing.assert_allclose(outputs["logits"], expected["logits"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "a"}, r"must be called as model\(texts, choices=\[...\]\), got texts"),
        ({"texts": "a", "choices": []}, "choices must have at least one choice for each text, got none"),
        ({"texts": ["a"], "choices": [[]]}, "choices must have at least one choice for each text, got none"),
        ({"texts": "a", "choices": "good"}, "choices must be a list of strings, got str"),
        ({"texts": "a", "choices": [["good"]]}, "choice 0 must be a string, got list."),
        ({"texts": "a", "choices": ["good", None]}, "choice 1 must be a string, got NoneType."),
        ({"texts": ["a", "b"], "choices": [["good"], ["bad", 7]]}, "choice 1 of text 1 must be a string, got int."),
        ({"texts": "a", "choices": {"good": 1}}, "choices must be a list of strings, got dict."),
        ({"texts": ["a"], "choices": [{"good": 1}]}, "a list of lists for a list of texts, got dict in it."),
        ({"texts": ["a"], "choices": ["good"]}, "choices must be a list of lists for a list of texts, got str in it"),
        ({"texts": ["a", "a"], "choices": [["good"]]}, "choices must be a list of 2 lists, one a text, got 1"),
        ({"texts": "a", "choices": ["good", ""]}, "choice 1 must have at least one token, got ''"),
        (
            {"texts": ["a", "a"], "choices": [["good"], ["bad", " "]]},
            "choice 1 of text 1 must have at least one token, got ' '",
        ),
        ({"texts": "", "choices": ["good"]}, "text must have at least one token"),
        (
            {"texts": "a " * 12, "choices": ["good", "good film"]},
            "text and choice 1 must have at most 13 tokens together .*, got 14",
        ),
    ],
)
def test_call_names_rule_and_value_when_it_is_wrong(model, arguments, message):
    with pytest.raises(InputError, match=message):
        model(**arguments)


def test_long_choice_is_cut_when_told_to(model):
    result = model("the " * 6, choices=["good " * 7 + "bad " * 90, "good " * 6], truncate=True)
    assert result.index == 0
