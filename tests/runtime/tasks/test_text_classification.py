"""Text classification: labels and scores by problem type."""

from __future__ import annotations

import numpy as np
import pytest

import dynbert
from dynbert.errors import BundleError, InputError
from dynbert.manifest import Task
from tests.helpers.bundles import LABELS, WORDS, make_bundle

TEXT = "the good film"
IDS = np.array([[2, *(WORDS.index(word) for word in TEXT.split()), 3]])


def bundle_of(tmp_path, **changes):
    return make_bundle(tmp_path / "bundle", task=Task.TEXT_CLASSIFICATION, **changes)


def test_classification_is_the_softmax_when_one_label_applies(classification_bundle):
    result = dynbert.load(classification_bundle.folder)(TEXT)
    logits = classification_bundle.expected("full.int8.onnx", IDS)["logits"][0].astype(float)
    expected = np.exp(logits) / np.exp(logits).sum()
    assert tuple(result.scores) == LABELS
    np.testing.assert_allclose(list(result.scores.values()), expected, rtol=1e-5)
    assert result.label == LABELS[int(expected.argmax())]
    assert result.score == result.scores[result.label] == max(result.scores.values())
    assert sum(result.scores.values()) == pytest.approx(1.0)


def test_classification_is_a_sigmoid_each_when_several_labels_apply(tmp_path):
    bundle = bundle_of(tmp_path, problem_type="multi_label_classification")
    result = dynbert.load(bundle.folder)(TEXT)
    logits = bundle.expected("full.int8.onnx", IDS)["logits"][0].astype(float)
    np.testing.assert_allclose(list(result.scores.values()), 1.0 / (1.0 + np.exp(-logits)), rtol=1e-5)


@pytest.mark.parametrize(("labels", "problem_type"), [(("stars",), None), (LABELS, "regression")])
def test_classification_is_the_bare_value_when_regression(tmp_path, labels, problem_type):
    bundle = bundle_of(tmp_path, labels=labels, problem_type=problem_type)
    result = dynbert.load(bundle.folder)(TEXT)
    logits = bundle.expected("full.int8.onnx", IDS)["logits"][0]
    np.testing.assert_allclose(list(result.scores.values()), logits, rtol=1e-5)
    assert tuple(result.scores) == labels


@pytest.mark.parametrize("label", ["LABEL_0", "relevance"])
def test_ranking_gives_the_logit_of_each_pair_in_the_order_of_the_pairs(tmp_path, label):
    table = np.zeros((len(WORDS), 1), np.float32)
    for word, logit in (("good", 40.0), ("book", 50.0), ("bad", -30.0)):
        table[WORDS.index(word)] = logit
    bundle = bundle_of(tmp_path, table=table, labels=(label,), problem_type="ranking")
    passages = ["the film was bad", "a good book", "a good film", "of paris"]
    results = dynbert.load(bundle.folder)(["what was good"] * 4, text_pair=passages)
    steps = 0.25 * np.array([5, 4, 4, 3])  # the toy's step for each token of the second text, [SEP] included
    expected = np.array([40 - 30, 40 + 90, 40 + 40, 40]) + steps
    assert [list(result.scores) for result in results] == [[label]] * 4
    assert [result.label for result in results] == [label] * 4
    assert [result.score for result in results] == pytest.approx(expected)
    assert [result.scores[label] for result in results] == [result.score for result in results]


def test_one_label_of_several_keeps_its_sigmoid(tmp_path):
    # What bundles say of a reranker that were exported before there was ranking.
    bundle = bundle_of(tmp_path, labels=("relevance",), problem_type="multi_label_classification")
    result = dynbert.load(bundle.folder)(TEXT)
    logit = float(bundle.expected("full.int8.onnx", IDS)["logits"][0, 0])
    assert result.score == pytest.approx(1.0 / (1.0 + np.exp(-logit)))


def test_classification_does_not_overflow_when_logits_are_large(tmp_path):
    table = np.full((len(WORDS), 3), -1e4, np.float32)
    table[:, 1] = 1e4
    for problem_type in ("multi_label_classification", "single_label_classification"):
        bundle = bundle_of(tmp_path / problem_type, table=table, problem_type=problem_type)
        assert dynbert.load(bundle.folder)(TEXT).scores == {"negative": 0.0, "neutral": 1.0, "positive": 0.0}


