"""Which tokens a layer keeps: significance, the cut, and putting dropped tokens back. Pure tensor functions.

Written so that eager PyTorch and the ONNX graph traced from it decide alike:

- Kept tokens stay in text order, unless the reference's numbers are asked for. A cut is a set, so nothing is lost, and
  the lower index always is the earlier position: ONNX ``TopK`` and PyTorch's stable sort, which both prefer the lower
  index, then break a tie alike, in the first layer and in the last.
- Every position is sorted and the first ``length`` are taken, rather than asking for the top ``length``: the slice
  clamps, so that one graph serves inputs shorter than a length.
- Significance is reduced over heads first and over queries then: onnxruntime is several times slower on two axes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

import torch
from torch import Tensor

from dynbert.errors import InputError, LengthConfigError
from dynbert.lengths import Length, LengthConfig

__all__ = [
    "LengthArgument",
    "TokenTracker",
    "check_length_config",
    "expand_gather",
    "find_voting_queries",
    "gather_mask",
    "gather_tokens",
    "is_traced_length",
    "is_tracing",
    "measure_significance",
    "scatter_tokens",
    "select_layers",
    "select_tokens",
    "select_tokens_by_rank",
]

LengthArgument: TypeAlias = LengthConfig | str | Iterable[Length] | Tensor | None
"""What ``length_config`` may be, as an argument or in a config."""

_MASKED_BELOW = -1e3
"""Softmax gives nothing to a position whose additive mask is lower; -1e4, the dtype's minimum and -inf all are."""


def check_length_config(value: LengthArgument, num_layers: int) -> LengthConfig | None:
    """Return a length config in whichever form as a ``LengthConfig`` of one entry a layer.

    Args:
        value: A config, its text form, or numbers in any iterable. None or an empty one means: drop nothing.
        num_layers: Hidden layers of the model. Entries beyond the last layer are ignored.

    Returns:
        The config, or None where nothing is to be dropped.

    Raises:
        LengthConfigError: If it breaks a rule of length configs, or has fewer entries than there are layers.
    """
    if value is None:
        return None
    if not isinstance(value, (LengthConfig, str, Tensor)) and isinstance(value, Iterable):
        value = tuple(value)
        if not value:
            return None
    elif isinstance(value, Tensor) and value.dim() > 0 and value.numel() == 0:
        return None
    config = LengthConfig.of(value)
    if len(config.lengths) < num_layers:
        raise LengthConfigError(
            f"A length config must have at least {num_layers} entries, one a layer, "
            f"got {len(config.lengths)}: {config}."
        )
    return LengthConfig(config.lengths[:num_layers]) if num_layers else None


def select_layers(layer_config: Iterable[int] | None, num_layers: int) -> list[int]:
    """Return the layers to run, in the model's order.

    Args:
        layer_config: Their indices, in any order; None means all of them, an empty one none.
        num_layers: Hidden layers of the model.

    Returns:
        Ascending indices.

    Raises:
        InputError: If an index is not that of a layer.
    """
    if layer_config is None:
        return list(range(num_layers))
    chosen = {int(index) for index in layer_config}
    outside = sorted(index for index in chosen if not 0 <= index < num_layers)
    if outside:
        raise InputError(f"layer_config must hold layer indices from 0 to {num_layers - 1}, got {outside}.")
    return sorted(chosen)


def is_tracing() -> bool:
    """Return whether ``torch.jit`` is recording a graph, as the ONNX exporter has it do.

    Returns:
        True inside a trace: sizes are then values of the graph, and no Python decision may depend on them.
    """
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def is_traced_length(length: object) -> bool:
    """Return whether a length is an input of the graph being traced, unknown until the graph runs.

    Args:
        length: A length or a whole length config.

    Returns:
        True for a tensor while ``torch.jit`` traces. In eager mode tensors are numbers like any other.
    """
    return isinstance(length, Tensor) and is_tracing()


