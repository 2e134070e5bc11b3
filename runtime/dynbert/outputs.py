"""Outputs of graphs: names that several modules know, and which outputs have a number for each token.

Whether an output has positions cannot be told from its shape alone: an embedding may be as wide as the input is long,
and a text may have as many labels as tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LAST_HIDDEN_STATE", "SENTENCE_EMBEDDING", "has_positions"]

LAST_HIDDEN_STATE = "last_hidden_state"
"""Token states, float32 [batch, tokens, hidden]."""
SENTENCE_EMBEDDING = "sentence_embedding"
"""One vector a text, float32 [batch, hidden]."""

_ONE_NUMBER_A_TOKEN = frozenset({"start_logits", "end_logits"})
"""The outputs that have no axis behind that of the tokens."""


def has_positions(name: str, output: NDArray[Any], mask: NDArray[Any]) -> bool:
    """Return whether an output says something of each token, padding included.

    Args:
        name: The output's name.
        output: Its array.
        mask: The attention mask of the input, ``[batch, tokens]`` or ``[batch, choices, tokens]``.

    Returns:
        Whether ``output[mask == 1]`` is what it says of tokens that are no padding.
    """
    has_width = output.ndim > mask.ndim or name in _ONE_NUMBER_A_TOKEN
    return has_width and output.shape[: mask.ndim] == mask.shape