def test_classifications_keep_order_and_ignore_padding_when_a_list_is_given(classification_bundle):
    model = dynbert.load(classification_bundle.folder)
    texts = ["the good film", "bad", "the old book was naive. running in paris"] * 15  # more than one batch
    results = model(texts)
    assert len(results) == 45
    for text, result in zip(texts[:3], results[-3:], strict=True):
        alone = model(text)
        assert alone.label == result.label
        assert alone.score == pytest.approx(result.score, rel=1e-5)
    assert len({result.score for result in results}) > 1
    assert model([]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": ""}, "text must have at least one token, got ''"),
        ({"texts": ["good", " "]}, "text 1 must have at least one token, got ' '"),
        ({"texts": "good " * 15}, "text must have at most 14 tokens .*, got 15.*truncate=True"),
        ({"texts": 7}, "Texts must be a string or a list of strings, got int"),
        ({"texts": ["good", 7]}, "text 1 must be a string, got int."),
        (
            {"question": "a", "context": "b"},
            r"for text-classification must be called as model\(texts\), got context, q",
        ),
        ({"texts": "a", "stride": 2}, "got stride, texts"),
        ({}, "got no text"),
    ],
)
def test_call_names_rule_and_value_when_it_is_wrong(classification_bundle, arguments, message):
    with pytest.raises(InputError, match=message):
        dynbert.load(classification_bundle.folder)(**arguments)


def test_long_text_is_cut_when_told_to(classification_bundle):
    model = dynbert.load(classification_bundle.folder)
    assert model("good " * 40, truncate=True) == model("good " * 14)


def test_encode_says_what_the_bundle_does_when_it_makes_no_embeddings(classification_bundle):
    message = "encode needs a bundle for feature-extraction, got one for text-classification"
    with pytest.raises(InputError, match=message):
        dynbert.load(classification_bundle.folder).encode("good")


def test_labels_are_numbered_when_the_checkpoint_names_none(tmp_path):
    bundle = bundle_of(tmp_path)
    from msgspec.structs import replace

    from dynbert.model import DynamicBert

    manifest = replace(bundle.manifest, model=replace(bundle.manifest.model, labels=()))
    result = DynamicBert(bundle.folder, manifest)(TEXT)
    assert tuple(result.scores) == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "b")}, "The graph must have one logit for each of 2 labels, got 3."),
        (
            {"problem_type": "sorting"},
            (
                "problem_type must be one of single_label_classification, multi_label_classification, regression, "
                "ranking, got 'sorting'. Export the bundle again."
            ),
        ),
    ],
)
def test_call_blames_the_bundle_when_its_facts_do_not_fit_its_graph(tmp_path, changes, message):
    from msgspec.structs import replace

    from dynbert.model import DynamicBert

    bundle = bundle_of(tmp_path)
    manifest = replace(bundle.manifest, model=replace(bundle.manifest.model, **changes))
    with pytest.raises(BundleError) as info:
        DynamicBert(bundle.folder, manifest)(TEXT)
    assert str(info.value) == message


def test_pair_is_classified_as_one_row_with_two_types(classification_bundle):
    model = dynbert.load(classification_bundle.folder)
    result = model("the good film", text_pair="was bad")
    pair = [2, *(WORDS.index(word) for word in ["the", "good", "film"]), 3, WORDS.index("was"), WORDS.index("bad"), 3]
    types = np.array([[0] * 5 + [1] * 3])
    logits = classification_bundle.expected("full.int8.onnx", np.array([pair]), types=types)["logits"][0].astype(float)
    np.testing.assert_allclose(list(result.scores.values()), np.exp(logits) / np.exp(logits).sum(), rtol=1e-5)
    assert result != model("the good film was bad")


def test_pairs_keep_order_when_lists_are_given(classification_bundle):
    model = dynbert.load(classification_bundle.folder)
    firsts, seconds = ["good", "the old book was", "bad"] * 15, ["the film was", "naive", "it"] * 15
    results = model(firsts, text_pair=seconds)
    assert len(results) == 45
    for first, second, result in zip(firsts[:3], seconds[:3], results[-3:], strict=True):
        assert model(first, text_pair=second).score == pytest.approx(result.score, rel=1e-5)
    assert model([], text_pair=[]) == []


def test_long_pair_is_cut_from_its_longer_text_when_told_to(classification_bundle):
    model = dynbert.load(classification_bundle.folder)
    cut = model("good " * 40, text_pair="the book", truncate=True)
    assert cut == model("good " * 11, text_pair="the book")
    with pytest.raises(InputError, match=r"text and text_pair must have at most 13 tokens together .*, got 42"):
        model("good " * 40, text_pair="the book")
    with pytest.raises(InputError, match="texts and text_pair must be two strings or two lists of one length"):
        model(["good", "bad"], text_pair=["the"])
    with pytest.raises(InputError, match="text_pair 1 must have at least one token"):
        model(["good", "bad"], text_pair=["the", ""])
