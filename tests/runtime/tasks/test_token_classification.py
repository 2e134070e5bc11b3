"""Token classification: labels of words by their pieces, entities by their words, windows over long texts."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dynbert
from dynbert import Aggregation, Entity, TokenLabels, Word
from dynbert.errors import BundleError, InputError
from dynbert.manifest import Task
from dynbert.tasks.base import TaskContext, softmax
from dynbert.tasks.token_classification import _aggregate, _group_words, label_tokens
from dynbert.tokenization import TextTokenizer
from tests.helpers.bundles import ENTITY_LABELS, WORDS, make_bundle, make_tokenizer

O, B_PER, I_PER, B_LOC, I_LOC = range(5)  # noqa: E741 - the label's name
SURE = math.exp(9) / (math.exp(9) + 4)
"""Probability of a label with the logit 9 among four with 0."""


def table_for(labels):
    """Return logits by word: 9 for its label, ``O`` for words that are not given."""
    table = np.zeros((len(WORDS), 5), np.float32)
    for row, word in enumerate(WORDS):
        table[row, labels.get(word, O)] = 9.0
    return table


@pytest.fixture(scope="module")
def named_bundle(tmp_path_factory):
    labels = {"zoe": B_PER, "naive": I_PER, "paris": B_LOC, "old": B_LOC, "tower": I_LOC, "##s": O}
    folder = tmp_path_factory.mktemp("named")
    return make_bundle(folder, task=Task.TOKEN_CLASSIFICATION, table=table_for(labels))


@pytest.fixture(scope="module")
def model(named_bundle):
    return dynbert.load(named_bundle.folder)


def test_words_and_entities_have_exact_labels_scores_and_characters(model):
    text = "Zoé, naïve, was in the Old Tower  of Paris!"
    result = model(text)
    assert isinstance(result, TokenLabels)
    assert [(word.text, word.label) for word in result.words] == [
        ("Zoé", "B-PER"), (",", "O"), ("naïve", "I-PER"), (",", "O"), ("was", "O"), ("in", "O"), ("the", "O"),
        ("Old", "B-LOC"), ("Tower", "I-LOC"), ("of", "O"), ("Paris", "B-LOC"), ("!", "O"),
    ]  # fmt: skip
    assert [(entity.text, entity.label, entity.start, entity.end) for entity in result.entities] == [
        ("Zoé", "PER", 0, 3), ("naïve", "PER", 5, 10), ("Old Tower", "LOC", 23, 32), ("Paris", "LOC", 37, 42),
    ]  # fmt: skip
    for item in (*result.words, *result.entities):
        assert item.text == text[item.start : item.end]
        assert item.score == pytest.approx(SURE, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("In Zoe\u0301 was", "Zoe\u0301"),  # the accent has no token, yet belongs to the word
        ("In Zoe\u0301, was", "Zoe\u0301"),
        ("😀👩🏽‍🔬 ZOE\u0301s", "ZOE\u0301s"),  # two pieces with an accent between
        ("\u00a0zoe", "zoe"),
    ],
)
def test_word_keeps_the_marks_that_the_normaliser_drops(model, text, word):
    [found] = [item for item in model(text).words if item.label == "B-PER"]
    assert found.text == text[found.start : found.end] == word
    assert [entity.text for entity in model(text).entities] == [word]


PIECES = {"play": [2.0, 0.0, 0.0, 0.0, 0.0], "##ing": [0.0, 3.0, 0.0, 0.0, 0.0], "##s": [0.0, 0.0, 0.0, 0.0, 1.0]}


def score(*logits):
    """Return the probability of the first of five logits, the rest being 0."""
    weights = [math.exp(logit) for logit in logits] + [1.0] * (5 - len(logits))
    return weights[0] / sum(weights)


@pytest.mark.parametrize(
    ("aggregation", "label", "expected"),
    [
        (None, "O", score(2)),
        ("first", "O", score(2)),
        (Aggregation.FIRST, "O", score(2)),
        ("max", "B-PER", score(3)),
        ("average", "B-PER", (score(3) + score(0, 2) + score(0, 1)) / 3),
    ],
)
def test_pieces_decide_on_the_word_by_the_aggregation(tmp_path, aggregation, label, expected):
    table = np.zeros((len(WORDS), 5), np.float32)
    for piece, logits in PIECES.items():
        table[WORDS.index(piece)] = logits
    bundle = make_bundle(tmp_path / "bundle", task=Task.TOKEN_CLASSIFICATION, table=table)
    [word] = dynbert.load(bundle.folder)("playings", aggregation=aggregation).words
    assert (word.text, word.label, word.start, word.end) == ("playings", label, 0, 8)
    assert word.score == pytest.approx(expected, rel=1e-6)


def group(*labels):
    """Return the entities of words named by their place, each with the score 1 / (place + 1)."""
    text = " ".join(str(place) for place in range(len(labels)))
    words = [Word(str(place), label, 1 / (place + 1), 2 * place, 2 * place + 1) for place, label in enumerate(labels)]
    return [(entity.text, entity.label) for entity in _group_words(text, words)]


@pytest.mark.parametrize(
    ("labels", "entities"),
    [
        ([], []),
        (["O", "O"], []),
        (["B-PER"], [("0", "PER")]),
        (["I-PER"], [("0", "PER")]),  # an I- without a B- starts one too
        (["B-PER", "I-PER", "I-PER"], [("0 1 2", "PER")]),
        (["B-PER", "B-PER"], [("0", "PER"), ("1", "PER")]),
        (["I-PER", "B-PER", "I-PER"], [("0", "PER"), ("1 2", "PER")]),
        (["B-PER", "I-LOC"], [("0", "PER"), ("1", "LOC")]),
        (["B-PER", "O", "I-PER"], [("0", "PER"), ("2", "PER")]),
        (["NOUN", "NOUN", "VERB", "NOUN"], [("0 1", "NOUN"), ("2", "VERB"), ("3", "NOUN")]),
        (["PER", "I-PER", "B-PER", "PER"], [("0 1", "PER"), ("2 3", "PER")]),
        (["I-O", "B-O"], []),
        (["B-WORK-OF-ART", "I-WORK-OF-ART"], [("0 1", "WORK-OF-ART")]),
        (["LABEL_0", "LABEL_1", "LABEL_1"], [("0", "LABEL_0"), ("1 2", "LABEL_1")]),
    ],
)
def test_words_are_grouped_by_their_prefixes(labels, entities):
    assert group(*labels) == entities


def test_entity_has_the_mean_of_its_words_scores_and_all_between_them():
    words = [Word("old", "B-LOC", 0.5, 4, 7), Word("tower", "I-LOC", 0.9, 10, 15)]
    [entity] = _group_words("the old\n\t tower", words)
    assert entity == Entity("old\n\t tower", "LOC", pytest.approx(0.7), 4, 15)


def context_of(tokenizer_model, run):
    tokenizer = TextTokenizer(make_tokenizer(), tokenizer_model)
    return TaskContext(tokenizer_model, tokenizer, run)


def label_with_stride(task, text, stride):
    return label_tokens(task, text, aggregation=Aggregation.FIRST, stride=stride, batch_size=8)


def positions_run(inputs):
    """Return logits that tell the position in the row: 0.1 times it for B-PER."""
    ids = inputs["input_ids"]
    logits = np.zeros((*ids.shape, len(ENTITY_LABELS)), np.float32)
    logits[..., B_PER] = 0.1 * np.arange(ids.shape[1])
    return {"logits": logits}


def row_positions(result):
    """Return which position in its row answered each word, from its score."""
    return [
        round(10 * math.log(4 * word.score / (1 - word.score))) if word.label == "B-PER" else 0 for word in result.words
    ]


def test_word_is_answered_by_the_window_where_it_lies_farthest_from_an_edge(named_bundle):
    task = context_of(named_bundle.manifest.model, positions_run)
    result = label_with_stride(task, " ".join(["the"] * 30), 4)
    # Windows of 14 tokens start at 0, 10 and 20; the one more is CLS.
    assert row_positions(result) == [
        *(word + 1 for word in range(12)),
        *(word - 10 + 1 for word in range(12, 22)),
        *(word - 20 + 1 for word in range(22, 30)),
    ]


def test_word_is_answered_by_the_window_that_knows_more_around_it_when_windows_overlap_by_nearly_all(named_bundle):
    task = context_of(named_bundle.manifest.model, positions_run)
    result = label_with_stride(task, " ".join(["the"] * 15), 13)
    # Two windows, at 0 and 1: half of the words are nearer to the start of the second than to the end of the first.
    assert row_positions(result) == [*(word + 1 for word in range(8)), *range(8, 15)]


@pytest.mark.parametrize(("stride", "position"), [(0, 14), (1, 1), (2, 2)])
def test_word_is_answered_by_the_window_that_has_most_of_its_pieces(named_bundle, stride, position):
    task = context_of(named_bundle.manifest.model, positions_run)
    text = "the " * 13 + "playing was"  # the first window's last token is play
    result = label_with_stride(task, text, stride)
    assert [word.text for word in result.words] == text.split()
    assert row_positions(result)[13] == position


@pytest.fixture(scope="module")
def short_and_long(tmp_path_factory):
    """Return one model twice: with room for 14 tokens and for 510."""
    folders = [tmp_path_factory.mktemp(name) for name in ("short", "long")]
    lengths = (16, 512)
    return [
        dynbert.load(make_bundle(folder, task=Task.TOKEN_CLASSIFICATION, max_length=length).folder)
        for folder, length in zip(folders, lengths, strict=True)
    ]


PARTS = ["the", "Zoé", "zoe\u0301", "Café", "😀", "plays", "runners", "book.", "in", "Paris,", "naïve", "👩🏽‍🔬"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=60),
    st.sampled_from([" ", "  ", "\n", " \u3000"]),
    st.one_of(st.none(), st.integers(2, 13)),  # a word has three pieces at most
    st.sampled_from(list(Aggregation)),
)
def test_windows_give_what_one_window_gives(short_and_long, parts, space, stride, aggregation):
    short, long = short_and_long
    text = space.join(parts)
    result = short(text, stride=stride, aggregation=aggregation)
    expected = long(text, aggregation=aggregation)
    for field in ("words", "entities"):
        ours, theirs = getattr(result, field), getattr(expected, field)
        assert [(item.text, item.label, item.start) for item in ours] == [
            (item.text, item.label, item.start) for item in theirs
        ]
        np.testing.assert_allclose([item.score for item in ours], [item.score for item in theirs], rtol=1e-6)
    starts = [word.start for word in result.words]
    assert starts == sorted(set(starts))
    assert all(item.text == text[item.start : item.end] != "" for item in (*result.words, *result.entities))
    assert "".join(word.text for word in result.words) == "".join(text.split())


def test_labels_keep_order_when_a_list_is_given(model):
    texts = ["Zoe was in Paris", "the old tower " * 20, "bad"]
    results = model(texts)
    assert [[entity.label for entity in result.entities] for result in results] == [["PER", "LOC"], ["LOC"] * 20, []]
    assert results == [model(text) for text in texts]
    assert model([]) == []


def test_labels_take_a_length_config(model):
    for config in ((9, 4), [0.9, 0.5]):
        assert len(model(["Zoe was in Paris", "the old tower " * 9], length_config=config)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": ""}, "text must have at least one token, got ''"),
        ({"texts": ["a", "\u200b"]}, "text 1 must have at least one token"),
        ({"texts": 5}, "Texts must be a string or a list of strings, got int"),
        ({"texts": "a", "aggregation": "simple"}, "aggregation must be one of first, average, max, got 'simple'"),
        ({"texts": "a", "aggregation": 5}, "aggregation must be one of first, average, max, got 5"),
        ({"texts": "a", "stride": -1}, "stride must be a whole number of at least 0, got -1"),
        ({"texts": "a " * 30, "stride": 14}, "stride must be less than the 14 tokens that fit into one window, got 14"),
        ({"texts": "a", "truncate": True}, r"must be called as model\(texts\), got texts, truncate. Options: agg"),
        ({"stride": 3}, r"must be called as model\(texts\), got stride"),
    ],
)
def test_call_names_rule_and_value_when_it_is_wrong(model, arguments, message):
    with pytest.raises(InputError, match=message):
        model(**arguments)


def test_call_blames_the_bundle_when_labels_and_logits_differ(tmp_path):
    table = np.zeros((len(WORDS), 4), np.float32)
    bundle = make_bundle(tmp_path / "bundle", task=Task.TOKEN_CLASSIFICATION, table=table, has_probe=False)
    with pytest.raises(BundleError, match="must have one logit for each of 5 labels, got 4"):
        dynbert.load(bundle.folder)("the book")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_words_and_entities_equal_hugging_faces_pipeline(aggregation):
    from types import SimpleNamespace

    from transformers.pipelines.token_classification import AggregationStrategy, TokenClassificationPipeline

    pipeline = object.__new__(TokenClassificationPipeline)
    pipeline.model = SimpleNamespace(config=SimpleNamespace(id2label=dict(enumerate(ENTITY_LABELS))))
    pipeline.tokenizer = SimpleNamespace(convert_tokens_to_string=" ".join)
    random = np.random.default_rng(0)
    for _ in range(200):
        count = int(random.integers(1, 12))
        is_piece = random.random(count) < 0.4
        is_piece[0] = False
        probabilities = softmax(random.normal(scale=2.0, size=(count, 5)))
        tokens = [
            {"word": "x", "scores": row, "start": 2 * place, "end": 2 * place + 1, "index": place, "is_subword": piece}
            for place, (row, piece) in enumerate(zip(probabilities, is_piece, strict=True))
        ]
        theirs = pipeline.aggregate(tokens, AggregationStrategy(aggregation.value))
        bounds = [*np.flatnonzero(~is_piece).tolist(), count]
        words = []
        for first, stop in pairwise(bounds):
            scores = _aggregate(probabilities[first:stop], aggregation)
            words.append(Word("", ENTITY_LABELS[scores.argmax()], scores.max(), 2 * first, 2 * stop - 1))
        ours = _group_words("x" * 2 * count, words)
        assert [(item.label, item.start, item.end, pytest.approx(item.score)) for item in ours] == [
            (item["entity_group"], item["start"], item["end"], item["score"])
            for item in theirs
            if item["entity_group"] != "O"
        ]
