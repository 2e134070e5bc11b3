"""Dynamic BERT in PyTorch: standard checkpoints in, models that drop the least significant tokens layer by layer.

Owns its modelling code: it builds on transformers' ``PreTrainedModel``, ``BertConfig`` and output types, never on the
BERT modules, which transformers rearranges from release to release.
"""

from __future__ import annotations

from dynbert_export.modeling.attention import BertAttention, BertSelfAttention, BertSelfOutput
from dynbert_export.modeling.base import BertPreTrainedModel
from dynbert_export.modeling.embeddings import BertEmbeddings
from dynbert_export.modeling.encoder import BertEncoder
from dynbert_export.modeling.heads import BertForQuestionAnswering, BertForSequenceClassification
from dynbert_export.modeling.layer import BertIntermediate, BertLayer, BertOutput, BertPooler
from dynbert_export.modeling.model import BertModel
from dynbert_export.modeling.outputs import (
    DynamicEncoderOutput,
    DynamicModelOutput,
    DynamicQuestionAnsweringOutput,
    DynamicSequenceClassifierOutput,
)
from dynbert_export.modeling.selection import expand_gather

__all__ = [
    "BertAttention",
    "BertEmbeddings",
    "BertEncoder",
    "BertForQuestionAnswering",
    "BertForSequenceClassification",
    "BertIntermediate",
    "BertLayer",
    "BertModel",
    "BertOutput",
    "BertPooler",
    "BertPreTrainedModel",
    "BertSelfAttention",
    "BertSelfOutput",
    "DynamicEncoderOutput",
    "DynamicModelOutput",
    "DynamicQuestionAnsweringOutput",
    "DynamicSequenceClassifierOutput",
    "expand_gather",
]
