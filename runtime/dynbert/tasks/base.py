"""What the tasks share: what they are to the rest of the runtime, what they get of a bundle, checks of arguments.

The rest of the runtime knows tasks as ``TaskSpec``; a task knows a bundle as ``TaskContext``, its tokenizer and model
facts with a way to run the chosen graph over many rows.

Rows run in small batches of about equal length, not in the caller's order. Texts a second of ``model.encode(texts,
batch_size=...)`` (all-MiniLM-L6-v2 INT8, one thread): of 300 news texts, 21 to 200 tokens, 142 in batches of 32 in the
caller's order and 330 one by one; sorted, 348, 368, 364, 328 and 262 in batches of 2, 4, 8, 16 and 32. Of eight words
each 1,305, 1,347, 1,520 and 1,633 in batches of 2, 4, 8 and 16; of 256 tokens each 76, 71, 69 and 61. Hence the
default, and the bound on a batch's tokens, which also bounds memory where logits are as wide as the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import numpy as np

from dynbert.errors import BundleError, InputError
from dynbert.inputs import ATTENTION_MASK, arrange_rows
from dynbert.tokenization import item_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from tokenizers import Encoding

    from dynbert.manifest import ModelInfo, Task
    from dynbert.tokenization import PairNames, TextTokenizer

__all__ = [
    "DEFAULT_BATCH_SIZE",
    "Arguments",
    "Row",
    "Shapes",
    "TaskContext",
    "TaskSpec",
    "as_pairs",
    "as_texts",
    "check_stride",
    "check_whole_number",
    "label_names",
    "pair_names",
    "regroup",
    "softmax",
    "text_records",
]

DEFAULT_BATCH_SIZE = 8
"""Most texts that run together where a call does not say."""
_TOKENS_PER_BATCH = 1024
"""Most tokens that run together, padding included; a longer row runs alone. Their logits over BERT's vocabulary take
125 MB."""

Shapes = dict[str, tuple[int | None, ...]]
"""Output's name -> shape; a None stands for any size."""

T = TypeVar("T")


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
