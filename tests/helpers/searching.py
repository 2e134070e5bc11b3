"""What tests of a search share: facts of models that nobody exported, checkpoints that are faster with fewer tokens."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from click.testing import CliRunner

from dynbert.manifest import ModelInfo, Task
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.training import write_lines

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

__all__ = ["invoke_search", "make_model_info", "make_slow_checkpoint", "start_search", "write_long_texts"]

_WORDS = ("the", "city", "was", "and", "a", "story", "about", "river", "at", "night", "food", "service", "good", "bad")


def make_model_info(**changes: Any) -> ModelInfo:
    """Return the facts of a model of three layers."""
    facts: dict[str, Any] = {
        "id": "model",
        "task": Task.TEXT_CLASSIFICATION,
        "architecture": "BertForSequenceClassification",
        "num_layers": 3,
        "hidden_size": 8,
        "vocab_size": 200,
        "type_vocab_size": 2,
        "max_length": 64,
        "pad_token_id": 0,
        "always_keep_cls_token": True,
    }
    return ModelInfo(**(facts | changes))


def make_slow_checkpoint(folder: Path, task: Task = Task.TEXT_CLASSIFICATION) -> Path:
    """Write a random checkpoint that is wide enough to be faster where tokens are dropped."""
    return make_checkpoint(
        folder,
        task,
        labels=("bad", "good"),
        hidden_size=128,
        intermediate_size=512,
        num_attention_heads=4,
        max_position_embeddings=128,
    )


def write_long_texts(path: Path, *, rows: int = 100, seed: int = 0) -> Path:
    """Write texts of some 60 to 100 words with labels that nothing decides."""
    generator = np.random.default_rng(seed)
    lines = [
        {
            "text": " ".join(map(str, generator.choice(_WORDS, size=generator.integers(60, 100)))),
            "label": ("bad", "good")[int(generator.integers(2))],
        }
        for _ in range(rows)
    ]
    return write_lines(path, lines)


def invoke_search(*arguments: Any) -> Result:
    """Run ``dynbert-search`` in this process, whatever comes of it."""
    from dynbert_export.search_cli import main

    return CliRunner().invoke(main, [*map(str, arguments)])


def start_search(*arguments: Any, before: str = "") -> subprocess.Popen[str]:
    """Start ``dynbert-search`` in a process of its own, as a shell would.

    Args:
        *arguments: Of the command.
        before: Python to run first.

    Returns:
        The process.
    """
    code = f"{before}\nfrom dynbert_export.search_cli import main\nmain()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell ignores Ctrl-C and would hand that down; the command is tried with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 -- no threads use the child
    )
