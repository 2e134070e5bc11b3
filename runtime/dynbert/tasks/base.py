"""What the tasks share: what they are to the rest of the runtime, and what they get of a bundle.

The rest of the runtime knows tasks as ``TaskSpec``; a task knows a bundle as ``TaskContext``, its tokenizer and model
facts with a way to run the chosen graph over many rows.

Rows run in small batches of about equal length, not in the caller's order. Texts a second of ``model.encode(texts,
batch_size=...)`` (all-MiniLM-L6-v2 INT8, one thread): of 300 news texts, 21 to 200 tokens, 142 in batches of 32 in the
caller's order and 330 one by one; sorted, 348, 368, 364, 328 and 262 in batches of 2, 4, 8, 16 and 32. Of eight words
each 1,305, 1,347, 1,520 and 1,633 in batches of 2, 4, 8 and 16; of 256 tokens each 76, 71, 69 and 61. Hence the
default, and the bound on a batch's tokens, which also bounds memory where logits are as wide as the vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dynbert.errors import BundleError, InputError
from dynbert.inputs import ATTENTION_MASK, arrange_rows
from dynbert.tasks.arguments import ARGUMENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from dynbert.manifest import ModelInfo, Task
    from dynbert.tokenization import TextTokenizer

__all__ = [
    "Given",
    "Row",
    "Shapes",
    "TaskContext",
    "TaskSpec",
    "label_names",
    "regroup",
    "softmax",
]

_TOKENS_PER_BATCH = 1024
"""Most tokens that run together, padding included; a longer row runs alone. Their logits over BERT's vocabulary take
125 MB."""

Given = Mapping[str, Any]
"""What a call was given, by the names of ``ARGUMENTS``."""

Shapes = dict[str, tuple[int | None, ...]]
"""Output's name -> shape; a None stands for any size."""

T = TypeVar("T")


@dataclass(frozen=True)
class TaskSpec:
    """All that tells one task from another; a task's module has one, and ``registry`` has them all."""

    task: Task
    call: str
    """How a model is called in Python, for messages."""
    needed: frozenset[str]
    """The arguments that every call must have; what they are, ``arguments`` declares."""
    optional: frozenset[str]
    """Those that a call may have."""
    answer: Callable[..., Any]
    """Answers a call: takes a ``TaskContext``, and by keyword a value of each argument above; returns one result, or a
    list of them where lists were given."""
    output_shapes: Callable[[ModelInfo, int, int], Shapes]
    """The outputs that a graph must have for so many rows (see ``arrange_rows``) of so many tokens."""
    to_json: Callable[[Given, Any], Any]
    """What the command prints of a call and its result as JSON; texts are lists there."""
    to_text: Callable[[Given, Any], str]
    """What it prints for people."""
    main_text: str = "texts"
    """The argument that the command reads from standard input where it is not given."""

    def is_call(self, given: frozenset[str]) -> bool:
        """Return whether a call may have these arguments.

        Args:
            given: Their names.

        Returns:
            Whether all needed ones are there and no foreign one is.
        """
        return self.needed <= given <= self.needed | self.optional

    def read_call(self, arguments: Given) -> dict[str, Any]:
        """Check what a call in Python was given, and complete it.

        Args:
            arguments: What was passed, by name; None is the same as nothing.

        Returns:
            A value of every argument that ``answer`` takes: as given, or the default.

        Raises:
            TypeError: If there is no such argument.
            InputError: If a needed one is missing, one is of another task, or an option's value breaks a rule.
        """
        for name in arguments:
            if name not in ARGUMENTS:
                known = ", ".join(item for item in ARGUMENTS if item in self.needed | self.optional)
                raise TypeError(
                    f"DynamicBert.__call__() got an unexpected keyword argument {name!r}. "
                    f"A bundle for {self.task.value} takes {known}, profile, length_config."
                )
        given = {name: value for name, value in arguments.items() if ARGUMENTS[name].is_given(value)}
        if not self.is_call(frozenset(given)):
            raise InputError(
                f"A bundle for {self.task.value} must be called as {self.call}, "
                f"got {', '.join(sorted(given)) or 'no text'}. Options: {', '.join(sorted(self.optional))}."
            )
        defaults = {name: ARGUMENTS[name].default for name in self.optional}
        return defaults | {name: ARGUMENTS[name].read(name, value) for name, value in given.items()}


