# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 -- argument names, order and defaults are the reference's public surface
"""The stack of layers, and the one place where a length config becomes one length a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dynbert.errors import LengthConfigError
from dynbert_export.modeling.attention import refuse_decoder_arguments
from dynbert_export.modeling.layer import BertLayer
from dynbert_export.modeling.outputs import DynamicEncoderOutput
from dynbert_export.modeling.selection import (
    LengthArgument,
    TokenTracker,
    check_length_config,
    find_voting_queries,
    is_traced_length,
    is_tracing,
    select_layers,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import BertConfig

__all__ = ["BertEncoder"]


class BertEncoder(nn.Module):
    """Transformer layers, each of which may drop tokens."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.config = config
        self.layer = nn.ModuleList(BertLayer(config) for _ in range(config.num_hidden_layers))
        self.gradient_checkpointing = False  # set, with the function, by gradient_checkpointing_enable()
        self._gradient_checkpointing_func: Any = None

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        head_mask: Sequence[Tensor | None] | Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = False,
        output_hidden_states: bool | None = False,
        return_dict: bool | None = True,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
    ) -> DynamicEncoderOutput | tuple[Any, ...]:
        """Run the layers.

        Args:
            hidden_states: ``[batch, tokens, hidden]``.
            attention_mask: Additive, ``[batch or 1, 1, 1 or tokens, tokens]``; the one-row form while tracing.
            head_mask: One a layer, or None.
            encoder_hidden_states: Must be None.
            encoder_attention_mask: Must be None.
            past_key_values: Must be None.
            use_cache: Must be None or False.
            output_attentions: Return the attention probabilities of each layer run, in the length before its cut.
            output_hidden_states: Return what entered the first layer and what left each one, in the length after
                its cut.
            return_dict: Return ``DynamicEncoderOutput`` rather than a tuple.
            layer_config: Indices of the layers to run; None means all, an empty one none.
            length_config: One length a layer, indexed by layer whatever ``layer_config`` leaves out. None or an
                empty one drops nothing. While tracing it may be an int64 tensor ``[layers]`` of counts.
            always_keep_cls_token: Keep the first token in every layer.

        Returns:
            ``last_hidden_state`` ``[batch, tokens, hidden]`` has every token of the input: a dropped one in the state
            that entered the layer that dropped it. The other fields as asked.

        Raises:
            InputError: If an argument for decoders is given, or a layer does not exist.
            LengthConfigError: If the length config breaks a rule.
        """
        refuse_decoder_arguments(
            encoder_hidden_states=encoder_hidden_states,
            encoder_attention_mask=encoder_attention_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
        )
        keep_cls = bool(always_keep_cls_token)
        lengths = self._resolve_lengths(length_config, hidden_states, always_keep_cls_token=keep_cls)
        tracker = self._track_tokens(attention_mask, hidden_states, is_cut=lengths is not None)
        # Any: transformers' output types ask for FloatTensor, a type that nothing returns.
        all_hidden_states: list[Any] = [hidden_states] if output_hidden_states else []
        all_attentions: list[Any] = []
        all_positions: list[Tensor] = []
        for index in select_layers(layer_config, len(self.layer)):
            entering_states = hidden_states
            (hidden_states, *probs), kept = self._run_layer(
                index,
                hidden_states,
                tracker,
                head_mask=None if head_mask is None else head_mask[index],
                output_attentions=output_attentions,
                output_length=None if lengths is None else lengths[index],
                always_keep_cls_token=keep_cls,
            )
            if kept is not None:
                tracker.drop(kept, entering_states)
            if output_hidden_states:
                all_hidden_states.append(hidden_states)
            all_attentions.extend(probs)
            if lengths is not None:
                all_positions.append(tracker.list_positions(hidden_states))

        restored: Any = tracker.restore(hidden_states)
        output = DynamicEncoderOutput(
            last_hidden_state=restored,
            hidden_states=tuple(all_hidden_states) if output_hidden_states else None,
            attentions=tuple(all_attentions) if output_attentions else None,
            kept_positions=None if lengths is None else tuple(all_positions),
        )
        return output if return_dict else output.to_tuple()

    def _track_tokens(self, attention_mask: Tensor | None, hidden_states: Tensor, *, is_cut: bool) -> TokenTracker:
        """Return a tracker of all tokens; votes are needed only where tokens are dropped."""
        if attention_mask is None or not is_cut:
            return TokenTracker(attention_mask, None)
        if not is_tracing():  # each text cuts a mask of batch 1 in its own way
            attention_mask = attention_mask.expand(hidden_states.shape[0], -1, -1, -1)
        count_padded_queries = getattr(self.config, "count_padded_queries", False)
        return TokenTracker(
            attention_mask, find_voting_queries(attention_mask, count_padded_queries=count_padded_queries)
        )

    def _run_layer(
        self,
        index: int,
        hidden_states: Tensor,
        tracker: TokenTracker,
        *,
        head_mask: Tensor | None,
        output_attentions: bool | None,
        output_length: int | Tensor | None,
        always_keep_cls_token: bool,
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Run one layer, keeping its activations or, with gradient checkpointing, computing them again backwards."""
        layer = self.layer[index]

        def run(*tensors: Tensor | None) -> tuple[Tensor | None, ...]:
            states, mask, heads, votes, positions = tensors
            outputs, kept = layer(
                states,
                mask,
                heads,
                output_attentions=output_attentions,
                output_length=output_length,
                always_keep_cls_token=always_keep_cls_token,
                query_votes=votes,
                positions=positions,
            )
            return (kept, *outputs)

        # One flat tuple: reentrant checkpoints find no tensors in a nested one, and would cut the graph without a word.
        tensors = (hidden_states, tracker.attention_mask, head_mask, tracker.query_votes, tracker.positions)
        is_checkpointed = self.gradient_checkpointing and self.training
        kept, *outputs = self._gradient_checkpointing_func(run, *tensors) if is_checkpointed else run(*tensors)
        return tuple(outputs), kept

    def _resolve_lengths(
        self, length_config: LengthArgument, hidden_states: Tensor, *, always_keep_cls_token: bool
    ) -> Sequence[int] | Tensor | None:
        """Return one length a layer for this input, or None where nothing is dropped."""
        if isinstance(length_config, Tensor) and is_traced_length(length_config):
            return length_config  # its entries are read by index; the graph checks nothing but clamps
        config = check_length_config(length_config, len(self.layer))
        if config is None:
            return None
        if not is_tracing():
            return config.resolve(hidden_states.shape[1], always_keep_cls_token=always_keep_cls_token)
        if config.is_fractional:
            raise LengthConfigError(
                f"A traced length config must be token counts, got fractions: {config}. Fractions would be those of "
                "the example's length; trace with the lengths as an int64 tensor input and resolve them outside."
            )
        return [int(length) for length in config.lengths]
