"""What tests of a search share: facts of models that nobody exported, checkpoints that are faster with fewer tokens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from click.testing import CliRunner

from dynbert.manifest import ModelInfo, Task
from dynbert_export.searching.results import (
    Contrast,
    FoundProfile,
    GraphResult,
    MetricResult,
    RandomComparison,
    Refusal,
    Role,
    SearchReport,
    TrialResult,
)
from dynbert_export.searching.time_model import FitError
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.training import write_lines

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

__all__ = [
    "invoke_search",
    "make_model_info",
    "make_report",
    "make_slow_checkpoint",
    "start_search",
    "write_long_texts",
    "write_queries",
]

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
        labels=("O", "B-GOOD") if task is Task.TOKEN_CLASSIFICATION else ("bad", "good"),
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


def write_queries(path: Path, *, rows: int = 80, seed: int = 0) -> Path:
    """Write SQuAD's json with a question of its own for each of half as many contexts, twice."""
    generator = np.random.default_rng(seed)
    paragraphs = []
    for number in range(rows // 2):
        context = " ".join(map(str, generator.choice(_WORDS, size=generator.integers(20, 60))))
        answer = {"text": context.split()[0], "answer_start": 0}
        qas = [
            {
                "id": f"{number}.{of}",
                "question": f"what {number} {' '.join(context.split()[of::7])}",
                "answers": [answer],
            }
            for of in range(2)
        ]
        paragraphs.append({"context": f"{context} {number}", "qas": qas})
    path.write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}), encoding="utf-8")
    return path


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


def _graph(
    name: str,
    role: Role,
    value: float,
    milliseconds: float,
    *,
    config: str | None = None,
    trial: int | None = None,
    is_reference: bool = False,
) -> GraphResult:
    difference = (
        {}
        if is_reference
        else {
            "difference": value - 0.9,
            "difference_low": value - 0.92,
            "difference_high": value - 0.88,
            "p_value": 0.5,
            "test": "McNemar's exact test",
        }
    )
    return GraphResult(
        name=name,
        role=role,
        config=config,
        trial=trial,
        searched_quality=None if is_reference else value + 0.01,
        predicted_ms=None if is_reference else 1.02 * milliseconds,
        measured_ms=milliseconds,
        ms_by_tokens={16: milliseconds / 2, 32: milliseconds, 64: 2 * milliseconds},
        macs=int(milliseconds * 1e8),
        metrics=(MetricResult("accuracy", value, value - 0.03, value + 0.03, **difference),),
    )


def make_report() -> SearchReport:
    """Return the report of a search that nobody made."""
    trials = tuple(
        TrialResult(
            number,
            "evolution",
            f"0.{9 - number},0.5,0.4",
            8.0 - number,
            None if number == 3 else 0.9 - number / 50,
            None,
        )
        for number in range(6)
    )
    return SearchReport(
        model="a[b]c",
        task="text-classification",
        processor="Some CPU",
        threads=1,
        precision="int8",
        sampler="evolution",
        data="data.csv, 60 searched by",
        examples=60,
        aside="data.csv, 40 kept aside",
        aside_examples=40,
        metric="accuracy",
        queries=None,
        lengths_of_data={"sample": (16, 32, 64), "marks": (16, 32, 64), "rows_per_input": 1.0},
        profiles={"accurate": FoundProfile((0.8, 0.5, 0.4), None), "fast": FoundProfile((0.5, 0.5, 0.4), None)},
        graphs=(
            _graph("fp32 full", Role.REFERENCE, 0.9, 20.0, is_reference=True),
            _graph("full", Role.FULL, 0.9, 8.0, trial=0),
            _graph("accurate", Role.PROFILE, 0.88, 6.0, config="0.8,0.5,0.4", trial=1),
            _graph("fast", Role.PROFILE, 0.82, 4.0, config="0.5,0.5,0.4", trial=4),
            _graph("uniform (trial 2)", Role.UNIFORM, 0.88, 7.0, config="0.7,0.7,0.7", trial=2),
        ),
        contrasts=(
            Contrast("accurate", Role.UNIFORM, "uniform (trial 2)", 7 / 6, is_as_good=False),
            Contrast("accurate", Role.MACS, "accurate", 1.0, is_as_good=True),
            Contrast("fast", Role.STAIRCASE, "full", 2.0, is_as_good=True),
        ),
        refusals=(Refusal("balanced", "0.6,0.5,0.4", 3, "it is faster on no input than full, which is better"),),
        trials=trials,
        contrast_trials=(),
        reference_point=(0.81, 8.1),
        hypervolume=0.0123,
        random=RandomComparison(0.0101, trials[:4]),
        time_model={"costs": {}},
        final_error=FitError(20, 0.04, 0.09),
        final_error_at_one_speed=FitError(20, 0.02, 0.05),
        speed_change=1.03,
    )
