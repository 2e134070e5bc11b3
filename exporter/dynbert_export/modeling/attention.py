# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 -- argument names, order and defaults are the reference's public surface
"""Self-attention with its output projection.

Plain matmul, softmax, matmul: every layer's probabilities are needed to rank tokens, and fused attention kernels do
not return them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import find_pruneable_heads_and_indices, prune_linear_layer

from dynbert.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import BertConfig

    from dynbert_export.modeling.decoder import LayerCache

__all__ = ["BertAttention", "BertSelfAttention", "BertSelfOutput"]

_RELATIVE_TYPES = ("relative_key", "relative_key_query")
_POSITION_TYPES = ("absolute", *_RELATIVE_TYPES)


class BertSelfAttention(nn.Module):
    """Multi-head self-attention, or cross-attention where the keys and values come from an encoder.

    Raises:
        InputError: On construction, if the hidden size is no multiple of the heads, or the position type unknown.
    """

    def __init__(self, config: BertConfig, position_embedding_type: str | None = None) -> None:
        super().__init__()
        if config.hidden_size % config.num_attention_heads and not hasattr(config, "embedding_size"):
            raise InputError(
                f"hidden_size must be a multiple of num_attention_heads ({config.num_attention_heads}), "
                f"got {config.hidden_size}."
            )
        self.num_attention_heads = config.num_attention_heads
        self.attention_head_size = config.hidden_size // config.num_attention_heads
        self.all_head_size = self.num_attention_heads * self.attention_head_size
        self.is_decoder = config.is_decoder
        self.query = nn.Linear(config.hidden_size, self.all_head_size)
        self.key = nn.Linear(config.hidden_size, self.all_head_size)
        self.value = nn.Linear(config.hidden_size, self.all_head_size)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.position_embedding_type = position_embedding_type or getattr(config, "position_embedding_type", "absolute")
        if self.position_embedding_type not in _POSITION_TYPES:
            raise InputError(
                f"position_embedding_type must be one of {', '.join(_POSITION_TYPES)}, "
                f"got {self.position_embedding_type!r}."
            )
        if self.position_embedding_type in _RELATIVE_TYPES:
            self.max_position_embeddings = config.max_position_embeddings
            self.distance_embedding = nn.Embedding(2 * config.max_position_embeddings - 1, self.attention_head_size)

    def transpose_for_scores(self, x: Tensor) -> Tensor:
        """Split the features into heads.

        Args:
            x: ``[batch, tokens, heads * head size]``.

        Returns:
            ``[batch, heads, tokens, head size]``.
        """
        return x.view(x.shape[0], -1, self.num_attention_heads, self.attention_head_size).transpose(1, 2)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        head_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_value: LayerCache | None = None,
        output_attentions: bool | None = False,
        positions: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """Attend.

        Args:
            hidden_states: ``[batch, tokens, hidden]``.
            attention_mask: Additive, broadcast to ``[batch, heads, tokens, keys]``. The keys are the tokens and, before
                them, those of ``past_key_value``.
            head_mask: Factors for the probabilities, broadcast to the same shape.
            encoder_hidden_states: ``[batch, encoder tokens, hidden]``: attend to these instead, which makes it
                cross-attention.
            encoder_attention_mask: Takes the place of ``attention_mask`` in cross-attention.
            past_key_value: Keys and values, ``[batch, heads, earlier tokens, head size]`` each, of the tokens that went
                before; in cross-attention those of the encoder's tokens, which are then not computed again.
            output_attentions: Return the probabilities too.
            positions: int64 ``[batch, tokens]``: the tokens' original positions, which relative position embeddings
                measure distances between. None where nothing was dropped.

        Returns:
            The context ``[batch, tokens, hidden]``; the probabilities ``[batch, heads, tokens, keys]`` where asked:
            after dropout and head mask, as they were used; and, in a decoder, keys and values for the next step.
        """
        query = self.transpose_for_scores(self.query(hidden_states))
        key, value = self._find_keys(hidden_states, encoder_hidden_states, past_key_value)
        scores = query @ key.transpose(-1, -2)  # [batch, heads, tokens, keys]
        if self.position_embedding_type in _RELATIVE_TYPES:
            scores = scores + self._score_distances(query, key, positions)
        scores = scores / math.sqrt(self.attention_head_size)
        mask = attention_mask if encoder_hidden_states is None else encoder_attention_mask
        if mask is not None:
            scores = scores + mask
        probs: Tensor = self.dropout(scores.softmax(dim=-1))
        if head_mask is not None:
            probs = probs * head_mask
        context = (probs @ value).transpose(1, 2)  # [batch, tokens, heads, head size]
        context = context.reshape(context.shape[0], -1, self.all_head_size)
        return (
            context,
            *((probs,) if output_attentions else ()),
            *(((key, value),) if self.is_decoder else ()),
        )

    def _find_keys(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None, past_key_value: LayerCache | None
    ) -> tuple[Tensor, Tensor]:
        """Return the keys and the values, ``[batch, heads, keys, head size]`` each, of all that is attended to."""
        if encoder_hidden_states is not None and past_key_value is not None:
            return past_key_value[0], past_key_value[1]
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        key = self.transpose_for_scores(self.key(source))
        value = self.transpose_for_scores(self.value(source))
        if past_key_value is not None:
            key = torch.cat([past_key_value[0], key], dim=2)
            value = torch.cat([past_key_value[1], value], dim=2)
        return key, value

    def _score_distances(self, query: Tensor, key: Tensor, positions: Tensor | None) -> Tensor:
        """Return the relative position embeddings' part of the scores, ``[batch, heads, tokens, keys]``."""
        shared = positions is None  # every text of the batch has the same distances
        if positions is None:
            positions = torch.arange(key.shape[2], device=query.device)
        # With a cache the queries are the last of the tokens; without one, as ever in a traced graph, all of them.
        of_queries = positions[..., -query.shape[2] :] if self.is_decoder else positions
        distances = of_queries.unsqueeze(-1) - positions.unsqueeze(-2)  # [(batch,) queries, keys]
        embedded = self.distance_embedding(distances + self.max_position_embeddings - 1).to(query.dtype)
        table = "lrd" if shared else "blrd"
        scores = torch.einsum(f"bhld,{table}->bhlr", query, embedded)
        if self.position_embedding_type == "relative_key_query":
            scores = scores + torch.einsum(f"bhrd,{table}->bhlr", key, embedded)
        return scores


