"""What the tasks share: what they are to the rest of the runtime, what they get of a bundle, checks of arguments.

The rest of the runtime knows tasks as ``TaskSpec``; a task knows a bundle as ``TaskContext``, its tokenizer and model
facts with a way to run the chosen graph in batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from dynbert.errors import BundleError, InputError
from dynbert.inputs import ATTENTION_MASK, arrange_rows
from dynbert.tokenization import item_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from dynbert.manifest import ModelInfo, Task
    from dynbert.tokenization import PairNames, TextTokenizer

__all__ = [
    "Arguments",
    "Batch",
    "Shapes",
    "TaskContext",
    "TaskSpec",
    "as_pairs",
    "as_texts",
    "check_stride",
    "check_whole_number",
    "label_names",
    "pair_names",
    "softmax",
    "text_records",
]

Shapes = dict[str, tuple[int | None, ...]]
"""Output's name -> shape; a None stands for any size."""


class Arguments(TypedDict, total=False):
    """What a call of a model was given beside the profile, by the names of ``DynamicBert.__call__``.

    What was not given is absent; each task knows its own defaults.
    """

    texts: str | Sequence[str]
    text_pair: str | Sequence[str]
    choices: Sequence[str] | Sequence[Sequence[str]]
    question: str | Sequence[str]
    context: str | Sequence[str]
    truncate: bool
    stride: int
    max_answer_tokens: int
    aggregation: str
    top_k: int


@dataclass(frozen=True)
class TaskSpec:
    """All that tells one task from another; a task's module has one, and ``registry`` has them all."""

    task: Task
    call: str
    """How a model is called in Python, for messages."""
    needed: frozenset[str]
    """The arguments that every call must have."""
    optional: frozenset[str]
    """Those that a call may have."""
    answer: Callable[[TaskContext, Arguments], Any]
    """Answers a call that has the arguments above: one result, or a list of them where lists were given."""
    output_shapes: Callable[[ModelInfo, int, int], Shapes]
    """The outputs that a graph must have for so many rows (see ``arrange_rows``) of so many tokens."""
    to_json: Callable[[Arguments, Any], Any]
    """What the command prints of a call and its result as JSON; texts are lists there."""
    to_text: Callable[[Arguments, Any], str]
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

    def check_call(self, given: Arguments) -> None:
        """Check which arguments a call in Python has.

        Args:
            given: The arguments.

        Raises:
            InputError: If a needed one is missing, or one is of another task.
        """
        if self.is_call(frozenset(given)):
            return
        options = f" Options: {', '.join(sorted(self.optional))}." if self.optional else ""
        raise InputError(
            f"A bundle for {self.task.value} must be called as {self.call}, "
            f"got {', '.join(sorted(given)) or 'no text'}.{options}"
        )


@dataclass(frozen=True)
class Batch:
    """Rows that ran together."""

    mask: NDArray[np.int64]
    """The attention mask, [batch, tokens]."""
    outputs: Mapping[str, NDArray[Any]]

    def output(self, name: str) -> NDArray[Any]:
        """Return an output of the graph.

        Args:
            name: Its name.

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
    """Whether rows of unequal length may run together. Not under fractions of the input's length: a padded row would
    keep more tokens than it does alone."""

    def run_batches(self, encodings: Sequence[Encoding], batch_size: int) -> Iterator[Batch]:
        """Run encodings in their order.

        Args:
            encodings: Any number of rows.
            batch_size: Most rows to run together; each batch is padded to its longest row.

        Yields:
            One batch after the other.
        """
        start = 0
        while start < len(encodings):
            rows = list(encodings[start : start + batch_size])
            if not self.may_pad:
                rows = rows[: _count_equal_lengths(rows)]
            inputs = self.tokenizer.pad(rows)
            yield Batch(inputs[ATTENTION_MASK], self.run(arrange_rows(inputs, self.model.task)))
            start += len(rows)


def _count_equal_lengths(rows: Sequence[Encoding]) -> int:
    """Return how many rows from the first on have its length."""
    lengths = [len(row.ids) for row in rows]
    return next((index for index, length in enumerate(lengths) if length != lengths[0]), len(lengths))


def as_texts(texts: str | Sequence[str]) -> tuple[list[str], bool]:
    """Return one or several texts as a list.

    Args:
        texts: A string, or a list or tuple of strings.

    Returns:
        The list, and whether a single string was given.

    Raises:
        InputError: If it is neither.
    """
    if isinstance(texts, str):
        return [texts], True
    if not isinstance(texts, (list, tuple)):
        raise InputError(f"Texts must be a string or a list of strings, got {type(texts).__name__}.")
    return list(texts), False


def as_pairs(
    names: PairNames, first: str | Sequence[str], second: str | Sequence[str]
) -> tuple[list[tuple[str, str]], bool]:
    """Return one or several pairs of texts as a list.

    Args:
        names: The arguments' names, for the message.
        first: A string, or a list of them.
        second: A string, or a list of as many.

    Returns:
        The pairs, and whether a single one was given.

    Raises:
        InputError: If they are neither, or differ in length.
    """
    firsts, is_single = as_texts(first)
    seconds, is_single_second = as_texts(second)
    if is_single != is_single_second or len(firsts) != len(seconds):
        raise InputError(
            f"{names[0]} and {names[1]} must be two strings or two lists of one length, "
            f"got {_describe(first)} and {_describe(second)}."
        )
    return list(zip(firsts, seconds, strict=True)), is_single


def _describe(texts: str | Sequence[str]) -> str:
    return "a string" if isinstance(texts, str) else f"a list of {len(texts)}"


def pair_names(count: int) -> list[PairNames]:
    """Return what messages call the texts and second texts of a call.

    Args:
        count: How many pairs.

    Returns:
        Two names a pair.
    """
    return [(item_name("text", index, count), item_name("text_pair", index, count)) for index in range(count)]


def text_records(given: Arguments) -> list[dict[str, Any]]:
    """Return the texts of a call as plain data for JSON, to put results beside.

    Args:
        given: A call with lists of texts.

    Returns:
        One record a text, with its ``text_pair`` where the call has them.
    """
    records: list[dict[str, Any]] = [{"text": text} for text in given["texts"]]
    for record, second in zip(records, given.get("text_pair", ()), strict=False):
        record["text_pair"] = second
    return records


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


def check_stride(stride: int | None) -> None:
    """Check how many tokens neighbouring windows are to share.

    Args:
        stride: The number; None for the default.

    Raises:
        InputError: If it is no int, or negative.
    """
    if stride is not None:
        check_whole_number("stride", stride, least=0)


def check_whole_number(name: str, value: int, *, least: int) -> None:
    """Check an option that counts something.

    Args:
        name: The option's name, for the message.
        value: What was given.
        least: Smallest value that makes sense.

    Raises:
        InputError: If it is no int, or smaller.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} must be a whole number of at least {least}, got {value!r}.")
