"""Tiny checkpoints and small files of labelled data, one of each task that can be trained."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dynbert.manifest import Task
from tests.helpers.checkpoints import make_checkpoint

_GOOD = ("good", "great", "new")
_BAD = ("bad", "old", "small")
_FILLERS = ("the", "city", "was", "and", "a", "story", "about", "river", "at", "night", "food", "service")


def _sentence(generator, word):
    words = list(generator.choice(_FILLERS, size=generator.integers(4, 14)))
    words.insert(int(generator.integers(len(words))), word)
    return " ".join(words)


def _write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_texts(path, *, rows=96, seed=0):
    """Write texts whose label is that of one of their words."""
    generator = np.random.default_rng(seed)
    labels = [int(label) for label in generator.integers(2, size=rows)]
    texts = [_sentence(generator, generator.choice(_GOOD if label else _BAD)) for label in labels]
    return _write_lines(
        path, [{"text": text, "label": ("bad", "good")[label]} for text, label in zip(texts, labels, strict=True)]
    )


def _write_questions(path):
    generator = np.random.default_rng(0)
    paragraphs = []
    for number in range(24):
        word = str(generator.choice(_GOOD + _BAD))
        context = _sentence(generator, word)
        answers = [{"text": word, "answer_start": context.index(word)}]
        qas = [{"id": f"q{number}", "question": "how was the city", "answers": answers}]
        paragraphs.append({"context": context, "qas": qas})
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8")
    return path


def _write_words(path):
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(32):
        words = _sentence(generator, str(generator.choice(_GOOD))).split()
        rows.append({"words": words, "labels": ["B-GOOD" if word in _GOOD else "O" for word in words]})
    return _write_lines(path, rows)


def _write_choices(path):
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(32):
        choices = [_sentence(generator, str(generator.choice(words))) for words in (_GOOD, _BAD, _BAD)]
        rows.append({"text": "which was good", "choices": choices, "label": 0})
        order = generator.permutation(3)
        rows[-1] |= {"choices": [choices[place] for place in order], "label": int(np.flatnonzero(order == 0)[0])}
    return _write_lines(path, rows)


def _write_plain(path):
    generator = np.random.default_rng(0)
    return _write_lines(path, [{"text": _sentence(generator, "good")} for _ in range(48)])


_WRITERS = {
    Task.TEXT_CLASSIFICATION: write_texts,
    Task.QUESTION_ANSWERING: _write_questions,
    Task.TOKEN_CLASSIFICATION: _write_words,
    Task.MULTIPLE_CHOICE: _write_choices,
    Task.FEATURE_EXTRACTION: _write_plain,
}


@pytest.fixture(scope="session")
def data_files(tmp_path_factory):
    """A file of labelled data for each task."""
    folder = tmp_path_factory.mktemp("labelled")
    names = {Task.QUESTION_ANSWERING: "json"}
    return {task: write(folder / f"{task.value}.{names.get(task, 'jsonl')}") for task, write in _WRITERS.items()}


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A checkpoint without a head."""
    return make_checkpoint(tmp_path_factory.mktemp("encoder") / "tiny", hidden_dropout_prob=0.1)


@pytest.fixture(scope="session")
def embedder(tmp_path_factory):
    """A checkpoint of a sentence-transformers model."""
    return make_checkpoint(tmp_path_factory.mktemp("embedder") / "tiny", sentence_transformers=True)
