# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 -- argument names, order and defaults are the reference's public surface
"""One Transformer layer: attention, the cut, feed-forward.

The cut stands between the two, so that dropped tokens cost no feed-forward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from dynbert.errors import InputError
from dynbert_export.modeling.attention import BertAttention
from dynbert_export.modeling.decoder import check_decoder_config, refuse_decoder_arguments, refuse_dropping
from dynbert_export.modeling.dropping import (
    find_voting_queries,
    gather_tokens,
    is_traced_length,
    is_tracing,
    measure_significance,
    select_tokens,
    select_tokens_by_rank,
)

if TYPE_CHECKING:
    from transformers import BertConfig

    from dynbert_export.modeling.decoder import LayerCache

__all__ = ["BertIntermediate", "BertLayer", "BertOutput", "BertPooler", "find_activation"]


def find_activation(name: str | Any) -> Any:
    """Return the activation of a config.

    Args:
        name: The function's name in transformers, or the function.

    Returns:
        The function.
    """
    return ACT2FN[name] if isinstance(name, str) else name


class BertIntermediate(nn.Module):
    """First half of the feed-forward network: widen and activate."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.intermediate_act_fn = find_activation(config.hidden_act)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Widen.

        Args:
            hidden_states: ``[batch, tokens, hidden]``.

        Returns:
            ``[batch, tokens, intermediate]``.
        """
        activated: Tensor = self.intermediate_act_fn(self.dense(hidden_states))
        return activated


class BertOutput(nn.Module):
    """Second half of the feed-forward network: narrow, residual connection, normalisation."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.intermediate_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, input_tensor: Tensor) -> Tensor:
        """Narrow, and add to what entered the feed-forward network.

        Args:
            hidden_states: ``[batch, tokens, intermediate]``.
            input_tensor: ``[batch, tokens, hidden]``.

        Returns:
            ``[batch, tokens, hidden]``.
        """
        narrowed = self.dropout(self.dense(hidden_states))
        normalized: Tensor = self.LayerNorm(narrowed + input_tensor)
        return normalized


