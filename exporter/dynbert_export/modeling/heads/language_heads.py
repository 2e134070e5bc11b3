# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 -- argument names, order and defaults are the reference's public surface
"""The heads that foretell tokens: masked ones, next ones, and both tasks of BERT's pretraining."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from transformers import GenerationMixin

from dynbert.errors import InputError
from dynbert_export.modeling.decoder import count_cached_tokens
from dynbert_export.modeling.heads.base import NO_POOLER, BertHead
from dynbert_export.modeling.heads.encoder_heads import BertOnlyNSPHead
from dynbert_export.modeling.layer import find_activation
from dynbert_export.modeling.losses import next_token_loss, token_loss
from dynbert_export.modeling.outputs import BertForPreTrainingOutput, DynamicCausalLMOutput, DynamicMaskedLMOutput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import BertConfig

    from dynbert_export.modeling.dropping import LengthArgument

__all__ = [
    "BertForMaskedLM",
    "BertForPreTraining",
    "BertLMHeadModel",
    "BertLMPredictionHead",
    "BertOnlyMLMHead",
    "BertPreTrainingHeads",
    "BertPredictionHeadTransform",
]

logger = logging.getLogger(__name__)


class BertPredictionHeadTransform(nn.Module):
    """What stands between the last layer and the vocabulary."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.transform_act_fn = find_activation(config.hidden_act)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Transform.

        Args:
            hidden_states: ``[batch, tokens, hidden]``.

        Returns:
            Same shape.
        """
        transformed: Tensor = self.LayerNorm(self.transform_act_fn(self.dense(hidden_states)))
        return transformed


class BertLMPredictionHead(nn.Module):
    """Scores of the whole vocabulary, with the word embeddings as weights.

    ``bias`` and ``decoder.bias`` are one parameter: checkpoints know the former, ``resize_token_embeddings`` the
    latter.
    """

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        self.decoder.bias = self.bias

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Score.

        Args:
            hidden_states: ``[batch, tokens, hidden]``.

        Returns:
            ``[batch, tokens, vocabulary]``.
        """
        scores: Tensor = self.decoder(self.transform(hidden_states))
        return scores

    def _tie_weights(self) -> None:
        """Make one parameter of both names again; transformers calls this after loading and moving weights."""
        self.decoder.bias = self.bias


class BertOnlyMLMHead(nn.Module):
    """Scores of the vocabulary; gives the prediction head its name in checkpoints."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.predictions = BertLMPredictionHead(config)

    def forward(self, sequence_output: Tensor) -> Tensor:
        """Score.

        Args:
            sequence_output: ``[batch, tokens, hidden]``.

        Returns:
            ``[batch, tokens, vocabulary]``.
        """
        scores: Tensor = self.predictions(sequence_output)
        return scores


class BertPreTrainingHeads(BertOnlyMLMHead):
    """Scores of the vocabulary and of the two answers about the second sentence."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.seq_relationship = BertOnlyNSPHead(config).seq_relationship

    def forward(self, sequence_output: Tensor, pooled_output: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Score.

        Args:
            sequence_output: ``[batch, tokens, hidden]``.
            pooled_output: ``[batch, hidden]``.

        Returns:
            ``[batch, tokens, vocabulary]`` and ``[batch, 2]``.
        """
        return super().forward(sequence_output), self.seq_relationship(pooled_output)


class BertVocabularyHead(BertHead):
    """A head with ``self.cls.predictions``: weights tied to the word embeddings."""

    _tied_weights_keys: Any = ["cls.predictions.decoder.weight", "cls.predictions.decoder.bias"]  # noqa: RUF012

    cls: BertOnlyMLMHead

    def get_output_embeddings(self) -> nn.Linear:
        """Return the layer that scores the vocabulary.

        Returns:
            Its weight is that of the word embeddings, unless ``config.tie_word_embeddings`` is False.
        """
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the layer that scores the vocabulary, its bias included.

        Args:
            new_embeddings: A linear layer from the hidden size to the vocabulary.
        """
        self.cls.predictions.decoder = new_embeddings
        self.cls.predictions.bias = new_embeddings.bias

    def _init_weights(self, module: nn.Module) -> None:
        """Initialise as BERT does; the bias of the vocabulary belongs to no layer that ``nn`` knows."""
        super()._init_weights(module)
        if isinstance(module, BertLMPredictionHead):
            nn.init.zeros_(module.bias)


class BertForPreTraining(BertVocabularyHead):
    """BERT with the two heads of its pretraining."""

    cls: BertPreTrainingHeads

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.cls = BertPreTrainingHeads(config)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        next_sentence_label: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
    ) -> BertForPreTrainingOutput | tuple[Any, ...]:
        """Score the vocabulary and the second sentence; the arguments are those of ``BertModel`` and the labels.

        ``labels`` are those of ``BertForMaskedLM``, ``next_sentence_label`` those of ``BertForNextSentencePrediction``.

        Returns:
            ``loss``, a scalar, the sum of both, where both kinds of labels are given; ``prediction_logits`` ``[batch,
            tokens, vocabulary]``, for dropped tokens too; ``seq_relationship_logits`` ``[batch, 2]``; the encoder's
            fields.
        """
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, layer_config, length_config, always_keep_cls_token,
        )  # fmt: skip
        logits, sentence_logits = self.cls(encoded.last_hidden_state, encoded.pooler_output)
        loss = None
        if labels is not None and next_sentence_label is not None:
            loss = token_loss(logits, labels) + token_loss(sentence_logits, next_sentence_label)
        output: BertForPreTrainingOutput | tuple[Any, ...] = self._finish(
            BertForPreTrainingOutput, encoded, return_dict,
            loss=loss, prediction_logits=logits, seq_relationship_logits=sentence_logits,
        )  # fmt: skip
        return output


