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
    save_tokenizer(tokenizer, tmp_path, max_length=48)
    saved = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert (saved.truncation, saved.padding) == (None, None)
    assert tokenizer.backend_tokenizer.padding is not None, "the given one stays as it is"
    assert saved.encode(TEXTS[1]).ids == tokenizer(TEXTS[1])["input_ids"]


_SPECIAL = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


def test_save_tokenizer_writes_what_transformers_wants_to_know_and_nothing_of_the_checkpoint_s_own(embedder, tmp_path):
    edit_json(
        embedder / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["code.Tokenizer", None]},
        name_or_path="/home/me",
    )
    save_tokenizer(load_tokenizer(load_checkpoint(str(embedder))), tmp_path, max_length=48)
    assert _read(tmp_path / "special_tokens_map.json") == _SPECIAL
    assert _read(tmp_path / "tokenizer_config.json") == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 48,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "padding_side": "right",
        "truncation_side": "right",
        "do_lower_case": True,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        **_SPECIAL,
    }


def _read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def test_save_tokenizer_names_only_tokens_of_the_vocabulary(embedder, tmp_path):
    tokenizer = load_tokenizer(load_checkpoint(str(embedder)))
    tokenizer._special_tokens_map |= {"mask_token": "<gone>"}
    save_tokenizer(tokenizer, tmp_path, max_length=48)
    special = {role: token for role, token in _SPECIAL.items() if role != "mask_token"}
    assert _read(tmp_path / "special_tokens_map.json") == special


@pytest.mark.parametrize(
    ("asked", "do_lower_case", "expected"), [(False, False, False), (False, True, True), (True, False, True)]
)
def test_save_tokenizer_tells_whether_case_is_lost(embedder, tmp_path, asked, do_lower_case, expected):
    from transformers import BertTokenizerFast

    BertTokenizerFast(
        str(embedder / "vocab.txt"), do_lower_case=do_lower_case, strip_accents=False, tokenize_chinese_chars=False
    ).save_pretrained(embedder)
    write_sentence_transformers_files(embedder)
    edit_json(embedder / "sentence_bert_config.json", do_lower_case=asked)
    tokenizer = load_tokenizer(load_checkpoint(str(embedder)))
    save_tokenizer(tokenizer, tmp_path, max_length=48)
    saved = BertTokenizerFast.from_pretrained(tmp_path)
    assert saved("The CITY, Zürich").input_ids == tokenizer("The CITY, Zürich").input_ids
    settings = _read(tmp_path / "tokenizer_config.json")
    assert settings["do_lower_case"] is expected
    assert (settings["strip_accents"], settings["tokenize_chinese_chars"]) == (False, False)


def test_save_tokenizer_says_nothing_of_bert_s_rules_where_there_are_others(embedder, tmp_path):
    from tokenizers.normalizers import NFC

    tokenizer = load_tokenizer(load_checkpoint(str(embedder)))
    tokenizer.backend_tokenizer.normalizer = NFC()
    save_tokenizer(tokenizer, tmp_path, max_length=48)
    assert not {"do_lower_case", "strip_accents", "tokenize_chinese_chars"} & set(
        _read(tmp_path / "tokenizer_config.json")
    )


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
