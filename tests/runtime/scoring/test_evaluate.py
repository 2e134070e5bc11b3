"""Evaluation of toy bundles: the scores are those of the bundle's own answers, asked for one by one."""

from __future__ import annotations

import numpy as np
import pytest

import dynbert
from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.scoring.evaluate import evaluate
from dynbert.scoring.examples import (
    AnswerSpan,
    ChoiceExample,
    LabelledData,
    PlainExample,
    QuestionExample,
    TextExample,
    WordsExample,
)
from dynbert.scoring.jobs import labels_of_words
from dynbert.scoring.metrics import score_classes, score_label_sets, score_numbers
from dynbert.scoring.retrieval import score_retrieval
from dynbert.tasks.token_classification import Word
from tests.helpers.bundles import ENTITY_LABELS, LABELS, WORDS, make_bundle

_SINGLE = "single_label_classification"
_PLAIN_WORDS = [word for word in WORDS if word.isalpha()]


def _texts(count, seed=0, longest=6):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(_PLAIN_WORDS, rng.integers(1, longest))) for _ in range(count)]


def _text_data(labels, *, names=(), problem_type=_SINGLE, pairs=None):
    texts = _texts(len(labels))
    pairs = pairs or [None] * len(labels)
    examples = tuple(TextExample(*parts) for parts in zip(texts, pairs, labels, strict=True))
    return LabelledData(Task.TEXT_CLASSIFICATION, examples, names, problem_type, "toy.csv")


def _values(scores):
    return {metric.name: metric.value for metric in scores.metrics}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return dynbert.load(make_bundle(tmp_path_factory.mktemp("texts"), task=Task.TEXT_CLASSIFICATION).folder)


@pytest.mark.parametrize("together", [7, 256])
def test_texts_with_one_label(classifier, monkeypatch, together):
    monkeypatch.setattr("dynbert.scoring.evaluate._TOGETHER", together)
    gold = np.random.default_rng(1).integers(0, 3, 40).tolist()
    data = _text_data(gold, names=LABELS)
    scores = evaluate(classifier, data, profile="fast")
    answered = [LABELS.index(classifier(example.text, profile="fast").label) for example in data.examples]
    assert len(set(answered)) == 3
    assert _values(scores) == _values_of(score_classes(gold, answered, classes=3))
    assert (scores.data, scores.profile, scores.examples) == ("toy.csv", "fast", 40)


def _values_of(metrics):
    return {metric.name: metric.value for metric in metrics}


def test_classes_of_data_and_bundle_meet_by_name(classifier):
    gold = np.random.default_rng(1).integers(0, 3, 30)
    there = evaluate(classifier, _text_data(gold.tolist(), names=LABELS))
    names = ("Positive", "NEGATIVE", "neutral")
    order = {"negative": 1, "neutral": 2, "positive": 0}
    mapped = [order[LABELS[label]] for label in gold]
    assert _values(evaluate(classifier, _text_data(mapped, names=names))) == _values(there)
    assert _values(evaluate(classifier, _text_data(gold.tolist(), names=("0", "1", "2")))) == _values(there)


def test_pairs_and_length_configs_reach_the_bundle(classifier):
    pairs = _texts(20, seed=5)
    data = _text_data([0, 1] * 10, names=LABELS, pairs=pairs)
    scores = evaluate(classifier, data, length_config=(0.5, 0.25))
    answered = [
        LABELS.index(classifier(example.text, text_pair=example.pair, length_config=(0.5, 0.25)).label)
        for example in data.examples
    ]
    assert _values(scores) == _values_of(score_classes([0, 1] * 10, answered, classes=3))
    assert scores.profile == "0.5,0.25"


def test_texts_with_several_labels(tmp_path):
    table = np.random.default_rng(7).normal(size=(len(WORDS), 3)).astype(np.float32) / 4
    problem = "multi_label_classification"
    bundle = make_bundle(tmp_path, task=Task.TEXT_CLASSIFICATION, problem_type=problem, table=table)
    model = dynbert.load(bundle.folder)
    gold = np.random.default_rng(2).integers(0, 2, (30, 3))
    data = _text_data([tuple(map(float, row)) for row in gold], names=LABELS, problem_type=problem)
    answered = np.array([[score >= 0.5 for score in model(example.text).scores.values()] for example in data.examples])
    assert 0.1 < answered.mean() < 0.9
    assert _values(evaluate(model, data)) == _values_of(score_label_sets(gold, answered))
    fewer = _text_data([tuple(map(float, row[1:])) for row in gold], names=LABELS[1:], problem_type=problem)
    expected = score_label_sets(gold * [0, 1, 1], answered)
    assert _values(evaluate(model, fewer)) == _values_of(expected)


