# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 -- argument names, order and defaults are the reference's public surface
"""BertModel: embeddings, encoder and pooler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from dynbert.errors import InputError
from dynbert_export.modeling.base import BertPreTrainedModel
from dynbert_export.modeling.decoder import count_cached_tokens, refuse_decoder_arguments, refuse_dropping
from dynbert_export.modeling.dropping import LengthArgument, check_length_config, is_tracing
from dynbert_export.modeling.embeddings import BertEmbeddings
from dynbert_export.modeling.encoder import BertEncoder
from dynbert_export.modeling.layer import BertPooler
from dynbert_export.modeling.outputs import DynamicModelOutput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn
    from transformers import BertConfig

__all__ = ["BertModel"]


def _check_mask(name: str, mask: Tensor, batch: int, queries: int, keys: int) -> None:
    """Refuse a mask of another shape than ``[batch or 1, keys]`` or ``[batch or 1, queries, keys]``."""
    shape = tuple(mask.shape)
    if shape[:1] not in {(1,), (batch,)} or shape[1:] not in {(keys,), (queries, keys)}:
        raise InputError(
            f"{name} must be [{batch} or 1, {keys}] or [{batch} or 1, {queries}, {keys}] for this input, "
            f"got {list(shape)}."
        )


class BertModel(BertPreTrainedModel):
    """BERT without a head, that can drop the least significant tokens layer by layer.

    With ``config.is_decoder`` it is a decoder: each token attends to earlier ones only, and keys and values can be kept
    for the next step. With ``config.add_cross_attention`` as well it attends to an encoder's states. A decoder drops no
    tokens.

    Raises:
        InputError: On construction, if the config asks for cross-attention in an encoder.
        LengthConfigError: On construction, if ``config.length_config`` breaks a rule, or is set for a decoder.
    """

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True) -> None:
        super().__init__(config)
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
        self.set_length_config(getattr(config, "length_config", None))
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings.

        Returns:
            The module that turns ``input_ids`` into states.
        """
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings.

        Args:
            value: An ``nn.Embedding`` of the same width.
        """
        self.embeddings.word_embeddings = value  # type: ignore[assignment]

    def set_length_config(self, length_config: LengthArgument) -> None:
        """Set the lengths used where ``forward`` is given none; config and checkpoints stay as they are.

        Args:
            length_config: One length a layer, in any form. None or an empty one switches dropping off.

        Raises:
            LengthConfigError: If it breaks a rule, has fewer entries than there are layers, or the model is a decoder.
        """
        config = check_length_config(length_config, self.config.num_hidden_layers)
        if config is not None:
            refuse_dropping(self.config)
        self.length_config = config

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
        cache_position: Tensor | None = None,
    ) -> DynamicModelOutput | tuple[Any, ...]:
        """Run the model.

        Args:
            input_ids: int64 ``[batch, tokens]``. Either these or ``inputs_embeds``.
            attention_mask: 1 or True where a token may be attended to, else 0; any dtype; ``[batch or 1, tokens]`` or
                ``[batch or 1, tokens, tokens]``. None attends to everything. In a decoder the last dimension counts
                the tokens of ``past_key_values`` too, and the first form is made causal; the second is taken as it is.
            token_type_ids: int64 ``[batch, tokens]``; zeros where None.
            position_ids: int64 ``[batch or 1, tokens]``; where None ``cache_position``, else 0, 1, 2, ... onwards from
                the tokens of ``past_key_values``.
            head_mask: 1 to keep a head, 0 to silence it, ``[heads]`` or ``[layers, heads]``.
            inputs_embeds: ``[batch, tokens, hidden]``: word embeddings made elsewhere.
            encoder_hidden_states: ``[batch, encoder tokens, hidden]``, for a decoder with cross-attention; without them
                cross-attention is left out.
            encoder_attention_mask: As ``attention_mask``: ``[batch or 1, encoder tokens]`` or ``[batch or 1, tokens,
                encoder tokens]``.
            past_key_values: What a decoder returned at the step before: one tuple of ``[batch, heads, tokens, head
                size]`` a layer run, of keys and values and, with cross-attention, the encoder's keys and values.
                Or transformers' ``DynamicCache`` or ``EncoderDecoderCache``, which is updated in place.
            use_cache: Return ``past_key_values``, in the form in which they came, first as tuples; None asks the
                config. An encoder has none to return.
            output_attentions: Return the attention probabilities of each layer run; None asks the config.
            output_hidden_states: Return the embeddings and what left each layer run, in the length after its cut;
                None asks the config.
            return_dict: Return ``DynamicModelOutput`` rather than a tuple; None asks the config.
            layer_config: Indices of the layers to run; None means all, an empty one none.
            length_config: Tokens that each layer keeps, one entry a layer, indexed by layer: counts or fractions of
                the input's length, as ``LengthConfig``, text or numbers. None uses what ``set_length_config`` or the
                config has set; an empty one (``()``) drops nothing. While ``torch.jit`` traces it may be an int64
                tensor ``[layers]`` of counts, and becomes an input of the graph.
            always_keep_cls_token: Keep the first token in every layer.
            cache_position: int64 ``[tokens]``: places of the tokens in the whole text, as ``generate()`` gives them.

        Returns:
            ``last_hidden_state`` ``[batch, tokens, hidden]`` has every token of the input: a dropped one in the state
            that entered the layer that dropped it. ``pooler_output`` is ``[batch, hidden]``. ``kept_positions`` has
            the original positions that each layer run kept. The tuple is the reference's: states, pooled state (None
            without a pooler), then those of cache, hidden states, attentions and cross-attentions that there are.

        Raises:
            InputError: If an argument has a wrong shape or value, or is one for decoders and the model is none.
            LengthConfigError: If the length config breaks a rule, or is given to a decoder.
        """
        refuse_decoder_arguments(
            self.config,
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            past_key_values=past_key_values,
        )
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError(
                "Exactly one of input_ids and inputs_embeds must be given, "
                f"got {'neither' if input_ids is None else 'both'}."
            )
        if length_config is None:
            length_config = self.length_config
        if position_ids is None and cache_position is not None:
            position_ids = cache_position.unsqueeze(0)
        past_tokens = count_cached_tokens(past_key_values)
        embeddings = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds, past_tokens)
        encoded = self.encoder(
            embeddings,
            self._extend_attention_mask(attention_mask, embeddings, past_tokens),
            self.get_head_mask(head_mask, self.config.num_hidden_layers),
            encoder_hidden_states,
            self._extend_encoder_mask(encoder_attention_mask, embeddings, encoder_hidden_states),
            past_key_values,
            self.config.use_cache if use_cache is None else use_cache,
            output_attentions=self.config.output_attentions if output_attentions is None else output_attentions,
            output_hidden_states=(
                self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
            ),
            layer_config=layer_config,
            length_config=length_config,
            always_keep_cls_token=always_keep_cls_token,
        )
        pooled = None if self.pooler is None else self.pooler(encoded.last_hidden_state)
        if self.config.use_return_dict if return_dict is None else return_dict:
            return DynamicModelOutput(pooler_output=pooled, **encoded)
        return (encoded.last_hidden_state, pooled, *encoded.to_tuple()[1:])

    def _extend_attention_mask(
        self, attention_mask: Tensor | None, embeddings: Tensor, past_tokens: int
    ) -> Tensor | None:
        """Return the mask in additive form, ``[batch or 1, 1, 1 or tokens, keys]``; an encoder's None stays None.

        None adds nothing to the scores where transformers adds zeros, so that a graph traced without a mask has no
        trace of one.
        """
        batch, tokens = embeddings.shape[:2]
        if attention_mask is None:
            if not self.config.is_decoder:
                return None
            attention_mask = torch.ones(1, past_tokens + tokens, device=embeddings.device)
        if is_tracing():
            if attention_mask.dim() != 2:
                raise InputError(
                    f"attention_mask must be [batch, tokens] while tracing, got {attention_mask.dim()} dimensions."
                )
        else:
            _check_mask("attention_mask", attention_mask, batch, tokens, past_tokens + tokens)
        extended: Tensor = self.get_extended_attention_mask(attention_mask, (batch, tokens), dtype=embeddings.dtype)
        return extended

    def _extend_encoder_mask(
        self, attention_mask: Tensor | None, embeddings: Tensor, encoder_hidden_states: Tensor | None
    ) -> Tensor | None:
        """Return the mask of an encoder's tokens in additive form, ``[batch or 1, 1, 1 or tokens, encoder tokens]``."""
        if attention_mask is None or encoder_hidden_states is None:
            return None
        batch, tokens = embeddings.shape[:2]
        _check_mask("encoder_attention_mask", attention_mask, batch, tokens, encoder_hidden_states.shape[1])
        extended: Tensor = self.invert_attention_mask(attention_mask)
        return extended

    def _prune_heads(self, heads_to_prune: dict[int, list[int]]) -> None:
        """Prune heads layer by layer; ``PreTrainedModel.prune_heads`` calls this and notes them in the config."""
        for layer, heads in heads_to_prune.items():
            bert_layer: Any = self.encoder.layer[layer]
            bert_layer.attention.prune_heads(heads)
