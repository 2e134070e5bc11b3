"""What the models return: transformers' output types and, last, the positions that each layer kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from transformers.modeling_outputs import (
    BaseModelOutputWithPastAndCrossAttentions,
    BaseModelOutputWithPoolingAndCrossAttentions,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
)
from transformers.utils.generic import ModelOutput

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "DynamicEncoderOutput",
    "DynamicModelOutput",
    "DynamicOutput",
    "DynamicQuestionAnsweringOutput",
    "DynamicSequenceClassifierOutput",
]


@dataclass
class DynamicOutput(ModelOutput):
    """The field that every output adds to transformers' own."""

    kept_positions: tuple[Tensor, ...] | None = None
    """One int64 tensor ``[batch, kept tokens]`` a layer run: the original positions, ascending, that the layer kept.
    None where no length config is active."""

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
class DynamicSequenceClassifierOutput(DynamicOutput, SequenceClassifierOutput):
    """Output of ``BertForSequenceClassification``."""


@dataclass
class DynamicQuestionAnsweringOutput(DynamicOutput, QuestionAnsweringModelOutput):
    """Output of ``BertForQuestionAnswering``."""
