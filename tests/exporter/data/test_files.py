"""Calibration: what each kind of file gives, what is refused, and the shapes of what a graph is fed with."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert_export.checkpoint.load import load_checkpoint
from dynbert_export.checkpoint.tokenizer import load_tokenizer
from dynbert_export.data.files import Sample, choose_samples, encode_packed, encode_padded, load_texts, mask_tokens
from dynbert_export.errors import CalibrationError
from dynbert_export.tasks import HEADS
from tests.helpers.checkpoints import make_checkpoint

_TEXTS = (Sample("a great day"), Sample("the river"))
_PAIRS = (Sample("who was it?", "it was she"), Sample("where?", "in the city by the river"))
_SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "x",
            "paragraphs": [
                {"context": "it was she", "qas": [{"question": "who was it?", "id": "1", "answers": []}]},
                {"context": "in the city by the river", "qas": [{"question": "where?", "id": "2"}]},
            ],
        }
    ],
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return load_tokenizer(load_checkpoint(str(make_checkpoint(tmp_path_factory.mktemp("model")))))


def _write(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "a great day\n\n  the river  \n"),
        ("a.txt", "a great day\r\nthe river"),
        ("a.TXT", b"\xef\xbb\xbfa great day\nthe river\n"),
        ("a.csv", "text\na great day\nthe river\n"),
        ("a.csv", 'label,Sentence\n1,"a great day"\n\n0,the river\n'),
        ("a.csv", "a great day,1\nthe river,0\n"),
        ("a.tsv", "sentence\tlabel\na great day\t1\nthe river\t0\n"),
        ("a.tsv", "a great day\t1\r\nthe river\t0\r\n"),
        ("a.jsonl", '"a great day"\n\n{"text": "the river", "label": 1}\n'),
        ("a.json", '["a great day", {"sentence": "the river"}]'),
        ("a.json", '{"data": [{"text": "a great day"}, {"text": "the river"}]}'),
        ("a.txt", "a great day\na great day\nthe river\na great day\n"),
    ],
)
@pytest.mark.parametrize("task", [Task.TEXT_CLASSIFICATION, Task.FEATURE_EXTRACTION])
def test_load_texts_reads_single_texts(tmp_path, name, content, task):
    texts = load_texts(_write(tmp_path, name, content), task)
    assert (texts.samples, texts.name, texts.notice) == (_TEXTS, name, None)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", json.dumps(_SQUAD)),
        ("a.jsonl", "\n".join(json.dumps({"question": text, "context": pair}) for text, pair in _PAIRS)),
        ("a.csv", "id,context,question\n1,it was she,who was it?\n2,in the city by the river,where?\n"),
        ("a.csv", "who was it?,it was she\nwhere?,in the city by the river\n"),
        ("a.tsv", "question\tcontext\nwho was it?\tit was she\nwhere?\tin the city by the river\n"),
    ],
)
def test_load_texts_reads_pairs(tmp_path, name, content):
    path = _write(tmp_path, name, content)
    assert load_texts(path, Task.QUESTION_ANSWERING).samples == _PAIRS


def test_quotes_mean_something_in_csv_only(tmp_path):
    text = 'text\n"two\nlines, one text"\n'
    assert load_texts(_write(tmp_path, "a.csv", text), Task.FEATURE_EXTRACTION).samples == (
        Sample("two\nlines, one text"),
    )
    samples = load_texts(_write(tmp_path, "a.tsv", 'sentence\n"open quote\nnext\n'), Task.FEATURE_EXTRACTION).samples
    assert samples == (Sample('"open quote'), Sample("next"))


def test_embeddings_take_the_halves_of_a_pair_one_by_one_and_each_once(tmp_path):
    squad = json.loads(json.dumps(_SQUAD))
    squad["data"][0]["paragraphs"][0]["qas"].append({"question": "and when?"})
    samples = load_texts(_write(tmp_path, "a.json", json.dumps(squad)), Task.FEATURE_EXTRACTION).samples
    assert [sample.text for sample in samples] == [
        "who was it?",
        "it was she",
        "and when?",
        "where?",
        "in the city by the river",
    ]
    assert all(sample.pair is None for sample in samples)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "", "must have at least one text, got none in .*a.txt"),
        ("a.txt", " \n\t\n", "must have at least one text"),
        ("a.csv", "text\n", "must have at least one text"),
        ("a.jsonl", '{"text": " "}', "must have at least one text"),
        ("a.json", "[]", "must have at least one text"),
        ("a.md", "text", "must end in .txt, .csv, .tsv, .jsonl, .json, got .*a.md"),
        ("a", "text", "must end in"),
        ("a.json.gz", "text", "must end in"),
        ("a.txt", b"fine\nStra\xdfe", "must be UTF-8 text, got other bytes on line 2"),
        ("a.txt", b"\x00\x01binary", "must be text, got zero bytes"),
        ("a.txt", "wide".encode("utf-16"), "must be UTF-8 text"),
        ("a.jsonl", '"fine"\n{"text": ', "must hold JSON texts, or objects .*, got something else at line 2 of"),
        ("a.jsonl", '"fine"\n3', "at line 2 of"),
        ("a.jsonl", '{"body": "x"}', "at line 1 of"),
        ("a.jsonl", '{"text": 3}', "at line 1 of"),
        ("a.jsonl", "[" * 100_000, "at line 1 of"),
        ("a.json", "{", "must hold SQuAD json, or a list of texts or objects, got something else at its top"),
        ("a.json", '{"data": 3}', "must hold SQuAD json"),
        ("a.json", '["x", null]', "got something else at item 2 of"),
        ("a.json", '{"data": [{"paragraphs": 3}]}', "must hold SQuAD paragraphs, .*, got something else at article 1"),
        ("a.json", '{"data": [{"paragraphs": [{"context": "x"}]}]}', "at article 1"),
        ("a.json", '{"data": [{"paragraphs": [{"context": 1, "qas": [{"question": "x"}]}]}]}', "at article 1"),
        ("a.csv", "id,text\n1,fine\n2\n", "must hold rows of at least 2 cells, got something else at row 3"),
        ("a.csv", 'text\n"never closed', r"must hold rows of cells \(unexpected end of data\)"),
        ("a.jsonl", '"one"\n{"text": "x", "context": "y"}', "only single texts or only pairs, got both"),
    ],
)
def test_load_texts_names_file_place_and_rule(tmp_path, name, content, message):
    path = _write(tmp_path, name, content)
    with pytest.raises(CalibrationError, match=message) as caught:
        load_texts(path, Task.TEXT_CLASSIFICATION)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("a.txt", "one\ntwo", "line 1"),
        ("a.jsonl", '{"question": "a", "context": "b"}\n"alone"', "line 2"),
        ("a.tsv", "question\tlabel\nwhy?\t1", "row 2"),
    ],
)
def test_question_answering_needs_pairs(tmp_path, name, content, place):
    with pytest.raises(CalibrationError, match=f"pairs of question and context .* at {place} of"):
        load_texts(_write(tmp_path, name, content), Task.QUESTION_ANSWERING)


def test_load_texts_refuses_what_is_no_readable_file(tmp_path, monkeypatch):
    with pytest.raises(CalibrationError, match=r"must be an existing file, got none at .*gone.txt"):
        load_texts(tmp_path / "gone.txt", Task.FEATURE_EXTRACTION)
    (tmp_path / "folder.txt").mkdir()
    with pytest.raises(CalibrationError, match="must be an existing file, got something else at"):
        load_texts(tmp_path / "folder.txt", Task.FEATURE_EXTRACTION)
    path = _write(tmp_path, "a.txt", "text")
    monkeypatch.setattr("dynbert_export.data.files._MAX_FILE_BYTES", 3)
    with pytest.raises(CalibrationError, match="must be at most"):
        load_texts(path, Task.FEATURE_EXTRACTION)
    monkeypatch.undo()

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(CalibrationError, match=r"must be readable, got .*a.txt \(Permission denied\)"):
        load_texts(path, Task.FEATURE_EXTRACTION)


@pytest.mark.parametrize("task", list(Task))
def test_built_in_texts_are_many_and_varied_and_name_the_option(task):
    texts = load_texts(None, task)
    assert (texts.name, len(texts.samples) >= 100) == ("built-in", True)
    assert "--calibration FILE" in texts.notice
    assert all((sample.pair is not None) == HEADS[task].pairs.is_required for sample in texts.samples)
    words = [len((sample.pair or sample.text).split()) for sample in texts.samples]
    assert max(words) > 80
    assert task is Task.QUESTION_ANSWERING or min(words) == 1


def test_choose_samples_is_decided_by_the_seed_and_keeps_the_order():
    samples = [Sample(str(index)) for index in range(100)]
    chosen = choose_samples(samples, 10, seed=1)
    assert chosen == choose_samples(samples, 10, seed=1)
    assert chosen != choose_samples(samples, 10, seed=2)
    assert len(set(chosen)) == 10
    assert list(chosen) == sorted(chosen, key=samples.index)
    assert choose_samples(samples, 100, seed=1) == choose_samples(samples, 1000, seed=1) == tuple(samples)


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
    import copy

    own = copy.deepcopy(tokenizer)
    own.backend_tokenizer.enable_truncation(4)
    own.backend_tokenizer.enable_padding(length=50)
    (batch,) = encode_padded(_TEXTS, own, max_length=64, batch_size=2)
    assert batch["input_ids"].shape == (2, 5)


_SENTENCES = [Task.NEXT_SENTENCE_PREDICTION, Task.MULTIPLE_CHOICE, Task.PRETRAINING]


@pytest.mark.parametrize("task", _SENTENCES)
def test_single_texts_are_paired_with_their_successors_when_any_pair_will_do(tmp_path, task):
    path = _write(tmp_path, "a.txt", "one\ntwo\nthree\n")
    expected = (Sample("one", "two"), Sample("two", "three"), Sample("three", "one"))
    assert load_texts(path, task).samples == expected
    assert load_texts(_write(tmp_path, "b.txt", "alone"), task).samples == (Sample("alone", "alone"),)
    built_in = load_texts(None, task).samples
    assert all(first.pair == second.text for first, second in itertools.pairwise(built_in))


@pytest.mark.parametrize("task", _SENTENCES)
def test_pairs_of_a_file_stay_as_they_are(tmp_path, task):
    path = _write(tmp_path, "a.csv", "sentence1,sentence2\nwho was it?,it was she\nwhere?,in the city by the river\n")
    assert load_texts(path, task).samples == _PAIRS
    with pytest.raises(CalibrationError, match="only single texts or only pairs"):
        load_texts(_write(tmp_path, "b.jsonl", '"one"\n{"text": "x", "text_pair": "y"}'), task)


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
