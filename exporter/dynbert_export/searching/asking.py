"""Asking one graph as the runtime's users ask a bundle: texts in, answers out, long ones in windows.

The calls are the runtime's own (``dynbert.tasks``), with a graph of our choice behind them. So are the lengths in
tokens that a graph meets: a run that answers nothing notes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dynbert.inputs import ATTENTION_MASK, INPUT_IDS, add_lengths, check_inputs
from dynbert.scoring.jobs import Job
from dynbert.tasks.base import TaskContext
from dynbert.tasks.registry import task_spec
from dynbert.tokenization import TOKENIZER_FILE, TextTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dynbert.lengths import LengthConfig
    from dynbert.manifest import ModelInfo
    from dynbert.session import Graph

    Run: TypeAlias = "Callable[[Mapping[str, NDArray[np.int64]]], Mapping[str, NDArray[Any]]]"

__all__ = ["Asker", "Respondent"]

_TOGETHER = 256
"""Inputs of a call: enough to sort by length, and few enough to tell how far it is."""


@dataclass(frozen=True)
class Respondent:
    """A graph with the lengths that it runs under."""

    graph: Graph
    lengths: LengthConfig | None
    """What it keeps; None where it drops nothing."""

    def run(self, inputs: Mapping[str, NDArray[np.int64]], model: ModelInfo) -> dict[str, NDArray[Any]]:
        """Run rows of tokens.

        Args:
            inputs: As for ``dynbert.inputs.check_inputs``.
            model: What the graph was made from.

        Returns:
            The graph's outputs; a graph that takes no lengths has its own inside.
        """
        feed = check_inputs(inputs, model)
        return self.graph.run(add_lengths(feed, self.lengths, always_keep_cls_token=model.always_keep_cls_token))

    @property
    def may_pad(self) -> bool:
        """Whether rows of unequal length may run together, as ``dynbert.selection.BoundRequest`` has it."""
        return self.lengths is None or not self.lengths.is_fractional


@dataclass(frozen=True)
class Asker:
    """A bundle's model facts and tokenizer, to ask any of its graphs."""

    model: ModelInfo
    tokenizer: TextTokenizer

    @classmethod
    def open(cls, bundle: Path, model: ModelInfo) -> Asker:
        """Read a bundle's tokenizer.

        Args:
            bundle: The folder.
            model: Of its manifest.

        Returns:
            The asker.
        """
        return cls(model, TextTokenizer.open(bundle / TOKENIZER_FILE, model))

    def answer(
        self,
        respondent: Respondent,
        job: Job,
        inputs: Sequence[Any],
        on_answers: Callable[[int], None] = lambda _: None,
    ) -> list[Any]:
        """Ask a graph.

        Args:
            respondent: The graph.
            job: How to ask.
            inputs: Some of the job's.
            on_answers: Told how many answers there are.

        Returns:
            An answer an input.
        """

        def run(rows: Mapping[str, NDArray[np.int64]]) -> Mapping[str, NDArray[Any]]:
            return respondent.run(rows, self.model)

        answers: list[Any] = []
        for start in range(0, len(inputs), _TOGETHER):
            some = inputs[start : start + _TOGETHER]
            answers += self._call(run, job.arguments(some), may_pad=respondent.may_pad)
            on_answers(len(answers))
        return answers

    def embed(self, respondent: Respondent, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            respondent: A graph of feature extraction.
            texts: At least one.

        Returns:
            float32 [texts, hidden].
        """
        job = Job((), lambda some: {"texts": list(some)}, lambda _: ())
        return np.stack(self.answer(respondent, job, texts))

    def count_tokens(self, job: Job) -> list[list[int]]:
        """Return how long the rows are that a graph would run for each input.

        Args:
            job: How to ask.

        Returns:
            Tokens of each row: one a text or pair, one a window of a long text, one a choice.
        """
        rows: list[int] = []

        def note(inputs: Mapping[str, NDArray[np.int64]]) -> Mapping[str, NDArray[Any]]:
            mask = inputs[ATTENTION_MASK]
            rows.extend(mask.reshape(-1, mask.shape[-1]).sum(axis=1).tolist())
            count, tokens = len(inputs[INPUT_IDS]), mask.shape[-1]
            shapes = task_spec(self.model.task).output_shapes(self.model, count, tokens)
            return {name: np.zeros([size or 2 for size in shape], np.float32) for name, shape in shapes.items()}

        counted = []
        for each in job.inputs:
            rows.clear()
            self._call(note, job.arguments([each]), may_pad=True)
            counted.append(list(rows))
        return counted

    def _call(self, run: Run, arguments: Mapping[str, Any], *, may_pad: bool) -> list[Any]:
        spec = task_spec(self.model.task)
        cut = {"truncate": True} if "truncate" in spec.optional else {}
        given = spec.read_call({**arguments, **cut})
        return list(spec.answer(TaskContext(self.model, self.tokenizer, run, may_pad=may_pad), **given))