@pytest.mark.parametrize("problem", ["regression", "ranking", None])
def test_numbers(tmp_path, problem):
    bundle = make_bundle(tmp_path, task=Task.TEXT_CLASSIFICATION, problem_type=problem, labels=("score",))
    model = dynbert.load(bundle.folder)
    gold = np.random.default_rng(3).random(25).round(1).tolist()
    data = _text_data(gold, problem_type="regression")
    answered = [model(example.text).score for example in data.examples]
    assert _values(evaluate(model, data)) == pytest.approx(_values_of(score_numbers(gold, answered)))


def test_a_ranker_is_judged_by_the_order_within_a_query_first(tmp_path):
    bundle = make_bundle(tmp_path, task=Task.TEXT_CLASSIFICATION, problem_type="ranking", labels=("score",))
    model = dynbert.load(bundle.folder)
    passages = _texts(12, seed=4)
    examples = tuple(
        TextExample("who wrote it" if number < 6 else "what was it", passage, float(number % 3 == 0))
        for number, passage in enumerate(passages)
    )
    data = LabelledData(Task.TEXT_CLASSIFICATION, examples, (), "ranking", "toy.csv")
    scores = evaluate(model, data)
    assert [metric.name for metric in scores.metrics] == ["ndcg@10", "mrr@10", "spearman", "pearson"]
    assert scores.metric("mrr@10").examples == 2


def test_questions(question_bundle):
    model = dynbert.load(question_bundle.folder)
    contexts = [text + " and the book was old" for text in _texts(20, seed=6, longest=20)]
    examples = []
    for number, context in enumerate(contexts):
        answer = model(question="who?", context=context)
        right = (AnswerSpan(answer.text, answer.start),) if number % 2 else ()
        examples.append(QuestionExample(str(number), "who?", context, right))
    data = LabelledData(Task.QUESTION_ANSWERING, tuple(examples), (), None, "toy.json")
    scores = evaluate(model, data)
    values = _values(scores)
    assert (values["exact_match"], values["answerable_exact_match"]) == (0.5, 1.0)
    assert values["best_f1"] >= 0.5
    assert len(scores.metric("f1").per_example) == 20


@pytest.mark.parametrize("longest", [6, 40])
def test_words_are_the_given_ones(tmp_path, longest):
    bundle = make_bundle(tmp_path, task=Task.TOKEN_CLASSIFICATION)
    model = dynbert.load(bundle.folder)
    rng = np.random.default_rng(8)
    examples, right = [], 0
    for text in _texts(30, seed=9, longest=longest):
        words = tuple(word + str(rng.choice(["", "s", "!", "?!"])) for word in text.split())
        answer = model(" ".join(words)).words
        # The oracle: of the bundle's words the one that starts where the given one does.
        starts = np.cumsum([0, *(len(word) + 1 for word in words)])[:-1]
        by_start = {word.start: word.label for word in answer}
        labels = [ENTITY_LABELS.index(by_start[start]) for start in starts.tolist()]
        if rng.random() < 0.5:
            right += 1
        else:
            labels[0] = (labels[0] + 1) % len(ENTITY_LABELS)
        examples.append(WordsExample(words, tuple(labels)))
    data = LabelledData(Task.TOKEN_CLASSIFICATION, tuple(examples), ENTITY_LABELS, None, "toy.conll")
    scores = evaluate(model, data)
    count = sum(len(example.words) for example in examples)
    assert scores.metric("word_accuracy").value == pytest.approx(1 - (30 - right) / count)
    assert 0 < scores.metric("entity_f1").value < 1


def test_labels_of_words_go_by_the_first_piece_and_are_silent_without_one():
    answered = [
        Word("U", "B-LOC", 1.0, 0, 1),
        Word(".", "I-LOC", 1.0, 1, 2),
        Word("N", "O", 1.0, 2, 3),
        Word("x", "B-PER", 1.0, 9, 10),
        Word(" [MASK]", "I-PER", 1.0, 10, 17),
    ]
    labels = labels_of_words(["U.N", "\u200b", "ye", "x", "[MASK]"], answered, silent="O")
    assert labels == ["B-LOC", "O", "O", "B-PER", "I-PER"]


def test_choices(tmp_path):
    model = dynbert.load(make_bundle(tmp_path, task=Task.MULTIPLE_CHOICE).folder)
    examples = []
    for number, text in enumerate(_texts(12, seed=10)):
        choices = _texts(2 + number % 3, seed=20 + number)
        label = model(text, choices=choices).index
        examples.append(ChoiceExample(text, tuple(choices), label if number % 4 else (label + 1) % len(choices)))
    data = LabelledData(Task.MULTIPLE_CHOICE, tuple(examples), (), None, "toy.csv")
    assert _values(evaluate(model, data)) == {"accuracy": 0.75}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    return dynbert.load(make_bundle(tmp_path_factory.mktemp("embeddings")).folder)


