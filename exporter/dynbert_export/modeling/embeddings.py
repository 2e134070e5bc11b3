"""BertEmbeddings: what a token is, where it stands and which text it belongs to, summed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dynbert.errors import InputError
from dynbert_export.modeling.dropping import is_tracing

if TYPE_CHECKING:
    from transformers import BertConfig

__all__ = ["BertEmbeddings"]


class BertEmbeddings(nn.Module):
    """Sum of word, position and token type embeddings, normalised."""

    position_ids: Tensor
    token_type_ids: Tensor

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)  # the checkpoints' name
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.position_embedding_type = getattr(config, "position_embedding_type", "absolute")
        positions = torch.arange(config.max_position_embeddings).unsqueeze(0)
        self.register_buffer("position_ids", positions, persistent=False)
        # A buffer of zeros, not zeros made on the spot: a trace would fix their shape.
        self.register_buffer("token_type_ids", torch.zeros_like(positions), persistent=False)

    def forward(
        self,
        input_ids: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        past_key_values_length: int = 0,
    ) -> Tensor:
        """Return the states that enter the first layer.

        Args:
            input_ids: int64 ``[batch, tokens]``. Either these or ``inputs_embeds``.
            token_type_ids: int64 ``[batch, tokens]``; zeros where None.
            position_ids: int64 ``[batch or 1, tokens]``; 0, 1, 2, ... where None.
            inputs_embeds: ``[batch, tokens, hidden]``: word embeddings made elsewhere.
            past_key_values_length: Tokens before the first one of the input.

        Returns:
            ``[batch, tokens, hidden]``.

        Raises:
            InputError: If neither ``input_ids`` nor ``inputs_embeds`` is given, or the text is too long.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise InputError("input_ids or inputs_embeds must be given, got neither.")
            inputs_embeds = self.word_embeddings(input_ids)
        tokens = inputs_embeds.shape[1]
        last = past_key_values_length + tokens
        is_relative = self.position_embedding_type != "absolute"  # distances have a table of their own, as limited
        if not is_tracing() and (is_relative or position_ids is None) and last > self.position_ids.shape[1]:
            raise InputError(f"An input must have at most {self.position_ids.shape[1]} tokens, got {last}.")
        if token_type_ids is None:
            token_type_ids = self.token_type_ids[:, :tokens]
        embeddings: Tensor = inputs_embeds + self.token_type_embeddings(token_type_ids)
        if not is_relative:
            if position_ids is None:
                position_ids = self.position_ids[:, past_key_values_length:last]
            embeddings = embeddings + self.position_embeddings(position_ids)
        normalized: Tensor = self.dropout(self.LayerNorm(embeddings))
        return normalized

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Accept checkpoints of before 2023, which carry the position ids; torch has subclasses override this."""
        state_dict.pop(f"{prefix}position_ids", None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