def find_voting_queries(attention_mask: Tensor | None, *, count_padded_queries: bool) -> Tensor | None:
    """Return which positions vote on significance: those that some query may attend to.

    Args:
        attention_mask: Additive, ``[batch, 1, 1, tokens]`` or ``[batch, 1, tokens, tokens]``, or None for no mask.
        count_padded_queries: Let padded positions vote too, as the reference does. What is kept then depends on
            the padding, and so on the other texts of the batch.

    Returns:
        ``[batch, tokens]`` of 0 and 1 in the mask's dtype, or None where every position votes.
    """
    if attention_mask is None or count_padded_queries:
        return None
    # One row for all queries, or one row each: the traced graph has the former, where amax would be an idle node.
    per_query = not is_tracing() and attention_mask.shape[2] > 1
    rows = attention_mask.amax(dim=2) if per_query else attention_mask[:, :, 0]  # [batch, 1, tokens]
    return (rows[:, 0] > _MASKED_BELOW).to(attention_mask.dtype)


def measure_significance(attention_probs: Tensor, query_votes: Tensor | None) -> Tensor:
    """Return how much attention each token receives, summed over heads and over the queries that vote.

    Args:
        attention_probs: ``[batch, heads, queries, tokens]``.
        query_votes: ``[batch, queries]`` of 0 and 1, or None where every query votes.

    Returns:
        ``[batch, tokens]``, float32 for half precision, without gradient: a cut has none.
    """
    probs = attention_probs.detach()
    if probs.dtype in {torch.float16, torch.bfloat16}:  # too few digits for sums of thousands of probabilities
        probs = probs.float()
    # Over queries first: onnxruntime takes ten times longer over heads, which lie far apart in memory.
    if query_votes is None:
        return probs.sum(dim=2).sum(dim=1)
    with torch.autocast(probs.device.type, enabled=False):  # which would multiply in half precision
        received = torch.matmul(query_votes.to(probs.dtype)[:, None, None, :], probs)  # [batch, heads, 1, tokens]
    return received.squeeze(2).sum(dim=1)


def select_tokens(significance: Tensor, length: int | Tensor, *, always_keep_cls_token: bool) -> Tensor:
    """Return the most significant tokens, in text order; of equals the lower index stays.

    Args:
        significance: ``[batch, tokens]``.
        length: Tokens to keep; all of them stay where there are fewer. A 0-dimensional int64 tensor while tracing.
        always_keep_cls_token: Keep index 0 whatever its significance. It counts among ``length``.

    Returns:
        int64 ``[batch, min(length, tokens)]``: ascending indices into the current tokens.
    """
    return torch.sort(_rank_tokens(significance, always_keep_cls_token=always_keep_cls_token)[:, :length], dim=1)[0]


def select_tokens_by_rank(
    significance: Tensor, length: int | Tensor, positions: Tensor | None, *, always_keep_cls_token: bool
) -> Tensor:
    """Return the most significant tokens, the most significant first; of equals the lower position stays.

    The reference's order. Sums over tokens are rounded by their order, so its numbers come out only in this one.

    Args:
        significance: ``[batch, tokens]``.
        length: As for ``select_tokens``.
        positions: int64 ``[batch, tokens]``: original positions of the tokens, None where they are in text order.
        always_keep_cls_token: As for ``select_tokens``.

    Returns:
        int64 ``[batch, min(length, tokens)]``: indices into the current tokens.
    """
    if positions is None:
        return _rank_tokens(significance, always_keep_cls_token=always_keep_cls_token)[:, :length]
    in_text_order = torch.argsort(positions, dim=1)  # a kept CLS is the first in either order
    ranks = _rank_tokens(significance.gather(1, in_text_order), always_keep_cls_token=always_keep_cls_token)
    return in_text_order.gather(1, ranks[:, :length])


def _rank_tokens(significance: Tensor, *, always_keep_cls_token: bool) -> Tensor:
    """Return the indices of all tokens, ``[batch, tokens]``, the most significant first, of equals the lower one."""
    if always_keep_cls_token:
        # The largest finite number rather than infinity: calibration collects the range of every tensor of a graph.
        cls_significance = significance[:, :1].clamp(min=torch.finfo(significance.dtype).max)
        significance = torch.cat([cls_significance, significance[:, 1:]], dim=1)
    if is_tracing():
        # The exporter knows no stable sort. It turns this one into TopK, which breaks ties as a stable sort does.
        return torch.argsort(significance, dim=1, descending=True)
    return torch.argsort(significance, dim=1, descending=True, stable=True)


def expand_gather(input: Tensor, dim: int, index: Tensor) -> Tensor:  # noqa: A002 -- the reference's public signature
    """Gather along one dimension with an index that is broadcast over the others.

    Args:
        input: Any shape.
        dim: The dimension to gather along.
        index: int64, as many dimensions as ``input``; 1 or the input's size in every dimension but ``dim``.

    Returns:
        The input's shape, but the index's size along ``dim``.
    """
    size = list(input.shape)
    size[dim] = -1
    return input.gather(dim, index.expand(size))