class BertForMaskedLM(BertVocabularyHead):
    """BERT with the tokens behind the masked ones."""

    _keys_to_ignore_on_load_unexpected = NO_POOLER

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, add_pooling_layer=False)
        if config.is_decoder:
            logger.warning("config.is_decoder should be False for BertForMaskedLM, which looks in both directions.")
        self.cls = BertOnlyMLMHead(config)
        self.post_init()

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
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
    ) -> DynamicMaskedLMOutput | tuple[Any, ...]:
        """Score the vocabulary; the arguments are those of ``BertModel`` and ``labels``, see ``token_loss``.

        Returns:
            ``loss``, a scalar, where ``labels`` are given; ``logits`` ``[batch, tokens, vocabulary]``, for dropped
            tokens too; the encoder's fields.
        """
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, layer_config, length_config, always_keep_cls_token,
            encoder_hidden_states=encoder_hidden_states, encoder_attention_mask=encoder_attention_mask,
        )  # fmt: skip
        logits = self.cls(encoded.last_hidden_state)
        loss = None if labels is None else token_loss(logits, labels)
        output: DynamicMaskedLMOutput | tuple[Any, ...] = self._finish(
            DynamicMaskedLMOutput, encoded, return_dict, loss=loss, logits=logits
        )
        return output

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        **model_kwargs: Any,  # noqa: ARG002 -- the reference's public signature
    ) -> dict[str, Any]:
        """Append a token to be foretold.

        Args:
            input_ids: int64 ``[batch, tokens]``.
            attention_mask: ``[batch, tokens]``; None attends to all tokens but the new one.
            **model_kwargs: Ignored.

        Returns:
            ``input_ids`` and ``attention_mask``, ``[batch, tokens + 1]``; the new token is padding, and masked.

        Raises:
            InputError: If ``config.pad_token_id`` is None.
        """
        if self.config.pad_token_id is None:
            raise InputError("config.pad_token_id must be set to generate, got None.")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        return {
            "input_ids": nn.functional.pad(input_ids, (0, 1), value=self.config.pad_token_id),
            "attention_mask": nn.functional.pad(attention_mask, (0, 1), value=0),
        }

    @classmethod
    def can_generate(cls) -> bool:
        """Return whether ``generate()`` works; transformers takes the method above for a sign that it does.

        Returns:
            False.
        """
        return False


class BertLMHeadModel(BertVocabularyHead, GenerationMixin):  # type: ignore[misc]  # their bases disagree on a type
    """BERT with the next token, as a decoder: ``generate()`` writes texts."""

    _keys_to_ignore_on_load_unexpected = NO_POOLER

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, add_pooling_layer=False)
        if not config.is_decoder:
            logger.warning("config.is_decoder should be True for BertLMHeadModel: else each token sees the next one.")
        self.cls = BertOnlyMLMHead(config)
        self.post_init()

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
        labels: Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
        cache_position: Tensor | None = None,
    ) -> DynamicCausalLMOutput | tuple[Any, ...]:
        """Score the vocabulary; the arguments are those of ``BertModel`` and ``labels``, see ``next_token_loss``.

        Returns:
            ``loss``, a scalar, where ``labels`` are given; ``logits`` ``[batch, tokens, vocabulary]``; where there are
            no labels, the cache if asked; the encoder's fields.
        """
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, layer_config, length_config, always_keep_cls_token,
            encoder_hidden_states=encoder_hidden_states, encoder_attention_mask=encoder_attention_mask,
            past_key_values=past_key_values, use_cache=use_cache if labels is None else False,
            cache_position=cache_position,
        )  # fmt: skip
        logits = self.cls(encoded.last_hidden_state)
        loss = None if labels is None else next_token_loss(logits, labels)
        output: DynamicCausalLMOutput | tuple[Any, ...] = self._finish(
            DynamicCausalLMOutput, encoded, return_dict, loss=loss, logits=logits
        )
        return output

    def prepare_inputs_for_generation(  # type: ignore[override]  # the reference's public signature
        self,
        input_ids: Any,
        past: Any = None,
        attention_mask: Any = None,
        **model_kwargs: Any,
    ) -> dict[str, Any]:
        """Return the arguments of the next step: the tokens that the cache does not know, and their positions.

        Args:
            input_ids: int64 ``[batch, tokens]``: the text so far, or its last token where there is a cache.
            past: The cache by its old name; ``past_key_values`` goes before it.
            attention_mask: ``[batch, tokens]`` of the whole text; None attends to all tokens. Positions count the
                tokens that it shows, so that texts may be padded on the left.
            **model_kwargs: Further arguments of ``forward``, passed on.

        Returns:
            Arguments of ``forward``.
        """
        past = model_kwargs.pop("past_key_values", past)
        cache_position = model_kwargs.pop("cache_position", None)
        known = count_cached_tokens(past)
        if cache_position is None:
            last = max(input_ids.shape[1], known + 1)
            cache_position = torch.arange(known, last, device=input_ids.device)
        if attention_mask is None:
            attention_mask = input_ids.new_ones(input_ids.shape[0], int(cache_position[-1]) + 1)
        arguments: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, past, attention_mask, cache_position=cache_position, **model_kwargs
        )
        return {"past_key_values": past, **arguments}
