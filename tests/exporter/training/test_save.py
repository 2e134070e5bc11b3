"""What a trained checkpoint consists of, and who can read it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert.scoring.examples import LabelledData, TextExample
from dynbert_export.checkpoint.load import load_checkpoint
from dynbert_export.checkpoint.training_record import TrainingRecord
from dynbert_export.training.model import build_model, find_start, fit_head
from dynbert_export.training.save import save_checkpoint

_RECORD = TrainingRecord(LengthConfig((0.8, 0.64)), "a.jsonl", "b.jsonl", "accuracy", {"full": 0.9}, {"full": 0.5})


@pytest.fixture
def save(tmp_path):
    def run(config, data, record=_RECORD):
        start = find_start(config.model, task=config.task)
        model = build_model(start, fit_head(start, data))
        log = tmp_path / "log.jsonl"
        log.write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n', encoding="utf-8")
        folder = tmp_path / "saved"
        folder.mkdir()
        save_checkpoint(folder, model, start, record, config, log=log)
        return folder, model

    return run


def test_transformers_reads_a_trained_checkpoint(save, make_config):
    data = LabelledData(
        Task.TEXT_CLASSIFICATION, (TextExample("a", None, 0),), ("no", "yes", "so"), "single_label_classification", "d"
    )
    folder, model = save(make_config(), data)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "metrics.jsonl",
        "model.safetensors",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "training.png",
    ]
    theirs = AutoModelForSequenceClassification.from_pretrained(folder)
    tokens = AutoTokenizer.from_pretrained(folder)(["the food was good"], return_tensors="pt")
    with torch.no_grad():
        torch.testing.assert_close(theirs(**tokens).logits, model.eval()(**tokens).logits)
    assert theirs.config.id2label == {0: "no", 1: "yes", 2: "so"}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert config["length_training"] == _RECORD.to_json()
    assert "12 steps" not in (folder / "README.md").read_text(encoding="utf-8")
    assert "2 steps, batches of 32" in (folder / "README.md").read_text(encoding="utf-8")


def test_an_export_knows_what_a_checkpoint_was_trained_for(save, make_config):
    data = LabelledData(Task.TEXT_CLASSIFICATION, (TextExample("a", None, 0),), (), "ranking", "d")
    folder, _ = save(make_config(), data)
    checkpoint = load_checkpoint(str(folder))
    assert (checkpoint.training.lengths, checkpoint.training.data) == (_RECORD.lengths, "a.jsonl")
    assert checkpoint.problem_type == "ranking"


def test_embeddings_stay_those_of_sentence_transformers(save, make_config, embedder):
    from sentence_transformers import SentenceTransformer

    config = make_config(model=str(embedder), task=Task.FEATURE_EXTRACTION.value)
    record = replace(_RECORD, lengths=LengthConfig((0.8, 0.64, 0.5)))
    folder, _ = save(config, LabelledData(Task.FEATURE_EXTRACTION, (), (), None, "d"), record)
    before, after = (
        SentenceTransformer(str(each), device="cpu").encode(["the old city"]) for each in (embedder, folder)
    )
    torch.testing.assert_close(torch.from_numpy(after), torch.from_numpy(before))
    assert load_checkpoint(str(folder)).pooling.normalize
