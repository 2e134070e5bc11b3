"""Which tokens of a text are left after each layer of a graph.

A call of the bundle's task is answered as ever, by a graph that also gives what its layers keep: so the rows are those
that the task makes of a text, windows, pairs and choices included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from dynbert.errors import BundleError
from dynbert.kept_values import read_kept_values
from dynbert.tasks.base import TaskContext

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokenizers import Encoding

    from dynbert.kept_values import KeptValues
    from dynbert.manifest import Manifest
    from dynbert.session import Graph
    from dynbert.tasks.base import Row

__all__ = [
    "KeptTokens",
    "KeptTokensError",
    "LayerTokens",
    "Token",
    "TokenWatcher",
    "layers_that_run",
    "require_kept_values",
]


class KeptTokensError(BundleError):
    """A graph does not say which tokens its layers keep: one of before schema 4."""


@dataclass(frozen=True)
class Token:
    """One token of a row that a graph reads."""

    piece: str
    """What the vocabulary calls it; a piece that continues a word starts with ``##``."""
    sequence: int | None
    """Which text of the row it is of: 0 for the first (the question), 1 for the second (the context, the choice); None
    for a special token, which is of neither."""
    start: int
    """First character in that text, as Python counts them (code points); 0 for a special token."""
    end: int
    """Character after the last one; 0 for a special token."""


@dataclass(frozen=True)
class LayerTokens:
    """What is left of a row after a layer."""

    layer: int
    """Its index in the model."""
    kept: tuple[int, ...]
    """Ascending indices into the row's tokens."""


@dataclass(frozen=True)
class KeptTokens:
    """What a graph drops of one row: a text, a pair, a window of a long text, or a text with one of its choices."""

    tokens: tuple[Token, ...]
    """The row, special tokens included and padding left out."""
    layers: tuple[LayerTokens, ...]
    """The layers that run, the first one first. A pooled head reads the first token alone: where the graph makes use of
    that, the last layer computes it alone, whatever the length config says."""


@dataclass(frozen=True)
class TokenWatcher(TaskContext):
    """What a task gets in place of a ``TaskContext``, to take down what is kept of the rows that it runs."""

    values: KeptValues = field(kw_only=True)
    """Where the graph, run by ``run``, gives that."""
    layers: tuple[int, ...] = field(kw_only=True)
    """Indices of the layers that run."""
    rows: list[KeptTokens] = field(kw_only=True, default_factory=list)
    """Grows with each call of ``run_rows``, in the order of its encodings."""

    def run_rows(self, encodings: Sequence[Encoding], batch_size: int) -> Iterator[Row]:
        """Run encodings as ``TaskContext`` does.

        Args:
            encodings: Any number of rows.
            batch_size: Most rows to run together.

        Yields:
            Every row once, in an order of its own.
        """
        rows: dict[int, KeptTokens] = {}
        for row in super().run_rows(encodings, batch_size):
            rows[row.index] = self._read_row(encodings[row.index], row)
            yield row
        self.rows.extend(rows[index] for index in range(len(encodings)))

    def _read_row(self, encoding: Encoding, row: Row) -> KeptTokens:
        positions = self.values.trace_row(row.outputs, len(row.mask))
        left = np.arange(len(row.mask))
        layers = []
        for layer in self.layers:
            left = positions.get(layer, left)
            # Of a row that was padded, padding may be among what is left.
            layers.append(LayerTokens(layer, tuple(left[left < len(encoding.ids)].tolist())))
        return KeptTokens(tuple(_list_tokens(encoding)), tuple(layers))


def _list_tokens(encoding: Encoding) -> Iterator[Token]:
    fields = zip(encoding.tokens, encoding.special_tokens_mask, encoding.sequence_ids, encoding.offsets, strict=True)
    for piece, is_special, sequence, (start, end) in fields:
        # Where two texts were joined, the tokenizers library leaves out which one the first one's tokens are of.
        yield Token(piece, None, 0, 0) if is_special else Token(piece, sequence or 0, start, end)


def layers_that_run(manifest: Manifest, profile: str) -> tuple[int, ...]:
    """Return the layers that a profile's graphs have.

    Args:
        manifest: The bundle's.
        profile: One of its profiles.

    Returns:
        Ascending indices.
    """
    [entry] = [entry for entry in manifest.profiles if entry.name == profile]
    return tuple(range(manifest.model.num_layers)) if entry.layer_config is None else entry.layer_config


def require_kept_values(graph: Graph, num_layers: int) -> KeptValues:
    """Return where a graph has what its layers keep.

    Args:
        graph: An open graph.
        num_layers: Hidden layers of the model.

    Returns:
        The names of its values.

    Raises:
        KeptTokensError: If it does not say so.
        BundleError: If what it says cannot be read.
    """
    values = read_kept_values(graph.metadata, num_layers)
    if values is None:
        raise KeptTokensError(
            f"{graph.path} must say which tokens its layers keep, got a graph that does not, as those that were made "
            "before schema 4. Export the bundle again."
        )
    return values
