"""Small random models and inputs, and a slow plain oracle of token dropping."""

from __future__ import annotations

import torch
import transformers
from transformers import BertConfig

from dynbert_export.modeling import (
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForNextSentencePrediction,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLMHeadModel,
)

SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
TOKEN_LABELS = torch.tensor([[5, -100, 1, 0] * 4, [1, 0, -100, 1] * 2 + [-100] * 8])
LABELS = {
    BertForPreTraining: {"labels": TOKEN_LABELS, "next_sentence_label": torch.tensor([0, 1])},
    BertLMHeadModel: {"labels": TOKEN_LABELS},
    BertForMaskedLM: {"labels": TOKEN_LABELS},
    BertForNextSentencePrediction: {"labels": torch.tensor([1, 0])},
    BertForSequenceClassification: {"labels": torch.tensor([1, 0])},
    BertForMultipleChoice: {"labels": torch.tensor([1, 0])},
    BertForTokenClassification: {"labels": TOKEN_LABELS.clamp(max=1)},
    BertForQuestionAnswering: {"start_positions": torch.tensor([3, 1]), "end_positions": torch.tensor([5, 60])},
}
HEAD_CLASSES = list(LABELS)
"""The heads that have a loss."""


def make_config(**changes):
    return BertConfig(**{**SIZES, **changes})


def make_model(model_class, seed=0, **changes):
    """Return a model in eval mode with weights large enough that attention, and so significance, is uneven."""
    model = model_class(make_config(**changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale, shift = (0.1, 1.0) if name.endswith("LayerNorm.weight") else (0.2, 0.0)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale + shift)
    return model.eval()


def make_transformers_twin(model):
    """Return transformers' model of the same name with the same weights and plain attention."""
    config = BertConfig.from_dict(model.config.to_dict(), attn_implementation="eager")
    twin_class = getattr(transformers, type(model).__name__)
    has_pooler = "pooler" in {name.split(".")[0] for name in model.state_dict()}
    twin = twin_class(config) if twin_class is not transformers.BertModel else twin_class(config, has_pooler)
    twin.load_state_dict(model.state_dict())
    return twin.eval()


def make_inputs(lengths, tokens=None, seed=0):
    """Return ids, mask and token types for texts of these lengths, padded at the end to ``tokens``."""
    generator = torch.Generator().manual_seed(seed)
    tokens = tokens or max(lengths)
    mask = (torch.arange(tokens)[None] < torch.tensor(lengths)[:, None]).long()
    input_ids = torch.randint(1, SIZES["vocab_size"], mask.shape, generator=generator) * mask
    token_type_ids = torch.randint(0, 2, mask.shape, generator=generator) * mask
    return {"input_ids": input_ids, "attention_mask": mask, "token_type_ids": token_type_ids}


def make_head_inputs(model_class, lengths, tokens=None):
    """Return ``make_inputs`` for any head; for multiple choice each text comes as one of two choices."""
    inputs = make_inputs(lengths, tokens)
    if "MultipleChoice" not in model_class.__name__:
        return inputs
    return {name: torch.stack([value, value.flip(0)], dim=1) for name, value in inputs.items()}


def make_arguments(head, **changes):
    """Return inputs and labels for a head."""
    return {**make_head_inputs(head, [16, 9]), **LABELS[head], **changes}


def run_oracle(twin, inputs, lengths, *, always_keep_cls_token=True, count_padded_queries=False):
    """Drop and restore one text at a time, with transformers' modules and Python loops over tokens.

    Returns the last hidden state ``[batch, tokens, hidden]`` and, for each text, the positions each layer kept.
    """
    finals, kept_of_texts = [], []
    for row in range(len(inputs["input_ids"])):
        mask = inputs["attention_mask"][row]
        states = twin.embeddings(inputs["input_ids"][row][None], inputs["token_type_ids"][row][None])
        final, positions, kept_of_layers = states[0].clone(), list(range(len(mask))), []
        for layer, length in zip(twin.encoder.layer, lengths, strict=True):
            additive = (1.0 - mask[positions].float()) * torch.finfo(torch.float32).min
            attended, probs = layer.attention(states, additive[None, None, None], output_attentions=True)
            voters = [q for q, position in enumerate(positions) if count_padded_queries or mask[position]]
            significance = [sum(probs[0, :, q, k].sum().item() for q in voters) for k in range(len(positions))]
            ranking = sorted(range(len(positions)), key=lambda k: (-significance[k], k))
            if always_keep_cls_token:
                ranking.remove(0)
                ranking.insert(0, 0)
            kept = sorted(ranking[:length])
            attended = attended[:, kept]
            states = layer.output(layer.intermediate(attended), attended)
            positions = [positions[k] for k in kept]
            kept_of_layers.append(positions)
            final[positions] = states[0]
        finals.append(final)
        kept_of_texts.append(kept_of_layers)
    return torch.stack(finals), kept_of_texts
