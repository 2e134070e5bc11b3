# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 -- argument names, order and defaults are the reference's public surface
"""The stack of layers, and the one place where a length config becomes one length a layer."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor, nn

from dynbert.errors import LengthConfigError
from dynbert_export.modeling.decoder import read_cache, refuse_decoder_arguments, refuse_dropping, write_cache
from dynbert_export.modeling.dropping import (
    LengthArgument,
    TokenTracker,
    check_length_config,
    find_voting_queries,
    is_traced_length,
    is_tracing,
    select_layers,
)
from dynbert_export.modeling.layer import BertLayer
from dynbert_export.modeling.outputs import DynamicEncoderOutput

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from transformers import BertConfig

    from dynbert_export.modeling.decoder import LayerCache

__all__ = ["BertEncoder"]

logger = logging.getLogger(__name__)


@functools.cache
def _warn_once(message: str) -> None:
    """Log a warning at the first of many steps."""
    logger.warning(message)


class _LayerTensors(NamedTuple):
    """The tensors that a layer is run with beside a decoder's cache, see ``BertLayer``."""

    hidden_states: Tensor
    attention_mask: Tensor | None
    head_mask: Tensor | None
    query_votes: Tensor | None
    positions: Tensor | None
    encoder_hidden_states: Tensor | None
    encoder_attention_mask: Tensor | None


class _LayerResult(NamedTuple):
    """What a layer returned; the last two where they were asked for."""

    kept: Tensor | None
    present: LayerCache | None
    """Where a cache is to be returned."""
    hidden_states: Tensor
    attention_probs: Tensor | None = None
    cross_attention_probs: Tensor | None = None


@dataclass
class _Record:
    """What is returned of each layer run."""

    # Any: transformers' output types ask for FloatTensor, a type that nothing returns.
    hidden_states: list[Any] = field(default_factory=list)
    attentions: list[Any] = field(default_factory=list)
    cross_attentions: list[Any] = field(default_factory=list)
    presents: list[LayerCache] = field(default_factory=list)
    positions: list[Tensor] = field(default_factory=list)

    def add_layer(self, result: _LayerResult, *, output_hidden_states: bool) -> None:
        """Note what a layer returned."""
        if output_hidden_states:
            self.hidden_states.append(result.hidden_states)
        if result.attention_probs is not None:
            self.attentions.append(result.attention_probs)
        if result.cross_attention_probs is not None:
            self.cross_attentions.append(result.cross_attention_probs)
        if result.present is not None:
            self.presents.append(result.present)


