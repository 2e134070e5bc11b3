# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 -- argument names, order and defaults are the reference's public surface
"""The heads for texts, choices, tokens and answers."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from dynbert.errors import InputError
from dynbert_export.modeling.heads.base import NO_POOLER, BertHead, make_classifier_dropout
from dynbert_export.modeling.losses import classification_loss, span_loss, token_loss
from dynbert_export.modeling.outputs import (
    DynamicMultipleChoiceOutput,
    DynamicNextSentenceOutput,
    DynamicQuestionAnsweringOutput,
    DynamicSequenceClassifierOutput,
    DynamicTokenClassifierOutput,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import BertConfig

    from dynbert_export.modeling.dropping import LengthArgument

__all__ = [
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertOnlyNSPHead",
]


class BertOnlyNSPHead(nn.Module):
    """Whether the second sentence follows the first."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.seq_relationship = nn.Linear(config.hidden_size, 2)

    def forward(self, pooled_output: Tensor) -> Tensor:
        """Score the two answers.

        Args:
            pooled_output: ``[batch, hidden]``.

        Returns:
            ``[batch, 2]``: it does, it does not.
        """
        scores: Tensor = self.seq_relationship(pooled_output)
        return scores


class BertForNextSentencePrediction(BertHead):
    """BERT with the answer to: does the second sentence follow the first?"""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.cls = BertOnlyNSPHead(config)
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
        **kwargs: Any,
    ) -> DynamicNextSentenceOutput | tuple[Any, ...]:
        """Score sentence pairs; the arguments are those of ``BertModel`` and ``labels``.

        Args:
            input_ids: See ``BertModel``, as for the others.
            attention_mask: See there.
            token_type_ids: See there.
            position_ids: See there.
            head_mask: See there.
            inputs_embeds: See there.
            labels: int64 ``[batch]``: 0 where the second sentence follows, 1 where it is a random one.
            output_attentions: See there.
            output_hidden_states: See there.
            return_dict: See there.
            layer_config: See there.
            length_config: See there.
            always_keep_cls_token: See there.
            **kwargs: ``next_sentence_label``, the old name of ``labels``, and nothing else.

        Returns:
            ``loss``, a scalar, where ``labels`` are given; ``logits`` ``[batch, 2]``; the encoder's fields.

        Raises:
            TypeError: If there is any other argument; the reference swallows it, a length config of its own included.
        """
        if "next_sentence_label" in kwargs:
            message = "next_sentence_label is deprecated and will be removed, pass labels instead."
            warnings.warn(message, FutureWarning, stacklevel=2)
            labels = kwargs.pop("next_sentence_label")
        if kwargs:
            raise TypeError(f"forward() has no argument {', '.join(sorted(kwargs))}.")
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, layer_config, length_config, always_keep_cls_token,
        )  # fmt: skip
        logits = self.cls(encoded.pooler_output)
        loss = None if labels is None else token_loss(logits, labels)
        output: DynamicNextSentenceOutput | tuple[Any, ...] = self._finish(
            DynamicNextSentenceOutput, encoded, return_dict, loss=loss, logits=logits
        )
        return output