def gather_tokens(states: Tensor, kept: Tensor, hidden_size: int) -> Tensor:
    """Return the states of the kept tokens: ``expand_gather`` along the tokens, in one node of a traced graph.

    Args:
        states: ``[batch, tokens, hidden]``.
        kept: int64 ``[batch, kept tokens]``, indices into ``tokens``.
        hidden_size: The last size of ``states``. Read off the tensor, it would be a value that the graph computes.

    Returns:
        ``[batch, kept tokens, hidden]``.
    """
    return states.gather(1, kept.unsqueeze(-1).expand(-1, -1, hidden_size))


def gather_mask(attention_mask: Tensor, kept: Tensor) -> Tensor:
    """Return an additive attention mask for the kept tokens.

    Args:
        attention_mask: ``[batch, 1, 1, tokens]`` or ``[batch, 1, tokens, tokens]``; the first form while tracing.
        kept: int64 ``[batch, kept tokens]``.

    Returns:
        ``[batch, 1, 1, kept tokens]`` or ``[batch, 1, kept tokens, kept tokens]``.
    """
    if is_tracing():
        return attention_mask.gather(3, kept[:, None, None, :])
    columns = expand_gather(attention_mask, 3, kept[:, None, None, :])
    return columns if columns.shape[2] == 1 else expand_gather(columns, 2, kept[:, None, :, None])


def scatter_tokens(states: Tensor, positions: Tensor, updates: Tensor) -> Tensor:
    """Return a copy of ``states`` with some rows replaced.

    Args:
        states: ``[batch, tokens, hidden]``.
        positions: int64 ``[batch, kept tokens]``: the rows to replace.
        updates: ``[batch, kept tokens, hidden]``.

    Returns:
        ``[batch, tokens, hidden]``.
    """
    return states.scatter(1, positions.unsqueeze(-1).expand_as(updates), updates)


class TokenTracker:
    """Follows tokens through the cuts: what belongs to those that remain, and the last state of those that do not.

    "Drop and restore" (Kim and Cho 2021, section 3.2): the layer that drops a token is the first that does nothing
    for it, so the token keeps the state that entered that layer.
    """

    attention_mask: Tensor | None
    """Additive, ``[batch, 1, 1 or current tokens, current tokens]``, or None for no mask."""
    query_votes: Tensor | None
    """``[batch, current tokens]`` of 0 and 1, see ``find_voting_queries``."""
    positions: Tensor | None
    """int64 ``[batch, current tokens]``: original positions. None while nothing was dropped."""

    def __init__(self, attention_mask: Tensor | None, query_votes: Tensor | None) -> None:
        self.attention_mask = attention_mask
        self.query_votes = query_votes
        self.positions = None
        self._restored: Tensor | None = None

    def drop(self, kept: Tensor, entering_states: Tensor) -> None:
        """Note that a layer kept only some of the current tokens.

        Args:
            kept: int64 ``[batch, kept tokens]``, indices into the current tokens.
            entering_states: ``[batch, current tokens, hidden]``: the states that entered the layer.
        """
        self._restored = self.restore(entering_states)
        self.positions = kept if self.positions is None else self.positions.gather(1, kept)
        if self.attention_mask is not None:
            self.attention_mask = gather_mask(self.attention_mask, kept)
        if self.query_votes is not None:
            self.query_votes = self.query_votes.gather(1, kept)

    def restore(self, states: Tensor) -> Tensor:
        """Return states for every token of the input: the current ones, and the last ones of dropped tokens.

        Args:
            states: ``[batch, current tokens, hidden]``.

        Returns:
            ``[batch, input tokens, hidden]``.
        """
        if self._restored is None or self.positions is None:
            return states
        return scatter_tokens(self._restored, self.positions, states)

    def list_positions(self, states: Tensor) -> Tensor:
        """Return the original position of each current token.

        Args:
            states: ``[batch, current tokens, hidden]``, for the shape where nothing was dropped.

        Returns:
            int64 ``[batch, current tokens]``.
        """
        if self.positions is not None:
            return self.positions
        return torch.arange(states.shape[1], device=states.device).expand(states.shape[0], -1)
