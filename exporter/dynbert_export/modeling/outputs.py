"""What the models return: transformers' output types and, last, the positions that each layer kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    BaseModelOutputWithPoolingAndCrossAttentions,
    CausalLMOutputWithCrossAttentions,
    MaskedLMOutput,
    MultipleChoiceModelOutput,
    NextSentencePredictorOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import ModelOutput

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "BertForPreTrainingOutput",
    "DynamicCausalLMOutput",
    "DynamicEncoderOutput",
    "DynamicMaskedLMOutput",
    "DynamicModelOutput",
    "DynamicMultipleChoiceOutput",
    "DynamicNextSentenceOutput",
    "DynamicOutput",
    "DynamicQuestionAnsweringOutput",
    "DynamicSentenceEmbeddingOutput",
    "DynamicSequenceClassifierOutput",
    "DynamicTokenClassifierOutput",
]


@dataclass
class DynamicOutput(ModelOutput):
    """The field that every output adds to transformers' own."""

    kept_positions: tuple[Tensor, ...] | None = None
    """One int64 tensor ``[batch, kept tokens]`` a layer run: the original positions that the layer kept, in the order
    of its states, which is that of the text (in eager mode with ``config.count_padded_queries``: by significance). None
    where no length config is active."""

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the fields that are not None as a tuple, without ``kept_positions``.

        Code written for the reference or for transformers counts on the tuple's fields; the positions are for those
        who ask for them by name.

        Returns:
            What ``return_dict=False`` gives, and what indexing by number sees.
        """
        return tuple(self[name] for name in self if name != "kept_positions")


@dataclass
class DynamicEncoderOutput(DynamicOutput, BaseModelOutputWithPastAndCrossAttentions):
    """Output of ``BertEncoder``."""


@dataclass
class DynamicModelOutput(DynamicOutput, BaseModelOutputWithPoolingAndCrossAttentions):
    """Output of ``BertModel``."""


@dataclass
class _SentenceEmbeddingFields(ModelOutput):
    """transformers has no such output."""

    sentence_embedding: Tensor | None = None
    """``[batch, hidden]``."""
    hidden_states: tuple[Tensor, ...] | None = None
    """As for ``BertModel``."""
    attentions: tuple[Tensor, ...] | None = None
    """As for ``BertModel``."""


@dataclass
class DynamicSentenceEmbeddingOutput(DynamicOutput, _SentenceEmbeddingFields):
    """Output of ``BertForSentenceEmbedding``."""


@dataclass
class DynamicSequenceClassifierOutput(DynamicOutput, SequenceClassifierOutput):
    """Output of ``BertForSequenceClassification``."""


@dataclass
class DynamicQuestionAnsweringOutput(DynamicOutput, QuestionAnsweringModelOutput):
    """Output of ``BertForQuestionAnswering``."""


@dataclass
class DynamicMultipleChoiceOutput(DynamicOutput, MultipleChoiceModelOutput):
    """Output of ``BertForMultipleChoice``."""


@dataclass
class DynamicNextSentenceOutput(DynamicOutput, NextSentencePredictorOutput):
    """Output of ``BertForNextSentencePrediction``."""


@dataclass
class DynamicTokenClassifierOutput(DynamicOutput, TokenClassifierOutput):
    """Output of ``BertForTokenClassification``."""


@dataclass
class DynamicMaskedLMOutput(DynamicOutput, MaskedLMOutput):
    """Output of ``BertForMaskedLM``."""


@dataclass
class DynamicCausalLMOutput(DynamicOutput, CausalLMOutputWithCrossAttentions):
    """Output of ``BertLMHeadModel``."""


@dataclass
class _PreTrainingFields(ModelOutput):
    """The fields of ``BertForPreTrainingOutput`` in the reference's order, before the one that ours adds."""

    loss: Tensor | None = None
    """Scalar: the sum of the losses of both tasks."""
    prediction_logits: Tensor | None = None
    """``[batch, tokens, vocabulary]``."""
    seq_relationship_logits: Tensor | None = None
    """``[batch, 2]``: the second sentence follows the first, or is a random one."""
    hidden_states: tuple[Tensor, ...] | None = None
    """As for ``BertModel``."""
    attentions: tuple[Tensor, ...] | None = None
    """As for ``BertModel``."""


@dataclass
class BertForPreTrainingOutput(DynamicOutput, _PreTrainingFields):
    """Output of ``BertForPreTraining``."""
