# ruff: noqa: FBT001, FBT002, PLR0913, PLR0917 -- argument names, order and defaults are the reference's public surface
"""The heads. A head is its layers, its loss and its output type; what all of them share stands in ``BertHead``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dynbert.errors import InputError
from dynbert_export.modeling.base import BertPreTrainedModel
from dynbert_export.modeling.model import BertModel
from dynbert_export.modeling.outputs import (
    DynamicModelOutput,
    DynamicOutput,
    DynamicQuestionAnsweringOutput,
    DynamicSequenceClassifierOutput,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from transformers import BertConfig

    from dynbert_export.modeling.selection import LengthArgument

__all__ = ["BertForQuestionAnswering", "BertForSequenceClassification", "BertHead", "classification_loss", "span_loss"]


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str | None) -> Tensor:
    """Return the loss of labels for whole texts.

    Args:
        logits: ``[batch, labels]``.
        labels: Class numbers ``[batch]``, numbers ``[batch]`` or ``[batch, labels]`` to regress, or 0 and 1 for each
            label ``[batch, labels]``.
        problem_type: ``regression``, ``single_label_classification`` or ``multi_label_classification``. None derives
            it as transformers does: regression for one logit, else classes where the labels are whole numbers.

    Returns:
        A scalar: mean squared error, cross entropy or binary cross entropy.

    Raises:
        InputError: If ``problem_type`` is unknown.
    """
    num_labels = logits.shape[-1]
    if problem_type is None:
        is_whole = labels.dtype in {torch.long, torch.int}
        classification = "single_label_classification" if is_whole else "multi_label_classification"
        problem_type = "regression" if num_labels == 1 else classification
    if problem_type == "regression":
        # One number a text: labels come as [batch] or [batch, 1], and broadcasting one against the other is an error.
        return (
            functional.mse_loss(logits.view(-1), labels.view(-1))
            if num_labels == 1
            else (functional.mse_loss(logits, labels))
        )
    if problem_type == "single_label_classification":
        return functional.cross_entropy(logits.view(-1, num_labels), labels.view(-1))
    if problem_type == "multi_label_classification":
        return functional.binary_cross_entropy_with_logits(logits, labels)
    raise InputError(
        "config.problem_type must be regression, single_label_classification or multi_label_classification, "
        f"got {problem_type!r}."
    )


def span_loss(start_logits: Tensor, end_logits: Tensor, start_positions: Tensor, end_positions: Tensor) -> Tensor:
    """Return the loss of answer spans.

    Args:
        start_logits: ``[batch, tokens]``.
        end_logits: ``[batch, tokens]``.
        start_positions: int64 ``[batch]`` or ``[batch, 1]``. Positions outside the input have no part in the loss;
            negative ones count as 0.
        end_positions: The same for the spans' ends.

    Returns:
        A scalar: the mean of both cross entropies.
    """
    tokens = start_logits.shape[1]
    losses = [
        functional.cross_entropy(logits, positions.view(-1).clamp(0, tokens), ignore_index=tokens)
        for logits, positions in ((start_logits, start_positions), (end_logits, end_positions))
    ]
    return (losses[0] + losses[1]) / 2


class BertHead(BertPreTrainedModel):
    """A model with ``self.bert`` and something on top of it."""

    bert: BertModel

    def _encode(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        position_ids: Tensor | None,
        head_mask: Tensor | None,
        inputs_embeds: Tensor | None,
        output_attentions: bool | None,
        output_hidden_states: bool | None,
        layer_config: Iterable[int] | None,
        length_config: LengthArgument,
        always_keep_cls_token: bool | None,
    ) -> DynamicModelOutput:
        """Run ``self.bert`` with the arguments that every head takes."""
        encoded: DynamicModelOutput = self.bert(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            head_mask,
            inputs_embeds,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
            return_dict=True,
            layer_config=layer_config,
            length_config=length_config,
            always_keep_cls_token=always_keep_cls_token,
        )
        return encoded

    def _finish(
        self,
        output_type: Callable[..., DynamicOutput],
        encoded: DynamicModelOutput,
        return_dict: bool | None,
        **fields: Any,
    ) -> Any:
        """Return the head's own fields and those of the encoder as an output or, where asked, as a tuple."""
        output = output_type(
            **fields,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            kept_positions=encoded.kept_positions,
        )
        return output if (self.config.use_return_dict if return_dict is None else return_dict) else output.to_tuple()


class BertForSequenceClassification(BertHead):
    """BERT with a classifier, or a regression, of whole texts on the pooled state."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bert = BertModel(config)
        dropout = config.classifier_dropout
        self.dropout = nn.Dropout(config.hidden_dropout_prob if dropout is None else dropout)
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


class BertForQuestionAnswering(BertHead):
    """BERT with the start and the end of an answer, scored at every token.

    The reference lets this head drop CLS by default; here it stays, as in every head: CLS is where a model
    trained on unanswerable questions points. ``always_keep_cls_token=False`` gives the reference's numbers.

    Raises:
        InputError: On construction, if ``config.num_labels`` is not 2.
    """

    # This head has no pooler; that of a checkpoint goes unused without a warning.
    _keys_to_ignore_on_load_unexpected = [r"^(bert\.)?pooler\."]  # type: ignore[assignment]  # noqa: RUF012

    def __init__(self, config: BertConfig) -> None:
        super().__init__(config)
        if config.num_labels != 2:
            raise InputError(f"config.num_labels must be 2 (start and end of the answer), got {config.num_labels}.")
        self.num_labels = config.num_labels
        self.bert = BertModel(config, add_pooling_layer=False)
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