class BertSelfOutput(nn.Module):
    """Projection, residual connection and normalisation after attention."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """Project the context and add it to what entered the attention.

        Args:
            hidden_states: The context, ``[batch, tokens, hidden]``.
            input_tensor: What entered the attention, same shape.

        Returns:
            Same shape.
        """
        projected = self.dropout(self.dense(hidden_states))
        normalized: Tensor = self.LayerNorm(projected + input_tensor)
        return normalized


class BertAttention(nn.Module):
    """Self-attention and its output projection, with heads that can be pruned."""

    def __init__(self, config: BertConfig, position_embedding_type: str | None = None) -> None:
        super().__init__()
        self.self = BertSelfAttention(config, position_embedding_type)
        self.output = BertSelfOutput(config)
        self.pruned_heads: set[int] = set()

    def prune_heads(self, heads: Iterable[int]) -> None:
        """Remove heads for good: the projections shrink.

        Args:
            heads: Indices among the heads that the layer was built with; those already pruned are ignored.
        """
        heads, index = find_pruneable_heads_and_indices(
            list(heads), self.self.num_attention_heads, self.self.attention_head_size, self.pruned_heads
        )
        if not heads:
            return
        self.self.query = prune_linear_layer(self.self.query, index)
        self.self.key = prune_linear_layer(self.self.key, index)
        self.self.value = prune_linear_layer(self.self.value, index)
        self.output.dense = prune_linear_layer(self.output.dense, index, dim=1)
        self.self.num_attention_heads -= len(heads)
        self.self.all_head_size = self.self.attention_head_size * self.self.num_attention_heads
        self.pruned_heads |= heads

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        head_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_value: LayerCache | None = None,
        output_attentions: bool | None = False,
        positions: Tensor | None = None,
    ) -> tuple[Any, ...]:
        """Attend and project; arguments and result are those of ``BertSelfAttention``.

        Returns:
            ``[batch, tokens, hidden]``; the probabilities where asked; in a decoder, keys and values.
        """
        context, *others = self.self(
            hidden_states,
            attention_mask,
            head_mask,
            encoder_hidden_states,
            encoder_attention_mask,
            past_key_value,
            output_attentions,
            positions,
        )
        return (self.output(context, hidden_states), *others)