class BertEncoder(nn.Module):
    """Transformer layers, each of which may drop tokens; with ``config.is_decoder`` those of a decoder."""

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
            attention_mask: Additive, ``[batch or 1, 1, 1 or tokens, tokens]``; the one-row form while tracing. In a
                decoder earlier tokens stand before the last ones.
            head_mask: One a layer, or None.
            encoder_hidden_states: ``[batch, encoder tokens, hidden]``, for a decoder with cross-attention.
            encoder_attention_mask: Additive, ``[batch or 1, 1, 1 or tokens, encoder tokens]``.
            past_key_values: What a decoder returned at the step before, one entry a layer run.
            use_cache: Return ``past_key_values``; ignored by an encoder, which has none.
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
            InputError: If an encoder is given an argument for decoders, the cache does not fit, or a layer does not
                exist.
            LengthConfigError: If the length config breaks a rule, or is given to a decoder.
        """
        refuse_decoder_arguments(
            self.config, encoder_hidden_states=encoder_hidden_states, past_key_values=past_key_values
        )
        use_cache = self._check_use_cache(use_cache)
        keep_cls = bool(always_keep_cls_token)
        lengths = self._resolve_lengths(length_config, hidden_states, always_keep_cls_token=keep_cls)
        tracker = self._track_tokens(attention_mask, hidden_states, is_cut=lengths is not None)
        layers = select_layers(layer_config, len(self.layer))
        pasts = read_cache(past_key_values, len(layers), has_encoder=encoder_hidden_states is not None)
        record = _Record(hidden_states=[hidden_states] if output_hidden_states else [])
        for index, past in zip(layers, pasts, strict=True):
            result = self._run_layer(
                index,
                _LayerTensors(
                    hidden_states=hidden_states,
                    attention_mask=tracker.attention_mask,
                    head_mask=None if head_mask is None else head_mask[index],
                    query_votes=tracker.query_votes,
                    positions=tracker.positions,
                    encoder_hidden_states=encoder_hidden_states,
                    encoder_attention_mask=encoder_attention_mask,
                ),
                past,
                output_attentions=output_attentions,
                output_length=None if lengths is None else lengths[index],
                always_keep_cls_token=keep_cls,
                use_cache=use_cache,
            )
            if result.kept is not None:
                tracker.drop(result.kept, hidden_states)
            hidden_states = result.hidden_states
            record.add_layer(result, output_hidden_states=bool(output_hidden_states))
            if lengths is not None:
                record.positions.append(tracker.list_positions(hidden_states))

        restored: Any = tracker.restore(hidden_states)
        output = DynamicEncoderOutput(
            last_hidden_state=restored,
            past_key_values=write_cache(past_key_values, record.presents, restored.shape[1]) if use_cache else None,
            hidden_states=tuple(record.hidden_states) if output_hidden_states else None,
            attentions=tuple(record.attentions) if output_attentions else None,
            cross_attentions=tuple(record.cross_attentions) if record.cross_attentions else None,
            kept_positions=None if lengths is None else tuple(record.positions),
        )
        return output if return_dict else output.to_tuple()

    def _check_use_cache(self, use_cache: bool | None) -> bool:
        """Return whether a cache is to be returned; layers that run again backwards must not fill one twice."""
        if not (use_cache and self.config.is_decoder):
            return False
        if self.gradient_checkpointing and self.training:
            _warn_once("use_cache is set to False: it is incompatible with gradient checkpointing.")
            return False
        return True

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
        tensors: _LayerTensors,
        past: LayerCache | None,
        *,
        output_attentions: bool | None,
        output_length: int | Tensor | None,
        always_keep_cls_token: bool,
        use_cache: bool,
    ) -> _LayerResult:
        """Run one layer, keeping its activations or, with gradient checkpointing, computing them again backwards.

        Args:
            index: Of the layer.
            tensors: What it is run with.
            past: A decoder's keys and values of the tokens that went before.
            output_attentions: As for the layer.
            output_length: As for the layer.
            always_keep_cls_token: As for the layer.
            use_cache: Whether a decoder's keys and values are wanted.

        Returns:
            What the layer returns.
        """
        layer = self.layer[index]

        # Each tensor is an argument of its own: a reentrant checkpoint finds none in a tuple, and would cut the graph
        # without a word.
        def run(
            hidden_states: Tensor,
            attention_mask: Tensor | None,
            head_mask: Tensor | None,
            query_votes: Tensor | None,
            positions: Tensor | None,
            encoder_hidden_states: Tensor | None,
            encoder_attention_mask: Tensor | None,
            *past: Tensor,
        ) -> tuple[Any, ...]:
            outputs, kept = layer(
                hidden_states,
                attention_mask,
                head_mask,
                encoder_hidden_states,
                encoder_attention_mask,
                past or None,
                output_attentions=output_attentions,
                output_length=output_length,
                always_keep_cls_token=always_keep_cls_token,
                query_votes=query_votes,
                positions=positions,
            )
            present = None
            if self.config.is_decoder:
                *outputs, present = outputs
            return (kept, present if use_cache else None, *outputs)

        is_checkpointed = self.gradient_checkpointing and self.training
        checkpointed = functools.partial(self._gradient_checkpointing_func, run) if is_checkpointed else run
        return _LayerResult(*checkpointed(*tensors, *(past or ())))

    def _resolve_lengths(
        self, length_config: LengthArgument, hidden_states: Tensor, *, always_keep_cls_token: bool
    ) -> Sequence[int] | Tensor | None:
        """Return one length a layer for this input, or None where nothing is dropped."""
        if isinstance(length_config, Tensor) and is_traced_length(length_config):
            return length_config  # its entries are read by index; the graph checks nothing but clamps
        config = check_length_config(length_config, len(self.layer))
        if config is None:
            return None
        refuse_dropping(self.config)
        if not is_tracing():
            return config.resolve(hidden_states.shape[1], always_keep_cls_token=always_keep_cls_token)
        if config.is_fractional:
            raise LengthConfigError(
                f"A traced length config must be token counts, got fractions: {config}. Fractions would be those of "
                "the example's length; trace with the lengths as an int64 tensor input and resolve them outside."
            )
        return [int(length) for length in config.lengths]
