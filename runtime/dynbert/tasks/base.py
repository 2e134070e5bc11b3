"""What the tasks share: a bundle's tokenizer and model facts, and a way to run its chosen graph in batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.errors import BundleError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Encoding

    from dynbert.manifest import ModelInfo
    from dynbert.tokenization import TextTokenizer

__all__ = ["Batch", "TaskContext", "as_texts", "check_whole_number"]


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
            yield Batch(inputs["attention_mask"], self.run(inputs))
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
