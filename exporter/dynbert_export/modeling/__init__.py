"""Dynamic BERT in PyTorch: standard checkpoints in, models that drop the least significant tokens layer by layer.

Owns its modelling code: it builds on transformers' ``PreTrainedModel``, ``BertConfig`` and output types, never on the
BERT modules, which transformers rearranges from release to release.
"""

from __future__ import annotations

from dynbert_export.modeling.attention import BertAttention, BertSelfAttention, BertSelfOutput
from dynbert_export.modeling.base import BertPreTrainedModel
from dynbert_export.modeling.dropping import expand_gather
from dynbert_export.modeling.embeddings import BertEmbeddings
from dynbert_export.modeling.encoder import BertEncoder
from dynbert_export.modeling.heads.encoder_heads import (
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertOnlyNSPHead,
)
from dynbert_export.modeling.heads.language_heads import (
    BertForMaskedLM,
    BertForPreTraining,
    BertLMHeadModel,
    BertLMPredictionHead,
    BertOnlyMLMHead,
    BertPredictionHeadTransform,
    BertPreTrainingHeads,
)
from dynbert_export.modeling.heads.sentence_embedding import BertForSentenceEmbedding, embed
from dynbert_export.modeling.layer import BertIntermediate, BertLayer, BertOutput, BertPooler
from dynbert_export.modeling.model import BertModel
from dynbert_export.modeling.outputs import (
    BertForPreTrainingOutput,
    DynamicCausalLMOutput,
    DynamicEncoderOutput,
    DynamicMaskedLMOutput,
    DynamicModelOutput,
    DynamicMultipleChoiceOutput,
    DynamicNextSentenceOutput,
    DynamicQuestionAnsweringOutput,
    DynamicSentenceEmbeddingOutput,
    DynamicSequenceClassifierOutput,
    DynamicTokenClassifierOutput,
)
from dynbert_export.modeling.tf_checkpoint import load_tf_weights_in_bert

__all__ = [
    "BertAttention",
    "BertEmbeddings",
    "BertEncoder",
    "BertForMaskedLM",
    "BertForMultipleChoice",
    "BertForNextSentencePrediction",
    "BertForPreTraining",
    "BertForPreTrainingOutput",
    "BertForQuestionAnswering",
    "BertForSentenceEmbedding",
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertIntermediate",
    "BertLMHeadModel",
    "BertLMPredictionHead",
    "BertLayer",
    "BertModel",
    "BertOnlyMLMHead",
    "BertOnlyNSPHead",
    "BertOutput",
    "BertPooler",
    "BertPreTrainedModel",
    "BertPreTrainingHeads",
    "BertPredictionHeadTransform",
    "BertSelfAttention",
    "BertSelfOutput",
    "DynamicCausalLMOutput",
    "DynamicEncoderOutput",
    "DynamicMaskedLMOutput",
    "DynamicModelOutput",
    "DynamicMultipleChoiceOutput",
    "DynamicNextSentenceOutput",
    "DynamicQuestionAnsweringOutput",
    "DynamicSentenceEmbeddingOutput",
    "DynamicSequenceClassifierOutput",
    "DynamicTokenClassifierOutput",
    "embed",
    "expand_gather",
    "load_tf_weights_in_bert",
]
