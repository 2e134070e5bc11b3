"""Question answering against a plain oracle: every span of every window, in Python loops."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dynbert
from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.tasks.question_answering import Answer, _score_words
from dynbert.tokenization import TextTokenizer
from tests.helpers.bundles import WORDS, make_bundle, make_tokenizer


def softmax(values):
    weights = np.exp(np.array(values, np.float64) - max(values))
    return weights / weights.sum()


def oracle(bundle, question, context, *, stride=None, max_answer_tokens=30, file="full.int8.onnx"):
    """Return (start, end) -> score of every answer, best window, by loops over spans; and the number of windows."""
    windows = TextTokenizer(make_tokenizer(), bundle.manifest.model).windows(question, context, stride=stride)
    best: dict[tuple[int, int], float] = {}
    for window in windows:
        ids = np.array([window.encoding.ids])
        outputs = bundle.expected(file, ids, types=np.array([window.encoding.type_ids]))
        kept = [0, *range(window.first, window.stop)]
        starts = softmax([outputs["start_logits"][0, index] for index in kept])[1:]
        ends = softmax([outputs["end_logits"][0, index] for index in kept])[1:]
        spans = [
            (starts[first] * ends[last], window.words[first][0], window.words[last][1])
            for first in range(len(starts))
            for last in range(first, min(first + max_answer_tokens, len(ends)))
        ]
        of_window: dict[tuple[int, int], float] = {}
        cut = sorted((score for score, _, _ in spans), reverse=True)[:12][-1]
        for score, start, end in spans:
            if score >= cut:
                of_window[start, end] = of_window.get((start, end), 0.0) + score
        for words, score in of_window.items():
            best[words] = max(score, best.get(words, 0.0))
    return best, len(windows)


def table_for(starts, ends):
    """Return logits by word: high starts and ends for the given words, 0 elsewhere."""
    table = np.zeros((len(WORDS), 2), np.float32)
    for column, favoured in enumerate((starts, ends)):
        for word, logit in favoured.items():
            table[WORDS.index(word), column] = logit
    return table


@pytest.fixture(scope="module")
def model(question_bundle):
    return dynbert.load(question_bundle.folder)


@pytest.mark.parametrize("profile", ["full", "fast"])
def test_answer_equals_the_oracle_when_context_is_short(model, question_bundle, profile):
    context = "Zoe wrote the good old book"
    answer = model(question="who wrote it", context=context, profile=profile)
    expected, windows = oracle(question_bundle, "who wrote it", context, file=f"{profile}.int8.onnx")
    assert windows == 1
    assert len(expected) > 3
    best = max(expected, key=expected.get)
    assert (answer.start, answer.end) == best
    assert answer.score == pytest.approx(expected[best], rel=1e-5)
    assert answer.text == context[answer.start : answer.end]
    assert 0.0 < answer.score < 1.0


TOKENS = ["the", "Zoé", "zoe\u0301", "Café", "😀", "plays", "running", "book.", "in", "Paris,", "naïve", "👩🏽‍🔬"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(TOKENS), min_size=1, max_size=40),
    st.sampled_from([" ", "  ", "\n", " \u3000"]),
    st.one_of(st.none(), st.integers(0, 9)),
    st.integers(1, 8),
)
def test_answer_is_the_exact_slice_and_equals_the_oracle(model, question_bundle, tokens, space, stride, longest):
    context = space.join(tokens)
    answer = model(question="who was it", context=context, stride=stride, max_answer_tokens=longest)
    assert answer.text == context[answer.start : answer.end] != ""
    expected, _ = oracle(question_bundle, "who was it", context, stride=stride, max_answer_tokens=longest)
    assert answer.score == pytest.approx(max(expected.values()), rel=1e-5)
    assert any(
        start == answer.start and end <= answer.end and score == pytest.approx(answer.score, rel=1e-5)
        for (start, end), score in expected.items()
    )


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ("In Paris was Zoe\u0301, 😀.", "Zoe\u0301"),  # the accent has no token, yet belongs to the word
        ("😀👩🏽‍🔬 Zoé was in Paris", "Zoé"),
        ("\u00a0ZOE wrote", "ZOE"),
    ],
)
def test_answer_has_offsets_into_the_original_text_when_it_is_unicode(tmp_path, context, text):
    bundle = make_bundle(tmp_path / "b", task=Task.QUESTION_ANSWERING, table=table_for({"zoe": 9}, {"zoe": 9}))
    answer = dynbert.load(bundle.folder)(question="who", context=context)
    assert answer.text == text
    assert unicodedata.normalize("NFC", context[answer.start : answer.end]) == unicodedata.normalize("NFC", text)


def test_answer_grows_to_whole_words_when_the_best_token_is_a_piece(tmp_path):
    bundle = make_bundle(tmp_path / "b", task=Task.QUESTION_ANSWERING, table=table_for({"##ing": 9}, {"##ing": 9}))
    answer = dynbert.load(bundle.folder)(question="what", context="the playing was good")
    assert answer.text == "playing"
    assert answer.score > 0.9


def test_answer_is_found_in_a_later_window_when_the_context_is_long(tmp_path):
    bundle = make_bundle(tmp_path / "b", task=Task.QUESTION_ANSWERING, table=table_for({"paris": 9}, {"tower": 9}))
    context = "the good old book was bad. " * 20 + "Paris tower" + " and the film" * 20
    model = dynbert.load(bundle.folder)
    for stride in (None, 0, 5, 9):
        answer = model(question="what was it", context=context, stride=stride)
        assert answer.text == "Paris tower"
        assert answer.start == context.index("Paris")


def test_answer_is_never_the_question_or_padding(tmp_path):
    favoured = {"[CLS]": 3, "[SEP]": 9, "[PAD]": 9, "who": 9, "book": 1, "was": -9, "the": -9}
    bundle = make_bundle(tmp_path / "b", task=Task.QUESTION_ANSWERING, table=table_for(favoured, favoured))
    model = dynbert.load(bundle.folder)
    answer = model(question="who", context="the book was")
    assert answer.text == "book"
    # CLS takes its share of the probability, as in Hugging Face's pipeline
    scale = bundle.scales["full.int8.onnx"]
    logits = np.array([3, 1, -9, -9]) * scale + [0, 0.25, 0.25, 0.25]
    assert answer.score == pytest.approx(softmax(logits)[1] ** 2, rel=1e-4)
    assert model(question="who", context="the book was " * 9, max_answer_tokens=1).text == "book"


def test_answer_respects_the_longest_span(tmp_path):
    bundle = make_bundle(tmp_path / "b", task=Task.QUESTION_ANSWERING, table=table_for({"paris": 5}, {"tower": 5}))
    model = dynbert.load(bundle.folder)
    context = "paris was the old tower"
    assert model(question="what", context=context).text == context
    assert len(model(question="what", context=context, max_answer_tokens=2).text.split()) <= 2


def test_answers_keep_order_when_lists_are_given(model):
    pairs = [("who", "zoe wrote it"), ("what", "the book was in paris"), ("who was it", "naive zoe")]
    answers = model(question=[pair[0] for pair in pairs], context=[pair[1] for pair in pairs])
    assert answers == [model(question=question, context=context) for question, context in pairs]
    assert len(set(answers)) == 3
    assert model(question=[], context=[]) == []


def test_answer_takes_a_length_config(model):
    context = "zoe wrote the book"
    assert model(question="who", context=context, length_config=(8, 4)).text in context
    assert isinstance(model(question="who", context=context, length_config=[0.9, 0.5]), Answer)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"question": "", "context": "a"}, "question must have at least one token"),
        ({"question": "who", "context": ""}, "context must have at least one token"),
        ({"question": "who", "context": "\u200b"}, "context must have at least one token"),
        ({"question": "who " * 13, "context": "a"}, "question must have at most 12 tokens to leave room"),
        ({"question": "who", "context": ["a"]}, "two strings or two lists of one length, got a string and a list of 1"),
        ({"question": ["who"], "context": ["a", "b"]}, "got a list of 1 and a list of 2"),
        ({"question": 5, "context": "a"}, "Texts must be a string or a list of strings, got int"),
        ({"question": "who", "context": "a", "stride": -1}, "stride must be a whole number of at least 0, got -1"),
        ({"question": "who", "context": "a", "stride": 1.5}, "stride must be a whole number of at least 0, got 1.5"),
        ({"question": "who", "context": "a " * 50, "stride": 12}, "stride must be less than the 12 tokens"),
        ({"question": "who", "context": "a", "max_answer_tokens": 0}, "max_answer_tokens must be a whole number"),
        ({"question": "who"}, r"must be called as model\(question=..., context=...\), got question"),
        ({"texts": "who"}, r"for question-answering must be called as model\(question=..., context=...\), got texts"),
        ({"question": "who", "context": "a", "truncate": True}, "got context, question, truncate"),
        ({}, "got no text"),
    ],
)
def test_call_names_rule_and_value_when_it_is_wrong(model, arguments, message):
    with pytest.raises(InputError, match=message):
        model(**arguments)


def test_score_words_finds_a_span_when_cls_takes_all_probability(question_bundle):
    [window] = TextTokenizer(make_tokenizer(), question_bundle.manifest.model).windows("who", "the book")
    logits = np.full(len(window.encoding.ids), -1000.0, np.float32)
    logits[0] = 1000.0
    words = _score_words(window, logits, logits, 30)
    assert words
    assert set(words.values()) == {0.0}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scores_equal_hugging_faces_pipeline_when_there_is_one_window(question_bundle):
    from transformers.pipelines.question_answering import QuestionAnsweringPipeline, select_starts_ends

    tokenizer = TextTokenizer(make_tokenizer(), question_bundle.manifest.model)
    random = np.random.default_rng(0)
    for context in ("Zoe was playing in Paris", "the running film, naive", "cafe"):
        [window] = tokenizer.windows("who was it", context)
        encoding = window.encoding
        mask = np.array([[1] * len(encoding.ids)])
        not_answer = [item != 1 for item in encoding.sequence_ids]
        not_answer[0] = False  # the pipeline keeps CLS
        for _ in range(20):
            starts, ends = random.normal(scale=3.0, size=(2, 1, len(encoding.ids))).astype(np.float32)
            firsts, lasts, scores, _ = select_starts_ends(
                starts.copy(), ends.copy(), np.array(not_answer), mask, top_k=12, max_answer_len=30
            )
            theirs: dict[tuple[int, int], float] = {}
            for first, last, score in zip(firsts, lasts, scores, strict=True):
                words = QuestionAnsweringPipeline.get_indices(None, encoding, first, last, 1, align_to_words=True)
                if first <= last:
                    theirs[words] = theirs.get(words, 0.0) + float(score)
            ours = _score_words(window, starts[0], ends[0], 30)
            assert ours
            assert max(ours, key=ours.get) == max(theirs, key=theirs.get)
            assert max(ours.values()) == pytest.approx(max(theirs.values()), rel=1e-4)
