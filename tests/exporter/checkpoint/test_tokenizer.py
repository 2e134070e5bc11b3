"""The tokenizer of a checkpoint: loaded, written for the runtime, and refused where it does not fit the model."""

from __future__ import annotations

import json
import shutil

import pytest

from dynbert.manifest import Task
from dynbert_export.checkpoint.load import load_checkpoint
from dynbert_export.checkpoint.tokenizer import load_tokenizer, save_tokenizer
from dynbert_export.errors import CheckpointError
from dynbert_export.options.vocabularies import TaskOption
from tests.helpers.checkpoints import (
    TEXTS,
    VOCABULARY,
    edit_json,
    make_checkpoint,
    write_sentence_transformers_files,
    write_tokenizer,
)


def test_load_checkpoint_needs_a_tokenizer(embedder):
    (embedder / "tokenizer.json").unlink()
    load_checkpoint(str(embedder))  # vocab.txt is enough
    (embedder / "vocab.txt").unlink()
    with pytest.raises(CheckpointError, match=r"must have a tokenizer, tokenizer.json or vocab.txt, got neither"):
        load_checkpoint(str(embedder))


def test_load_tokenizer_makes_the_fast_form_from_a_vocabulary(embedder):
    expected = load_tokenizer(load_checkpoint(str(embedder)))(TEXTS)["input_ids"]
    (embedder / "tokenizer.json").unlink()
    tokenizer = load_tokenizer(load_checkpoint(str(embedder)))
    assert tokenizer(TEXTS)["input_ids"] == expected
    assert not (embedder / "tokenizer.json").exists(), "the checkpoint is the caller's"


def test_save_tokenizer_leaves_truncation_and_padding_to_the_runtime(embedder, tmp_path):
    from tokenizers import Tokenizer

    tokenizer = load_tokenizer(load_checkpoint(str(embedder)))
    tokenizer(TEXTS, padding="max_length", truncation=True, max_length=5)
    path = save_tokenizer(tokenizer, tmp_path)
    saved = Tokenizer.from_file(str(path))
    assert (saved.truncation, saved.padding) == (None, None)
    assert tokenizer.backend_tokenizer.padding is not None, "the given one stays as it is"
    assert saved.encode(TEXTS[1]).ids == tokenizer(TEXTS[1])["input_ids"]


def test_sentence_transformers_can_ask_for_lowercase(embedder):
    vocabulary = embedder / "vocab.txt"
    from transformers import BertTokenizerFast

    BertTokenizerFast(str(vocabulary), do_lower_case=False).save_pretrained(embedder)
    assert load_tokenizer(load_checkpoint(str(embedder))).tokenize("The CITY") != ["the", "city"]
    write_sentence_transformers_files(embedder)
    edit_json(embedder / "sentence_bert_config.json", do_lower_case=True)
    assert load_tokenizer(load_checkpoint(str(embedder))).tokenize("The CITY") == ["the", "city"]


@pytest.mark.parametrize("content", ["{", "{}", '{"version": "1.0", "model": {"type": "Unheard-of"}}'])
def test_load_tokenizer_refuses_a_broken_file(embedder, content):
    (embedder / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match="tokenizer must be readable"):
        load_tokenizer(load_checkpoint(str(embedder)))


def test_load_tokenizer_refuses_ids_that_the_model_has_not(tmp_path):
    folder = make_checkpoint(tmp_path, vocab_size=len(VOCABULARY) - 1)
    write_tokenizer(folder)
    largest = len(VOCABULARY) - 1
    with pytest.raises(CheckpointError, match=f"must be below the vocab_size of {largest} .*, got {largest} from"):
        load_tokenizer(load_checkpoint(str(folder)))


def _remove_mask_token(folder, form):
    """Leave one file of the tokenizer, without its mask token."""
    words = [word for word in VOCABULARY if word != "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["model"]["vocab"] = {word: index for index, word in enumerate(words)}
    tokenizer["added_tokens"] = [token for token in tokenizer["added_tokens"] if token["content"] != "[MASK]"]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / {"tokenizer.json": "vocab.txt", "vocab.txt": "tokenizer.json"}[form]).unlink()


@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.txt"])
@pytest.mark.parametrize("task", [Task.FILL_MASK, Task.PRETRAINING])
def test_a_tokenizer_without_a_mask_token_is_refused_where_tokens_are_foretold(checkpoints, tmp_path, task, form):
    folder = shutil.copytree(checkpoints[task], tmp_path / "model")
    assert load_tokenizer(load_checkpoint(str(folder))).mask_token_id == VOCABULARY.index("[MASK]")
    _remove_mask_token(folder, form)
    with pytest.raises(CheckpointError, match=f"must have a mask token for {task.value}, got none in"):
        load_tokenizer(load_checkpoint(str(folder)))
    load_tokenizer(load_checkpoint(str(folder), task=TaskOption.FEATURE_EXTRACTION))


def test_the_helpers_checkpoints_are_worth_testing_with(checkpoints, tmp_path):
    again = make_checkpoint(tmp_path / "again")
    first = (checkpoints[Task.FEATURE_EXTRACTION] / "model.safetensors").read_bytes()
    assert (again / "model.safetensors").read_bytes() == first, "equal seeds, equal weights"
    tokenizer = load_tokenizer(load_checkpoint(str(again)))
    tokens = tokenizer.tokenize("Wasn't the Zürich express (24 carriages) late?")
    assert "[UNK]" not in tokens
    assert len(tokens) > 10
