"""transformers' Trainer on a model that drops tokens: its predictions are the logits, as the usual metrics expect."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from dynbert_export import modeling

_TOKENS = 8


def _config(**options):
    return transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=16,
        length_config=[5, 3],
        **options,
    )


def _rows(**labels):
    generator = torch.Generator().manual_seed(0)
    return [{"input_ids": torch.randint(1, 50, (_TOKENS,), generator=generator), **labels} for _ in range(4)]


_CASES = {
    "BertForSequenceClassification": (_rows(labels=1), [(4, 3)]),
    "BertForTokenClassification": (_rows(labels=torch.ones(_TOKENS, dtype=torch.long)), [(4, _TOKENS, 3)]),
    "BertForQuestionAnswering": (_rows(start_positions=1, end_positions=2), [(4, _TOKENS), (4, _TOKENS)]),
}


@pytest.mark.parametrize("name", list(_CASES))
def test_evaluation_predicts_logits_alone(name, tmp_path):
    rows, shapes = _CASES[name]
    model = getattr(modeling, name)(_config(num_labels=2 if name == "BertForQuestionAnswering" else 3))
    seen = []

    def compute_metrics(prediction):
        logits = prediction.predictions
        seen.extend(np.shape(each) for each in (logits if isinstance(logits, tuple) else (logits,)))
        return {"shapes": len(seen)}

    arguments = transformers.TrainingArguments(
        str(tmp_path), report_to=[], use_cpu=True, dataloader_pin_memory=False, disable_tqdm=True
    )
    trainer = transformers.Trainer(model, arguments, eval_dataset=rows, compute_metrics=compute_metrics)
    metrics = trainer.evaluate()
    assert seen == shapes
    assert np.isfinite(metrics["eval_loss"])
    assert metrics["eval_shapes"] == len(shapes)


def test_a_config_that_says_what_to_ignore_is_left_alone():
    config = _config()
    config.keys_to_ignore_at_inference = ["hidden_states"]
    assert modeling.BertModel(config).config.keys_to_ignore_at_inference == ["hidden_states"]
