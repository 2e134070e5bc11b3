"""What every graph is tried with, where it is made and where it runs: short and long inputs, alone and padded.

The exporter holds graphs to PyTorch on these inputs, ``dynbert verify`` runs them on a device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np

from dynbert.inputs import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from dynbert.lengths import LengthConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["HasTokens", "random_rows", "steep_lengths", "sweep_shapes"]

_TOKENS = (1, 2, 3, 7, 64, 128)
"""Input lengths tried beside the maximum; longer ones than that are left out."""
_BATCHES = (1, 4)
_PADDED_SHARES = (0.0, 0.25, 0.5, 1.0)
"""Share of each row of a batch that is padding; one token always stays."""


def sweep_shapes(max_length: int) -> tuple[tuple[int, int], ...]:
    """Return the shapes of inputs that graphs are tried with.

    Args:
        max_length: Longest input in tokens.

    Returns:
        Pairs of rows and tokens, the shortest first; the last have ``max_length`` tokens.
    """
    lengths = sorted({tokens for tokens in _TOKENS if tokens < max_length} | {max_length})
    return tuple((batch, tokens) for tokens in lengths for batch in _BATCHES)


class HasTokens(Protocol):
    """What says which tokens there are: a manifest's ``ModelInfo``, or a ``BertConfig``."""

    @property
    def vocab_size(self) -> int:
        """Ids are below it."""

    @property
    def type_vocab_size(self) -> int:
        """Token types are below it."""

    @property
    def pad_token_id(self) -> int | None:
        """What padding has; None for 0."""


def random_rows(
    generator: np.random.Generator, shape: tuple[int, int], model: HasTokens
) -> dict[str, NDArray[np.int64]]:
    """Return rows of random tokens, each with more padding than the one before; the first has none.

    Args:
        generator: Of the numbers.
        shape: Rows (at most 4) and tokens.
        model: Says which tokens there are.

    Returns:
        ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 ``[rows, tokens]``.
    """
    ids = generator.integers(0, model.vocab_size, shape, np.int64)
    types = generator.integers(0, model.type_vocab_size, shape, np.int64)
    rows, tokens = shape
    ends = [max(1, round(tokens * (1 - share))) for share in _PADDED_SHARES[:rows]]
    mask = (np.arange(tokens) < np.array(ends)[:, None]).astype(np.int64)
    padded = np.where(mask == 1, ids, model.pad_token_id or 0)
    return {INPUT_IDS: padded, ATTENTION_MASK: mask, TOKEN_TYPE_IDS: types * mask}


def steep_lengths(num_layers: int) -> LengthConfig:
    """Return a length config that drops some tokens after every layer.

    Args:
        num_layers: Hidden layers of the model.

    Returns:
        Fractions that fall evenly to a quarter.
    """
    return LengthConfig(tuple(1.0 - 0.75 * (layer + 1) / num_layers for layer in range(num_layers)))
