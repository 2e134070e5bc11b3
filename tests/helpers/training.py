"""Small files of labelled data that a small model learns within seconds, fresh checkpoints, and ``dynbert-train``.

Every file has the same pattern: sentences of filler words with one word in them that decides what is to be said of the
sentence. What a model has learned is then plain from its metric.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from click.testing import CliRunner

from dynbert.manifest import Task
from tests.helpers.checkpoints import write_sentence_transformers_files, write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from click.testing import Result

__all__ = [
    "BAD",
    "GOOD",
    "WRITERS",
    "invoke_train",
    "make_encoder",
    "read_log",
    "run_train",
    "start_train",
    "write_choices",
    "write_lines",
    "write_pairs",
    "write_plain",
    "write_questions",
    "write_texts",
    "write_words",
]

GOOD = ("good", "great", "new")
BAD = ("bad", "old", "small")
_FILLERS = ("the", "city", "was", "and", "a", "story", "about", "river", "at", "night", "food", "service")


def _sentence(generator: np.random.Generator, words: Sequence[str], *, longest: int = 14) -> str:
    sentence = [str(word) for word in generator.choice(_FILLERS, size=generator.integers(4, longest))]
    sentence.insert(int(generator.integers(len(sentence))), str(generator.choice(words)))
    return " ".join(sentence)


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    """Write a .jsonl file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_texts(path: Path, *, rows: int = 96, seed: int = 0, labels: Sequence[Any] = ("bad", "good")) -> Path:
    """Write texts whose label is that of most of their words."""
    generator = np.random.default_rng(seed)
    kinds = [int(kind) for kind in generator.integers(2, size=rows)]
    lines = []
    for kind in kinds:
        words = [str(word) for word in generator.choice((BAD, GOOD)[kind], size=3)]
        lines.append({"text": " ".join([_sentence(generator, words, longest=8), *words]), "label": labels[kind]})
    return write_lines(path, lines)


def write_questions(path: Path, *, rows: int = 64, seed: int = 0) -> Path:
    """Write questions in SQuAD's json; the answer is the word that is no filler."""
    generator = np.random.default_rng(seed)
    paragraphs = []
    for number in range(rows):
        word = str(generator.choice(GOOD + BAD))
        context = _sentence(generator, [word])
        answers = [{"text": word, "answer_start": context.index(word)}]
        qas = [{"id": f"q{number}", "question": "how was the city", "answers": answers}]
        paragraphs.append({"context": context, "qas": qas})
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8")
    return path


def write_words(path: Path, *, rows: int = 64, seed: int = 0) -> Path:
    """Write sentences with one entity in each."""
    generator = np.random.default_rng(seed)
    sentences = [_sentence(generator, GOOD).split() for _ in range(rows)]
    return write_lines(
        path,
        [{"words": each, "labels": ["B-GOOD" if word in GOOD else "O" for word in each]} for each in sentences],
    )


def write_choices(path: Path, *, rows: int = 64, seed: int = 0) -> Path:
    """Write questions with three sentences to choose from, one of them with a good word."""
    generator = np.random.default_rng(seed)
    lines = []
    for _ in range(rows):
        choices = [_sentence(generator, words, longest=8) for words in (GOOD, BAD, BAD)]
        order = [int(place) for place in generator.permutation(3)]
        lines.append(
            {"text": "which was good", "choices": [choices[place] for place in order], "label": order.index(0)}
        )
    return write_lines(path, lines)


def write_plain(path: Path, *, rows: int = 64, seed: int = 0) -> Path:
    """Write texts without labels."""
    generator = np.random.default_rng(seed)
    return write_lines(path, [{"text": _sentence(generator, GOOD + BAD)} for _ in range(rows)])


def write_pairs(path: Path, *, rows: int = 48, seed: int = 0) -> Path:
    """Write texts with partners: a longer sentence about the same word."""
    generator = np.random.default_rng(seed)
    words = [str(generator.choice(GOOD + BAD)) for _ in range(rows)]
    return write_lines(
        path,
        [{"text": word, "text_pair": f"{_sentence(generator, [word])} {word} {word}"} for word in words],
    )


WRITERS = {
    Task.TEXT_CLASSIFICATION: write_texts,
    Task.QUESTION_ANSWERING: write_questions,
    Task.TOKEN_CLASSIFICATION: write_words,
    Task.MULTIPLE_CHOICE: write_choices,
    Task.FEATURE_EXTRACTION: write_plain,
}
"""What writes labelled data for each task that can be trained."""


def make_encoder(folder: Path, *, seed: int = 0, sentence_transformers: bool = False, **config: Any) -> Path:
    """Write a checkpoint without a head, its weights small as those of a fresh BERT are: one that learns.

    Args:
        folder: Where to; made if absent.
        seed: Of the weights.
        sentence_transformers: Whether to add the files of a sentence-transformers model.
        **config: Entries of ``BertConfig`` in place of the tiny defaults.

    Returns:
        ``folder``.
    """
    import torch
    import transformers

    settings: dict[str, Any] = {
        "vocab_size": 200,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "initializer_range": 0.08,
        **config,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = transformers.BertModel(transformers.BertConfig(**settings), add_pooling_layer=False)
    model.save_pretrained(folder, safe_serialization=True)
    write_tokenizer(folder, max_length=settings["max_position_embeddings"])
    if sentence_transformers:
        write_sentence_transformers_files(folder)
    return folder


def invoke_train(*arguments: Any) -> Result:
    """Run ``dynbert-train`` on one thread in this process, whatever comes of it."""
    from dynbert_export.train_cli import main

    return CliRunner().invoke(main, [*map(str, arguments), "--threads", "1"])


def run_train(*arguments: Any) -> Result:
    """Run ``dynbert-train`` in this process; it must succeed."""
    result = invoke_train(*arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def start_train(*arguments: Any, before: str = "") -> subprocess.Popen[str]:
    """Start ``dynbert-train`` in a process of its own, as a shell would.

    Args:
        *arguments: Of the command.
        before: Python to run first, such as what kills the process at a step.

    Returns:
        The process.
    """
    code = f"{before}\nfrom dynbert_export.train_cli import main\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments), "--threads", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell ignores Ctrl-C and would hand that down; the command is tried with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- no threads use the child
    )


def read_log(output: Path) -> list[dict[str, Any]]:
    """Return what every step of a training computed; how long it took is no part of it."""
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [entry for entry in entries if "train_runtime" not in entry]
