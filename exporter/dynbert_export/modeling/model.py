# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 -- argument names, order and defaults are the reference's public surface
"""BertModel: embeddings, encoder and pooler."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynbert.errors import InputError
from dynbert_export.modeling.attention import refuse_decoder_arguments
from dynbert_export.modeling.base import BertPreTrainedModel
from dynbert_export.modeling.embeddings import BertEmbeddings
from dynbert_export.modeling.encoder import BertEncoder
from dynbert_export.modeling.layer import BertPooler
from dynbert_export.modeling.outputs import DynamicModelOutput
from dynbert_export.modeling.selection import LengthArgument, check_length_config, is_tracing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn
    from transformers import BertConfig

__all__ = ["BertModel"]


class BertModel(BertPreTrainedModel):
    """BERT without a head, that can drop the least significant tokens layer by layer.

    Raises:
        InputError: On construction, if the config asks for a decoder.
        LengthConfigError: On construction, if ``config.length_config`` breaks a rule.
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
            LengthConfigError: If it breaks a rule, or has fewer entries than there are layers.
        """
        self.length_config = check_length_config(length_config, self.config.num_hidden_layers)

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
    ) -> DynamicModelOutput | tuple[Any, ...]:
        """Run the model.

        Args:
            input_ids: int64 ``[batch, tokens]``. Either these or ``inputs_embeds``.
            attention_mask: 1 or True where a token may be attended to, else 0; any dtype; ``[batch or 1, tokens]`` or
                ``[batch or 1, tokens, tokens]``. None attends to everything.
            token_type_ids: int64 ``[batch, tokens]``; zeros where None.
            position_ids: int64 ``[batch or 1, tokens]``; 0, 1, 2, ... where None.
            head_mask: 1 to keep a head, 0 to silence it, ``[heads]`` or ``[layers, heads]``.
            inputs_embeds: ``[batch, tokens, hidden]``: word embeddings made elsewhere.
            encoder_hidden_states: Must be None.
            encoder_attention_mask: Must be None.
            past_key_values: Must be None.
            use_cache: Must be None or False.
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

        Returns:
            ``last_hidden_state`` ``[batch, tokens, hidden]`` has every token of the input: a dropped one in the state
            that entered the layer that dropped it. ``pooler_output`` is ``[batch, hidden]``. ``kept_positions`` has
            the original positions that each layer run kept; tuples leave it out.

        Raises:
            InputError: If an argument has a wrong shape or value, or is one for decoders.
            LengthConfigError: If the length config breaks a rule.
        """
        refuse_decoder_arguments(
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        if (input_ids is None) == (inputs_embeds is None):
            raise InputError(
                "Exactly one of input_ids and inputs_embeds must be given, "
                f"got {'neither' if input_ids is None else 'both'}."
            )
        if length_config is None:
            length_config = self.length_config
        embeddings = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        encoded = self.encoder(
            embeddings,
            self._extend_attention_mask(attention_mask, embeddings),
            self.get_head_mask(head_mask, self.config.num_hidden_layers),
            output_attentions=self.config.output_attentions if output_attentions is None else output_attentions,
            output_hidden_states=(
                self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
            ),
            layer_config=layer_config,
            length_config=length_config,
            always_keep_cls_token=always_keep_cls_token,
        )
        output = DynamicModelOutput(
            last_hidden_state=encoded.last_hidden_state,
            pooler_output=None if self.pooler is None else self.pooler(encoded.last_hidden_state),
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            kept_positions=encoded.kept_positions,
        )
        return output if (self.config.use_return_dict if return_dict is None else return_dict) else output.to_tuple()

    def _extend_attention_mask(self, attention_mask: Tensor | None, embeddings: Tensor) -> Tensor | None:
        """Return the mask in additive form, ``[batch or 1, 1, 1 or tokens, tokens]``; None stays None.

        None adds nothing to the scores where transformers adds zeros, so that a graph traced without a mask has no
        trace of one.
        """
        if attention_mask is None:
            return None
        if is_tracing():
            if attention_mask.dim() != 2:
                raise InputError(
                    f"attention_mask must be [batch, tokens] while tracing, got {attention_mask.dim()} dimensions."
                )
        else:
            batch, tokens = embeddings.shape[:2]
            shape = tuple(attention_mask.shape)
            if shape[:1] not in {(1,), (batch,)} or shape[1:] not in {(tokens,), (tokens, tokens)}:
                raise InputError(
                    f"attention_mask must be [{batch} or 1, {tokens}] or [{batch} or 1, {tokens}, {tokens}] "
                    f"for this input, got {list(shape)}."
                )
        extended: Tensor = self.get_extended_attention_mask(
            attention_mask, embeddings.shape[:2], dtype=embeddings.dtype
        )
        return extended

    def _prune_heads(self, heads_to_prune: dict[int, list[int]]) -> None:
        """Prune heads layer by layer; ``PreTrainedModel.prune_heads`` calls this and notes them in the config."""
        for layer, heads in heads_to_prune.items():
            bert_layer: Any = self.encoder.layer[layer]
            bert_layer.attention.prune_heads(heads)
