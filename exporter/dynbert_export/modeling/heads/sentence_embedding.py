# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 -- the arguments of every head's forward, passed on by position
"""Embeddings: one vector a text, pooled from the states of its tokens. Ours; the reference has no such head.

A mean is that of the tokens which the last layer kept, and which are no padding: the state of a dropped token is an
unfinished one, and to put it back would cost more than the mean. Where nothing is dropped it is sentence-transformers'
mean. CLS is read where the model has put it back, so that a model which may drop it has an answer as well.

The head has no weights of its own. ``model.bert`` is the ``BertModel``, and ``model.bert.save_pretrained`` writes the
checkpoint that sentence-transformers expects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dynbert.errors import InputError
from dynbert.manifest import PoolingMode
from dynbert_export.modeling.dropping import is_tracing
from dynbert_export.modeling.heads.base import NO_POOLER, BertHead
from dynbert_export.modeling.outputs import DynamicSentenceEmbeddingOutput

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from torch import Tensor
    from transformers import BertConfig

    from dynbert.manifest import Pooling
    from dynbert_export.modeling.dropping import LengthArgument
    from dynbert_export.modeling.model import BertModel
    from dynbert_export.modeling.outputs import DynamicModelOutput

__all__ = ["BertForSentenceEmbedding", "embed", "pool_states"]

_LEAST_TOKENS = 1e-9
_LEAST_NORM = 1e-12


class BertForSentenceEmbedding(BertHead):
    """BERT with one vector a text.

    Args:
        config: Of the model.
        pooling: How to make it. Not a part of the config: a checkpoint says it in sentence-transformers' files.
    """

    _keys_to_ignore_on_load_unexpected = NO_POOLER

    def __init__(self, config: BertConfig, pooling: Pooling) -> None:
        super().__init__(config, add_pooling_layer=False)
        self.pooling = pooling
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
    ) -> DynamicSentenceEmbeddingOutput | tuple[Any, ...]:
        """Embed texts; the arguments are those of ``BertModel``.

        Returns:
            ``sentence_embedding`` ``[batch, hidden]``; the encoder's fields.
        """
        is_wanted = self.config.output_hidden_states if output_hidden_states is None else output_hidden_states
        has_states = is_wanted or self.pooling.mode is PoolingMode.MEAN
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, has_states, layer_config, length_config, always_keep_cls_token,
        )  # fmt: skip
        output = DynamicSentenceEmbeddingOutput(
            sentence_embedding=pool_states(encoded, attention_mask, self.pooling),
            hidden_states=encoded.hidden_states if is_wanted else None,
            attentions=encoded.attentions,
            kept_positions=encoded.kept_positions,
        )
        return output if (self.config.use_return_dict if return_dict is None else return_dict) else output.to_tuple()


def embed(
    model: BertModel,
    inputs: Mapping[str, Tensor],
    pooling: Pooling,
    *,
    length_config: LengthArgument = None,
    always_keep_cls_token: bool = True,
) -> Tensor:
    """Embed texts with a plain BERT, as a graph of the same length config does. Gradients flow to all of its weights.

    Args:
        model: In any mode; its pooler, if it has one, is not read.
        inputs: What ``BertModel`` takes as tensors, by name: ``input_ids`` and ``attention_mask`` at least, where texts
            are padded.
        pooling: How to.
        length_config: Tokens that each layer keeps, as for ``BertModel``.
        always_keep_cls_token: Keep the first token in every layer.

    Returns:
        ``[batch, hidden]``, float32 or more.
    """
    encoded: DynamicModelOutput = model(
        **inputs,
        output_hidden_states=True,
        return_dict=True,
        length_config=length_config,
        always_keep_cls_token=always_keep_cls_token,
    )
    return pool_states(encoded, inputs.get("attention_mask"), pooling)


def pool_states(encoded: DynamicModelOutput, attention_mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Make embeddings of what an encoder gave.

    Args:
        encoded: With ``hidden_states``, for a mean.
        attention_mask: As it was given to the encoder, ``[batch or 1, tokens]``; None where nothing is padded.
        pooling: How to.

    Returns:
        ``[batch, hidden]``, float32 where the states are of half precision.

    Raises:
        InputError: If a mean is asked for without hidden states, or with a mask of one row a query.
    """
    states: Any = encoded.last_hidden_state  # never None
    embedding = _in_full(states[:, 0]) if pooling.mode is PoolingMode.CLS else _average(encoded, attention_mask)
    if pooling.normalize:
        embedding = embedding / embedding.norm(dim=1, keepdim=True).clamp(min=_LEAST_NORM)
    return embedding


def _average(encoded: DynamicModelOutput, attention_mask: Tensor | None) -> Tensor:
    """Return the mean of the states that left the last layer, ``[batch, hidden]``."""
    if not encoded.hidden_states:
        raise InputError("hidden_states must be among the encoder's outputs, got none. Pass output_hidden_states=True.")
    states = _in_full(encoded.hidden_states[-1])  # [batch, kept tokens, hidden]
    if attention_mask is None:
        return states.mean(dim=1)
    weights = _weigh(attention_mask, states, encoded.kept_positions)
    total = (states * weights.unsqueeze(-1)).sum(dim=1)
    return total / weights.sum(dim=1, keepdim=True).clamp(min=_LEAST_TOKENS)


def _weigh(attention_mask: Tensor, states: Tensor, kept_positions: tuple[Tensor, ...] | None) -> Tensor:
    """Return 1 for each token that is left and no padding, else 0: ``[batch, kept tokens]`` in the states' dtype."""
    if attention_mask.dim() != 2:
        raise InputError(
            f"attention_mask must be [batch or 1, tokens] for a mean, got {attention_mask.dim()} dimensions."
        )
    weights = attention_mask.to(states.dtype)
    if not kept_positions:
        return weights
    if not is_tracing():  # each text keeps tokens of its own
        weights = weights.expand(states.shape[0], -1)
    return weights.gather(1, kept_positions[-1])


def _in_full(states: Tensor) -> Tensor:
    """Return states in which a sum over many tokens keeps its digits."""
    return states.float() if states.dtype in {torch.float16, torch.bfloat16} else states