class BertLayer(nn.Module):
    """A Transformer layer that can drop the least significant tokens or, in a decoder, attend to an encoder's.

    Raises:
        InputError: On construction, if the config asks for cross-attention in an encoder.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        check_decoder_config(config)
        self.config = config
        self.chunk_size_feed_forward = config.chunk_size_feed_forward
        self.attention = BertAttention(config)
        if config.add_cross_attention:  # an encoder's positions have no distance to a decoder's
            self.crossattention = BertAttention(config, position_embedding_type="absolute")
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config)

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        head_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_value: LayerCache | None = None,
        output_attentions: bool | None = False,
        output_length: int | Tensor | None = None,
        always_keep_cls_token: bool | None = True,
        query_votes: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> tuple[tuple[Any, ...], Tensor | None]:
        """Run the layer.

        Args:
            hidden_states: ``[batch, tokens, hidden]``.
            attention_mask: Additive, ``[batch, 1, 1 or tokens, tokens]``, with the earlier tokens before the last ones.
            head_mask: Factors for the attention probabilities, broadcast to ``[batch, heads, tokens, tokens]``.
            encoder_hidden_states: ``[batch, encoder tokens, hidden]`` for cross-attention. None leaves it out.
            encoder_attention_mask: Additive, ``[batch, 1, 1 or tokens, encoder tokens]``.
            past_key_value: Keys and values of the tokens that went before and, with cross-attention, of the encoder's;
                the latter are computed where they are missing.
            output_attentions: Return the attention probabilities too. Dropping tokens does not need it.
            output_length: Tokens to keep, at least 1; None, or no less than there are, drops none. While tracing it
                may be a 0-dimensional int64 tensor, so that the graph decides when it runs.
            always_keep_cls_token: Keep the first token whatever its significance.
            query_votes: ``[batch, tokens]`` of 0 and 1: the queries that vote on significance. None asks the mask
                and ``config.count_padded_queries``.
            positions: int64 ``[batch, tokens]``: original positions of the tokens, None where nothing was dropped.

        Returns:
            The outputs: ``[batch, kept tokens, hidden]``; where asked the probabilities ``[batch, heads, tokens,
            tokens]`` and, with cross-attention, its probabilities ``[batch, heads, tokens, encoder tokens]``; in a
            decoder, what to pass as ``past_key_value`` at the next step. And the indices kept, int64 ``[batch, kept
            tokens]``, in the order of the states: ascending, or as ``select_tokens_by_rank`` says where padded queries
            count. None where the layer dropped nothing.

        Raises:
            InputError: If ``output_length`` is below 1, or an argument is one for decoders and the layer is none.
            LengthConfigError: If a decoder is to drop tokens.
        """
        refuse_decoder_arguments(
            self.config, encoder_hidden_states=encoder_hidden_states, past_key_value=past_key_value
        )
        is_cut = self._is_cut(output_length, hidden_states)
        attention_output, *probs = self.attention(
            hidden_states,
            attention_mask,
            head_mask,
            past_key_value=past_key_value and past_key_value[:2],
            output_attentions=is_cut or output_attentions,
            positions=positions,
        )
        present = probs.pop() if self.config.is_decoder else None
        if present is not None and encoder_hidden_states is not None:
            attention_output, *cross_probs, encoder_keys = self.crossattention(
                attention_output,
                None,
                head_mask,
                encoder_hidden_states,
                encoder_attention_mask,
                (past_key_value and past_key_value[2:]) or None,
                output_attentions,
            )
            probs += cross_probs
            present += encoder_keys
        kept = None
        if is_cut and output_length is not None:
            if query_votes is None:
                query_votes = find_voting_queries(attention_mask, count_padded_queries=self._is_as_reference)
            significance = measure_significance(probs[0], query_votes)
            kept = self._select(significance, output_length, positions, keep_cls=bool(always_keep_cls_token))
            attention_output = gather_tokens(attention_output, kept, self.config.hidden_size)
        layer_output = self._feed_forward(attention_output)
        outputs = (layer_output, *(probs if output_attentions else ()))
        return (outputs if present is None else (*outputs, present)), kept

    def _select(
        self, significance: Tensor, output_length: int | Tensor, positions: Tensor | None, *, keep_cls: bool
    ) -> Tensor:
        """Return the indices of the tokens to keep, int64 ``[batch, kept tokens]``.

        A graph keeps the text's order always: the tokens are the same, the reference's last digits are not needed.
        """
        if self._is_as_reference and not is_tracing():
            return select_tokens_by_rank(significance, output_length, positions, always_keep_cls_token=keep_cls)
        return select_tokens(significance, output_length, always_keep_cls_token=keep_cls)

    def feed_forward_chunk(self, attention_output: Tensor) -> Tensor:
        """Run the feed-forward network on some of the tokens.

        Args:
            attention_output: ``[batch, some tokens, hidden]``.

        Returns:
            Same shape.
        """
        layer_output: Tensor = self.output(self.intermediate(attention_output), attention_output)
        return layer_output

    def _feed_forward(self, attention_output: Tensor) -> Tensor:
        """Run the feed-forward network, in chunks where the config says so.

        Not by ``apply_chunking_to_forward``, which refuses a length that is no multiple of the chunk: after a cut
        nothing makes it one. A graph is traced whole: chunks would fix its length.
        """
        if self.chunk_size_feed_forward <= 0 or is_tracing():
            return self.feed_forward_chunk(attention_output)
        chunks = torch.split(attention_output, self.chunk_size_feed_forward, dim=1)
        return torch.cat([self.feed_forward_chunk(chunk) for chunk in chunks], dim=1)

    def _is_cut(self, output_length: int | Tensor | None, hidden_states: Tensor) -> bool:
        """Return whether the layer has to select tokens; a traced one does whatever the example's length."""
        if output_length is None:
            return False
        refuse_dropping(self.config)
        if is_traced_length(output_length):
            return True
        if int(output_length) < 1:
            raise InputError(f"output_length must be at least 1, got {int(output_length)}.")
        # The reference puts tokens in its order even where it drops none.
        return is_tracing() or self._is_as_reference or int(output_length) < hidden_states.shape[1]

    @property
    def _is_as_reference(self) -> bool:
        """Whether to rank tokens and order them as the reference does."""
        return getattr(self.config, "count_padded_queries", False)


class BertPooler(nn.Module):
    """State of the first token, for tasks on the whole text."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = nn.Tanh()

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Pool.

        Args:
            hidden_states: ``[batch, tokens, hidden]``.

        Returns:
            ``[batch, hidden]``.
        """
        pooled: Tensor = self.activation(self.dense(hidden_states[:, 0]))
        return pooled