class BertForSequenceClassification(BertHead):
    """BERT with a classifier, or a regression, of whole texts on the pooled state."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.dropout = make_classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
    ) -> DynamicSequenceClassifierOutput | tuple[Any, ...]:
        """Classify texts; the arguments are those of ``BertModel`` and ``labels``, see ``classification_loss``.

        Returns:
            ``loss``, a scalar, where ``labels`` are given; ``logits`` ``[batch, labels]``; the encoder's fields.
        """
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, layer_config, length_config, always_keep_cls_token,
        )  # fmt: skip
        logits = self.classifier(self.dropout(encoded.pooler_output))
        loss = None if labels is None else classification_loss(logits, labels, self.config.problem_type)
        output: DynamicSequenceClassifierOutput | tuple[Any, ...] = self._finish(
            DynamicSequenceClassifierOutput, encoded, return_dict, loss=loss, logits=logits
        )
        return output


def _flatten_choices(tensor: Tensor | None, choices: Any) -> Tensor | None:
    """Return ``[batch or 1, choices or 1, ...]`` as ``[batch * choices, ...]``."""
    if tensor is None:
        return None
    return tensor.expand(*choices, *tensor.shape[2:]).flatten(0, 1)


class BertForMultipleChoice(BertHead):
    """BERT with a score for each of several texts, of which one is to be chosen."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.dropout = make_classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, 1)
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
    ) -> DynamicMultipleChoiceOutput | tuple[Any, ...]:
        """Score choices; the arguments are those of ``BertModel`` with a dimension for the choices, and ``labels``.

        Args:
            input_ids: int64 ``[batch, choices, tokens]``. Either these or ``inputs_embeds``.
            attention_mask: As for ``BertModel``, ``[batch or 1, choices or 1, tokens]`` or with a row for each query.
            token_type_ids: int64 ``[batch or 1, choices or 1, tokens]``.
            position_ids: int64 ``[batch or 1, choices or 1, tokens]``.
            head_mask: See ``BertModel``.
            inputs_embeds: ``[batch, choices, tokens, hidden]``.
            labels: int64 ``[batch]``: which choice is right.
            output_attentions: See ``BertModel``.
            output_hidden_states: See there.
            return_dict: See there.
            layer_config: See there.
            length_config: See there.
            always_keep_cls_token: See there.

        Returns:
            ``loss``, a scalar, where ``labels`` are given; ``logits`` ``[batch, choices]``; the encoder's fields, one
            row a choice: ``[batch * choices, ...]``.

        Raises:
            InputError: If there is no dimension for the choices.
        """
        given = inputs_embeds if input_ids is None else input_ids
        if given is not None and given.dim() != (4 if input_ids is None else 3):
            name, shape = ("inputs_embeds", ", hidden") if input_ids is None else ("input_ids", "")
            raise InputError(f"{name} must be [batch, choices, tokens{shape}], got {list(given.shape)}.")
        choices = None if given is None else given.shape[:2]
        encoded = self._encode(
            _flatten_choices(input_ids, choices), _flatten_choices(attention_mask, choices),
            _flatten_choices(token_type_ids, choices), _flatten_choices(position_ids, choices),
            head_mask, _flatten_choices(inputs_embeds, choices),
            output_attentions, output_hidden_states, layer_config, length_config, always_keep_cls_token,
        )  # fmt: skip
        logits = self.classifier(self.dropout(encoded.pooler_output)).reshape(choices)
        loss = None if labels is None else token_loss(logits, labels)
        output: DynamicMultipleChoiceOutput | tuple[Any, ...] = self._finish(
            DynamicMultipleChoiceOutput, encoded, return_dict, loss=loss, logits=logits
        )
        return output


class BertForTokenClassification(BertHead):
    """BERT with a classifier of tokens."""

    _keys_to_ignore_on_load_unexpected = NO_POOLER

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, add_pooling_layer=False)
        self.num_labels = config.num_labels
        self.dropout = make_classifier_dropout(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
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
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
    ) -> DynamicTokenClassifierOutput | tuple[Any, ...]:
        """Classify tokens; the arguments are those of ``BertModel`` and ``labels``, see ``token_loss``.

        Returns:
            ``loss``, a scalar, where ``labels`` are given; ``logits`` ``[batch, tokens, labels]``, for dropped tokens
            too; the encoder's fields.
        """
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, layer_config, length_config, always_keep_cls_token,
        )  # fmt: skip
        logits = self.classifier(self.dropout(encoded.last_hidden_state))
        loss = None if labels is None else token_loss(logits, labels)
        output: DynamicTokenClassifierOutput | tuple[Any, ...] = self._finish(
            DynamicTokenClassifierOutput, encoded, return_dict, loss=loss, logits=logits
        )
        return output


class BertForQuestionAnswering(BertHead):
    """BERT with the start and the end of an answer, scored at every token.

    The reference lets this head drop CLS by default; here it stays, as in every head: CLS is where a model
    trained on unanswerable questions points. ``always_keep_cls_token=False`` gives the reference's numbers.

    Raises:
        InputError: On construction, if ``config.num_labels`` is not 2.
    """

    _keys_to_ignore_on_load_unexpected = NO_POOLER

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config, add_pooling_layer=False)
        if config.num_labels != 2:
            raise InputError(f"config.num_labels must be 2 (start and end of the answer), got {config.num_labels}.")
        self.num_labels = config.num_labels
        self.qa_outputs = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        head_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
        layer_config: Iterable[int] | None = None,
        length_config: LengthArgument = None,
        always_keep_cls_token: bool | None = True,
    ) -> DynamicQuestionAnsweringOutput | tuple[Any, ...]:
        """Score answers; the arguments are those of ``BertModel`` and the answers' positions, see ``span_loss``.

        Returns:
            ``loss``, a scalar, where both positions are given; ``start_logits`` and ``end_logits`` ``[batch,
            tokens]``, for dropped tokens too; the encoder's fields.
        """
        encoded = self._encode(
            input_ids, attention_mask, token_type_ids, position_ids, head_mask, inputs_embeds,
            output_attentions, output_hidden_states, layer_config, length_config, always_keep_cls_token,
        )  # fmt: skip
        logits = self.qa_outputs(encoded.last_hidden_state)  # [batch, tokens, 2]
        start_logits, end_logits = logits[..., 0], logits[..., 1]
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = span_loss(start_logits, end_logits, start_positions, end_positions)
        output: DynamicQuestionAnsweringOutput | tuple[Any, ...] = self._finish(
            DynamicQuestionAnsweringOutput, encoded, return_dict,
            loss=loss, start_logits=start_logits, end_logits=end_logits,
        )  # fmt: skip
        return output
