"""Text to rows: nothing is cut or padded but by our own rules, and windows cover a context without a gap."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert.errors import BundleError, InputError
from dynbert.manifest import ModelInfo, Task
from dynbert.tokenization import DEFAULT_STRIDE, TextTokenizer
from tests.helpers.bundles import WORDS, make_tokenizer

PLAIN = [word for word in WORDS if word.isalpha()]


def model_info(max_length=16):
    return ModelInfo(
        id="m",
        task=Task.QUESTION_ANSWERING,
        architecture="",
        num_layers=2,
        hidden_size=8,
        vocab_size=len(WORDS),
        type_vocab_size=2,
        max_length=max_length,
        pad_token_id=0,
        always_keep_cls_token=True,
    )


@pytest.fixture(scope="module")
def tokenizer():
    return TextTokenizer(make_tokenizer(), model_info())


def test_encode_ignores_the_truncation_and_padding_of_the_file(tokenizer):
    assert make_tokenizer().truncation is not None
    assert make_tokenizer().padding is not None
    [short, longer] = tokenizer.encode(["the book", "the good old book was in paris"])
    assert short.tokens == ["[CLS]", "the", "book", "[SEP]"]
    assert longer.tokens == ["[CLS]", "the", "good", "old", "book", "was", "in", "paris", "[SEP]"]


def test_pad_fills_to_the_longest_row_with_the_models_pad_id():
    tokenizer = TextTokenizer(make_tokenizer(), model_info())
    arrays = tokenizer.pad(tokenizer.encode(["the", "the book was"]))
    the, book, was = (WORDS.index(word) for word in ("the", "book", "was"))
    np.testing.assert_array_equal(arrays["input_ids"], [[2, the, 3, 0, 0], [2, the, book, was, 3]])
    np.testing.assert_array_equal(arrays["attention_mask"], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert {array.dtype for array in arrays.values()} == {np.dtype(np.int64)}


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u200b"])
def test_encode_refuses_text_without_tokens(tokenizer, text):
    with pytest.raises(InputError, match="text must have at least one token, got"):
        tokenizer.encode([text])
    with pytest.raises(InputError, match="text 1 must have at least one token, got"):
        tokenizer.encode(["the", text])


def test_encode_refuses_what_is_no_unicode(tokenizer):
    with pytest.raises(InputError) as info:
        tokenizer.encode(["the", "\ud800"])
    assert str(info.value) == "Texts must be valid Unicode, got one with a lone surrogate."


def test_encode_cuts_long_text_only_when_told_to(tokenizer):
    fits = " ".join(["the"] * 14)
    assert len(tokenizer.encode([fits])[0].ids) == 16
    with pytest.raises(InputError, match=r"text must have at most 14 tokens .*, got 15. Shorten it, or pass truncate"):
        tokenizer.encode([fits + " book"])
    [cut] = tokenizer.encode([fits + " book"], truncate=True)
    assert cut.tokens == ["[CLS]", *["the"] * 14, "[SEP]"]


def test_windows_is_one_pair_when_the_context_fits(tokenizer):
    [window] = tokenizer.windows("who wrote it?", "zoe wrote the book")
    assert window.encoding.tokens == [
        "[CLS]",
        "who",
        "wrote",
        "it",
        "?",
        "[SEP]",
        "zoe",
        "wrote",
        "the",
        "book",
        "[SEP]",
    ]
    assert window.encoding.type_ids == [0] * 6 + [1] * 5
    assert (window.first, window.stop, window.has_cls) == (6, 10, True)
    assert window.words == ((0, 3), (4, 9), (10, 13), (14, 18))


@given(
    st.lists(st.sampled_from([*PLAIN, "plays", "running", "Zoé", "café", "😀"]), min_size=1, max_size=60),
    st.integers(1, 8),
    st.one_of(st.none(), st.integers(0, 4)),
)
def test_windows_cover_every_token_in_order_and_overlap_by_the_stride(words, question_tokens, stride):
    tokenizer = TextTokenizer(make_tokenizer(), model_info())
    context = " ".join(words)
    content = make_tokenizer()
    content.no_truncation()
    content.no_padding()
    whole = content.encode(context, add_special_tokens=False)
    windows = tokenizer.windows(" ".join(["who"] * question_tokens), context, stride=stride)
    room = 16 - 3 - question_tokens
    overlap = min(DEFAULT_STRIDE, room // 2) if stride is None else stride
    position = 0
    for index, window in enumerate(windows):
        ids = window.encoding.ids[window.first : window.stop]
        assert ids == whole.ids[position : position + len(ids)]
        assert len(window.encoding.ids) <= 16
        assert len(ids) == (room if index < len(windows) - 1 else len(whole.ids) - position)
        for token, (start, end) in zip(range(position, position + len(ids)), window.words, strict=True):
            assert start <= whole.offsets[token][0] < whole.offsets[token][1] <= end
            assert " " not in context[start:end]
        covered = position + len(ids)
        position = covered - overlap
    assert covered == len(whole.ids)


@pytest.mark.parametrize(
    ("question", "context", "stride", "message"),
    [
        ("", "the book", None, "question must have at least one token, got ''"),
        ("who", " ", None, "context must have at least one token, got ' '"),
        ("who " * 13, "the", None, "question must have at most 12 tokens to leave room for the context, got 13"),
        ("who", "the " * 40, 12, "stride must be less than the 12 tokens .*, got 12. Lower it"),
        ("who", "the " * 40, 500, "stride must be less than the 12 tokens"),
    ],
)
def test_windows_names_rule_and_value_when_texts_do_not_fit(tokenizer, question, context, stride, message):
    with pytest.raises(InputError, match=message):
        tokenizer.windows(question, context, stride=stride)


def test_windows_work_when_the_question_leaves_room_for_one_token(tokenizer):
    windows = tokenizer.windows("who " * 12, "the book was")
    assert [window.encoding.ids[window.first : window.stop] for window in windows] == [
        [WORDS.index(word)] for word in ("the", "book", "was")
    ]


def test_windows_have_no_cls_when_the_tokenizer_adds_none():
    bare = json.loads(make_tokenizer().to_str())
    bare["post_processor"] = None
    from tokenizers import Tokenizer

    tokenizer = TextTokenizer(Tokenizer.from_str(json.dumps(bare)), model_info())
    [window] = tokenizer.windows("who", "the book")
    assert window.encoding.tokens == ["who", "the", "book"]
    assert (window.first, window.has_cls) == (1, False)


@pytest.mark.parametrize("raw", ["", "{}", "text"])
def test_open_names_the_file_when_it_is_no_tokenizer(tmp_path, raw):
    path = tmp_path / "tokenizer.json"
    path.write_text(raw)
    with pytest.raises(BundleError, match=r"tokenizer.json must be a file that tokenizers [\d.]+ can read, got"):
        TextTokenizer.open(path, model_info())


def lose_unknown_token(file):
    file["added_tokens"] = []
    del file["model"]["vocab"]["[UNK]"]


def lose_token_of_the_template(file):
    del file["post_processor"]["special_tokens"]["[SEP]"]


def lose_token_of_the_pair_s_template(file):
    file["post_processor"]["pair"][0]["SpecialToken"]["id"] = "[XXX]"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", [lose_unknown_token, lose_token_of_the_template, lose_token_of_the_pair_s_template])
def test_open_names_the_file_when_it_reads_but_would_not_encode(tmp_path, damage):
    file = json.loads(make_tokenizer().to_str())
    damage(file)
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(file))
    with pytest.raises(BundleError, match=r"tokenizer.json must be a file that tokenizers [\d.]+ can read, got"):
        TextTokenizer.open(path, model_info())


def test_window_is_immutable(tokenizer):
    [window] = tokenizer.windows("who", "the book")
    assert replace(window, first=2).first == 2
    with pytest.raises(AttributeError):
        window.first = 2


@given(st.integers(1, 30), st.integers(1, 30), st.integers(5, 24))
def test_encode_pairs_cuts_as_the_tokenizers_library_does_longest_first(first, second, max_length):
    pair = " ".join(["the"] * first), " ".join(["book"] * second)
    oracle = make_tokenizer()
    oracle.no_padding()
    oracle.enable_truncation(max_length, strategy="longest_first")
    names = [("text", "text_pair")]
    [cut] = TextTokenizer(make_tokenizer(), model_info(max_length)).encode_pairs([pair], names, truncate=True)
    expected = oracle.encode(*pair)
    assert cut.tokens == expected.tokens
    assert cut.type_ids == expected.type_ids


@pytest.mark.parametrize(
    ("pair", "truncate", "message"),
    [
        (("", "the"), True, "text 3 must have at least one token, got ''"),
        (("the", " "), True, "choice 4 must have at least one token, got ' '"),
        (
            ("the " * 9, "book " * 5),
            False,
            r"text 3 and choice 4 must have at most 13 tokens .*, got 14.*truncate",
        ),
        (("the " * 9, "book " * 5), None, r"got 14\. Shorten it\.$"),
    ],
)
def test_encode_pairs_names_rule_and_value_when_a_pair_does_not_fit(tokenizer, pair, truncate, message):
    with pytest.raises(InputError, match=message):
        tokenizer.encode_pairs([("the", "book"), pair], [("a", "b"), ("text 3", "choice 4")], truncate=truncate)


def test_encode_pairs_fills_the_room_before_it_cuts(tokenizer):
    [row] = tokenizer.encode_pairs([("the " * 9, "book " * 4)], [("text", "text_pair")])
    assert row.tokens == ["[CLS]", *["the"] * 9, "[SEP]", *["book"] * 4, "[SEP]"]
    assert row.type_ids == [0] * 11 + [1] * 5
    assert tokenizer.encode_pairs([], []) == []


def test_text_windows_cover_every_text_and_overlap_by_the_stride(tokenizer):
    long = " ".join(PLAIN)
    short, windows = tokenizer.text_windows(["the book", long], stride=4)
    assert [window.encoding.tokens for window in short] == [["[CLS]", "the", "book", "[SEP]"]]
    assert (short[0].first, short[0].stop, short[0].has_cls) == (1, 3, True)
    parts = [window.encoding.tokens[window.first : window.stop] for window in windows]
    assert len(parts) > 1
    assert parts == [PLAIN[start : start + 14] for start in range(0, len(PLAIN) - 4, 10)]
    for window, part in zip(windows, parts, strict=True):
        assert [long[start:end] for start, end in window.words] == part
        numbers = window.encoding.word_ids[window.first : window.stop]
        assert [PLAIN[number] for number in numbers] == part  # numbers are those of the whole text


def test_text_windows_work_when_the_tokenizer_adds_no_special_tokens():
    bare = json.loads(make_tokenizer().to_str())
    bare["post_processor"] = None
    from tokenizers import Tokenizer

    [[window]] = TextTokenizer(Tokenizer.from_str(json.dumps(bare)), model_info()).text_windows(["the book"])
    assert (window.first, window.stop, window.has_cls) == (0, 2, False)


def test_token_names_ids_of_the_vocabulary_only(tokenizer):
    assert [tokenizer.token(token_id) for token_id in (0, WORDS.index("##ing"), len(WORDS))] == ["[PAD]", "##ing", None]