def test_similar_texts(embedder):
    first, second, gold = _texts(25, seed=11), _texts(25, seed=12), np.random.default_rng(13).random(25).tolist()
    examples = tuple(PlainExample(*parts) for parts in zip(first, second, gold, strict=True))
    data = LabelledData(Task.FEATURE_EXTRACTION, examples, (), None, "toy.tsv")
    cosines = [
        float(embedder.encode(one, profile="fast") @ embedder.encode(other, profile="fast"))
        for one, other in zip(first, second, strict=True)
    ]
    expected = _values_of(score_numbers(gold, cosines))
    assert _values(evaluate(embedder, data, profile="fast")) == pytest.approx(expected, abs=1e-6)


def _retrieval_expected(embedder, pairs):
    queries = sorted({query for query, _ in pairs})
    passages = list(dict.fromkeys(passage for _, passage in pairs))
    relevant = [[passages.index(passage) for query, passage in pairs if query == asked] for asked in queries]
    return score_retrieval(embedder.encode(queries), embedder.encode(passages), relevant)


def test_passages_are_found_among_all_of_the_data(embedder):
    pairs = [("who wrote it", text) for text in _texts(3, seed=14)]
    pairs += [("what was it", text) for text in _texts(2, seed=15)]
    pairs += list(zip(_texts(15, seed=16), _texts(15, seed=17), strict=True))
    expected = _values_of(_retrieval_expected(embedder, pairs))
    data = LabelledData(
        Task.FEATURE_EXTRACTION, tuple(PlainExample(*pair, None) for pair in pairs), (), None, "toy.tsv"
    )
    assert _values(evaluate(embedder, data)) == pytest.approx(expected)
    questions = tuple(
        QuestionExample(str(number), *pair, (AnswerSpan(pair[1], 0),)) for number, pair in enumerate(pairs)
    )
    unanswered = QuestionExample("x", "who was zoe", "the tower", ())
    asked = LabelledData(Task.QUESTION_ANSWERING, (*questions, unanswered), (), None, "toy.json")
    assert _values(evaluate(embedder, asked)) == pytest.approx(expected)


def _data(task, example, names=(), problem_type=None):
    return LabelledData(task, (example,), names, problem_type, "toy.csv")


_TEXT = Task.TEXT_CLASSIFICATION


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            _data(Task.MULTIPLE_CHOICE, ChoiceExample("a", ("b", "c"), 0)),
            r"must be for text-classification as the bundle, got multiple-choice in toy.csv",
        ),
        (
            _data(_TEXT, TextExample("a", None, 1.5), problem_type="regression"),
            r"must be for single_label_classification as the bundle, got regression in .* problem_type single",
        ),
        (
            _data(_TEXT, TextExample("a", None, 0), ("bad", "good"), _SINGLE),
            r"must have the bundle's labels negative, neutral, positive, got bad, good in toy.csv. Load it with",
        ),
        (_data(_TEXT, TextExample("a", None, 0), ("Negative", "negative"), _SINGLE), "must have the bundle's labels"),
        (_data(_TEXT, TextExample("a " * 40, None, 0), LABELS, _SINGLE), r"must have at most 14 tokens .*--truncate"),
    ],
)
def test_data_that_does_not_suit_the_bundle_is_refused(classifier, data, message):
    with pytest.raises(InputError, match=message):
        evaluate(classifier, data)


def test_a_fault_in_long_data_says_where(classifier, monkeypatch):
    monkeypatch.setattr("dynbert.scoring.evaluate._TOGETHER", 2)
    long = TextExample("a " * 40, None, 0)
    data = LabelledData(_TEXT, (*_text_data([0, 1, 0]).examples, long), LABELS, _SINGLE, "toy.csv")
    with pytest.raises(InputError, match=r"From input 2 of toy.csv on: text 1 must have at most 14 tokens"):
        evaluate(classifier, data)
    assert evaluate(classifier, data, truncate=True).examples == 4


def test_bundles_and_data_without_a_metric_are_refused(embedder, tmp_path):
    data = _data(Task.FEATURE_EXTRACTION, PlainExample("a", None, None))
    with pytest.raises(
        InputError, match=r"must have pairs of texts to evaluate embeddings, got single texts in toy.csv"
    ):
        evaluate(embedder, data)
    model = dynbert.load(make_bundle(tmp_path, task=Task.FILL_MASK).folder)
    with pytest.raises(InputError, match=r"must be for one of text-classification, .*, got one for fill-mask"):
        evaluate(model, data)
