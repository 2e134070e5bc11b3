"""From samples to arrays: what the tokenizer gives, windows without padding, and masks."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert_export.checkpoint.load import load_checkpoint
from dynbert_export.checkpoint.tokenizer import load_tokenizer
from dynbert_export.data.encoding import encode_packed, encode_padded, find_mask_token_id, mask_tokens
from dynbert_export.data.files import load_texts
from dynbert_export.data.samples import Sample
from dynbert_export.errors import CalibrationError
from dynbert_export.tasks import HEADS
from tests.helpers.checkpoints import make_checkpoint

_TEXTS = (Sample("a great day"), Sample("the river"))
_PAIRS = (Sample("who was it?", "it was she"), Sample("where?", "in the city by the river"))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(load_checkpoint(str(make_checkpoint(tmp_path_factory.mktemp("model")))))


@pytest.mark.parametrize("samples", [(*_TEXTS, Sample("a b " * 9)) * 2, (*_PAIRS, Sample("why?", "a b " * 9)) * 2])
def test_encode_padded_gives_what_the_tokenizer_gives(tokenizer, samples):
    batches = encode_padded(samples, tokenizer, max_length=12, batch_size=4)
    assert [len(batch["input_ids"]) for batch in batches] == [4, 2]
    rows = [list(sample) if sample.pair is not None else sample.text for sample in samples[:4]]
    expected = tokenizer(rows, padding=True, truncation=True, max_length=12, return_tensors="np")
    for name in ("input_ids", "attention_mask", "token_type_ids"):
        assert batches[0][name].dtype == np.int64
        np.testing.assert_array_equal(batches[0][name], expected[name])
    assert batches[0]["attention_mask"].min() == 0, "there is something to pad"
    assert batches[0]["input_ids"].shape == (4, 12), "there is something to truncate"


@pytest.mark.parametrize("length", [3, 8, 64, 300])
def test_encode_packed_fills_every_window_with_text(tokenizer, length):
    samples = load_texts(None, Task.FEATURE_EXTRACTION).samples
    feeds = encode_packed(samples, tokenizer, sequence_length=length)
    text = [token for sample in samples for token in tokenizer(sample.text, add_special_tokens=False)["input_ids"]]
    assert len(feeds) == len(text) // (length - 2)
    for feed in feeds:
        assert {name: array.shape for name, array in feed.items()} == dict.fromkeys(
            ("input_ids", "attention_mask", "token_type_ids"), (1, length)
        )
        assert (feed["input_ids"][0, 0], feed["input_ids"][0, -1]) == (
            tokenizer.cls_token_id,
            tokenizer.sep_token_id,
        )
    assert all(feed["attention_mask"].all() and not feed["token_type_ids"].any() for feed in feeds)
    packed = np.concatenate([feed["input_ids"][0, 1:-1] for feed in feeds])
    np.testing.assert_array_equal(packed, text[: len(packed)])


@pytest.mark.parametrize("length", [5, 16, 64, 400])
def test_encode_packed_keeps_the_form_of_pairs(tokenizer, length):
    samples = load_texts(None, Task.QUESTION_ANSWERING).samples[:7]
    feeds = encode_packed(samples, tokenizer, sequence_length=length)
    assert len(feeds) == len(samples)
    for feed, sample in zip(feeds, samples, strict=True):
        ids, types = feed["input_ids"][0], feed["token_type_ids"][0]
        question = tokenizer(sample.text, add_special_tokens=False)["input_ids"][: max((length - 3) // 2, 1)]
        context = tokenizer(sample.pair, add_special_tokens=False)["input_ids"]
        assert ids.shape == (length,)
        assert feed["attention_mask"].all()
        assert list(np.flatnonzero(ids == tokenizer.sep_token_id)) == [len(question) + 1, length - 1]
        assert list(ids[1 : len(question) + 1]) == question
        room = length - 3 - len(question)
        assert list(ids[len(question) + 2 : -1])[: len(context)] == context[:room]
        np.testing.assert_array_equal(types, np.arange(length) > len(question) + 1)


def test_encode_packed_repeats_too_few_texts(tokenizer):
    (feed,) = encode_packed([Sample("the river")], tokenizer, sequence_length=9)
    assert tokenizer.convert_ids_to_tokens(feed["input_ids"][0]) == ["[CLS]", *["the", "river"] * 3, "the", "[SEP]"]
    (feed,) = encode_packed([Sample("who?", "the river")], tokenizer, sequence_length=10)
    tokens = tokenizer.convert_ids_to_tokens(feed["input_ids"][0])
    assert tokens == ["[CLS]", "who", "?", "[SEP]", *["the", "river"] * 2, "the", "[SEP]"]


@pytest.mark.parametrize(
    ("samples", "length", "error", "message"),
    [
        ([], 8, CalibrationError, "all single texts or all pairs"),
        ([*_TEXTS, *_PAIRS], 8, CalibrationError, "all single texts or all pairs, got 4"),
        (_TEXTS, 2, InputError, "must leave room for text between special tokens, got 2"),
        (_PAIRS, 4, InputError, "must leave room for text between special tokens, got 4"),
        ([Sample(" ")], 8, CalibrationError, "must have tokens, got none"),
    ],
)
def test_encode_packed_refuses_what_cannot_be_packed(tokenizer, samples, length, error, message):
    with pytest.raises(error, match=message):
        encode_packed(samples, tokenizer, sequence_length=length)


def test_encoding_leaves_the_tokenizer_as_it_was(tokenizer):
    before = tokenizer.backend_tokenizer.to_str()
    encode_padded(_TEXTS, tokenizer, max_length=4, batch_size=2)
    encode_packed(_TEXTS, tokenizer, sequence_length=8)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_a_tokenizer_file_with_its_own_truncation_and_padding_is_overruled(tokenizer):
    own = copy.deepcopy(tokenizer)
    own.backend_tokenizer.enable_truncation(4)
    own.backend_tokenizer.enable_padding(length=50)
    (batch,) = encode_padded(_TEXTS, own, max_length=64, batch_size=2)
    assert batch["input_ids"].shape == (2, 5)


def _rows(tokens, tokenizer, words=1):
    ids = np.full((4, tokens), tokenizer.convert_tokens_to_ids("river"), dtype=np.int64)
    ids[:, 0], ids[:, words + 1 :] = tokenizer.cls_token_id, tokenizer.pad_token_id
    mask = (np.arange(tokens) < words + 1).astype(np.int64)
    return {"input_ids": ids, "attention_mask": np.broadcast_to(mask, ids.shape).copy()}


@pytest.mark.parametrize(("words", "count"), [(1, 1), (3, 1), (20, 3), (60, 9)])
def test_masks_stand_for_some_of_the_words(tokenizer, words, count):
    rows = _rows(64, tokenizer, words)
    masked = mask_tokens(rows, tokenizer, seed=0)
    differs = masked["input_ids"] != rows["input_ids"]
    assert (masked["input_ids"][differs] == tokenizer.mask_token_id).all()
    assert differs.sum(axis=1).tolist() == [count] * 4
    assert not differs[:, 0].any()
    assert not differs[:, words + 1 :].any()
    assert tokenizer.mask_token_id not in rows["input_ids"], "the given one stays as it is"
    np.testing.assert_array_equal(mask_tokens(rows, tokenizer, seed=0)["input_ids"], masked["input_ids"])
    if words > 3:
        assert (mask_tokens(rows, tokenizer, seed=1)["input_ids"] != masked["input_ids"]).any()


def test_a_row_without_words_has_a_mask_all_the_same(tokenizer):
    rows = _rows(8, tokenizer, words=0)
    assert (mask_tokens(rows, tokenizer, seed=0)["input_ids"] == tokenizer.mask_token_id).sum(axis=1).tolist() == [
        1
    ] * 4


@pytest.mark.parametrize("task", list(Task))
def test_only_models_that_foretell_tokens_have_a_mask(tokenizer, task):
    found = find_mask_token_id(tokenizer, task)
    assert found == (tokenizer.convert_tokens_to_ids("[MASK]") if HEADS[task].has_vocabulary else None)