@dataclass(frozen=True)
class Row:
    """What a graph gave for one row. The arrays are parts of its batch's: who keeps one keeps the batch."""

    index: int
    """Which of the encodings it is."""
    outputs: Mapping[str, NDArray[Any]]
    """The row's part of each output of the graph, [tokens, ...] or [...], padding included."""
    mask: NDArray[np.int64]
    """The row's attention mask, [tokens]: 1 for tokens, 0 for padding."""

    def output(self, name: str) -> NDArray[Any]:
        """Return the row's part of an output.

        Args:
            name: The output's name.

        Returns:
            The array.

        Raises:
            BundleError: If the graph has no such output.
        """
        if name not in self.outputs:
            raise BundleError(f"A graph for this task must have the output {name}, got {', '.join(self.outputs)}.")
        return self.outputs[name]


@dataclass(frozen=True)
class TaskContext:
    """What a task needs of a bundle, for one call."""

    model: ModelInfo
    tokenizer: TextTokenizer
    run: Callable[[Mapping[str, NDArray[np.int64]]], Mapping[str, NDArray[Any]]]
    """Runs the graph that the call asked for: ``input_ids`` and the other inputs to outputs, by name."""
    may_pad: bool = True
    """Whether rows of unequal length may run together."""

    def run_rows(self, encodings: Sequence[Encoding], batch_size: int) -> Iterator[Row]:
        """Run encodings, rows of about equal length together.

        Args:
            encodings: Any number of rows.
            batch_size: Most rows to run together; fewer where they are long.

        Yields:
            Every row once, in an order of its own: ``Row.index`` tells which it is.
        """
        for places in _batches([len(encoding) for encoding in encodings], batch_size, may_pad=self.may_pad):
            inputs = self.tokenizer.pad([encodings[place] for place in places])
            outputs = self.run(arrange_rows(inputs, self.model.task))
            for number, place in enumerate(places):
                of_row = {name: array[number] for name, array in outputs.items()}
                yield Row(place, of_row, inputs[ATTENTION_MASK][number])

    def map_rows(self, encodings: Sequence[Encoding], batch_size: int, read: Callable[[Row], T]) -> list[T]:
        """Run encodings and make something of each row at once, so that no graph's outputs pile up.

        Args:
            encodings: Any number of rows.
            batch_size: As for ``run_rows``.
            read: What to make of a row.

        Returns:
            What was made of each, in the encodings' order.
        """
        results = {row.index: read(row) for row in self.run_rows(encodings, batch_size)}
        return [results[index] for index in range(len(encodings))]


def _batches(lengths: Sequence[int], batch_size: int, *, may_pad: bool) -> Iterator[list[int]]:
    """Yield which rows run together, by their lengths in tokens: the longest first, equals in their order."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    start = 0
    while start < len(order):
        longest = lengths[order[start]]
        rows = order[start : start + min(batch_size, max(1, _TOKENS_PER_BATCH // longest))]
        if not may_pad:
            rows = [row for row in rows if lengths[row] == longest]
        yield rows
        start += len(rows)


def regroup(values: Sequence[T], sizes: Iterable[int]) -> Iterator[Sequence[T]]:
    """Cut results that ran as one list back into those of each text.

    Args:
        values: The results, text by text.
        sizes: How many each text has; together as many as there are.

    Yields:
        The results of one text after the other.
    """
    start = 0
    for size in sizes:
        yield values[start : start + size]
        start += size


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Return probabilities.

    Args:
        logits: Float [..., classes].

    Returns:
        float64 of the same shape; each row sums to 1.
    """
    values = logits.astype(np.float64)
    weights = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def label_names(names: Sequence[str], count: int) -> Sequence[str]:
    """Return the names of a graph's classes.

    Args:
        names: The bundle's; empty where the checkpoint has none.
        count: How many logits the graph gives.

    Returns:
        The names, or ``LABEL_0`` and so on.

    Raises:
        BundleError: If there are names, but not one for each logit.
    """
    labels = names or [f"LABEL_{index}" for index in range(count)]
    if len(labels) != count:
        raise BundleError(f"The graph must have one logit for each of {len(labels)} labels, got {count}.")
    return labels
