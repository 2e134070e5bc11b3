"""Pretraining: the masks of both texts, and whether the second follows the first."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

import dynbert
from dynbert import NextSentence, Pretraining
from dynbert.errors import BundleError, InputError
from dynbert.manifest import Task
from dynbert.model import DynamicBert
from tests.helpers.bundles import WORDS, make_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    table = np.zeros((len(WORDS), len(WORDS) + 2), np.float32)
    table[WORDS.index("[MASK]"), WORDS.index("paris")] = 3.0
    table[WORDS.index("good"), -2] = 2.0
    table[WORDS.index("bad"), -1] = 2.0
    return make_bundle(tmp_path_factory.mktemp("pretraining"), task=Task.PRETRAINING, table=table)


@pytest.fixture(scope="module")
def model(bundle):
    return dynbert.load(bundle.folder)


def test_text_alone_has_masks_and_no_next_sentence(model):
    result = model("in [MASK].", top_k=2)
    assert isinstance(result, Pretraining)
    assert result.next_sentence is None
    [mask] = result.masks
    assert (mask.start, mask.end, mask.sequence) == (3, 9, 0)
    best, other = mask.candidates
    assert (best.token, best.text) == ("paris", "in paris.")
    assert best.score == pytest.approx(math.exp(3) / (math.exp(3) + len(WORDS) - 1), rel=1e-6)
    assert other.token_id == 0  # the lowest id of the equals


def test_pair_has_a_next_sentence_and_masks_that_say_which_text_they_are_in(model):
    result = model("good [MASK]", text_pair="[MASK] of  [MASK]", top_k=1)
    assert result.next_sentence == NextSentence(is_next=True, score=pytest.approx(1 / (1 + math.exp(-2)), rel=1e-6))
    assert [(mask.sequence, mask.start, mask.end, mask.candidates[0].text) for mask in result.masks] == [
        (0, 5, 11, "good paris"),
        (1, 0, 6, "paris of  [MASK]"),
        (1, 11, 17, "[MASK] of  paris"),
    ]


def test_pair_needs_no_mask(model):
    result = model("the book", text_pair="was bad")
    assert result == Pretraining((), NextSentence(is_next=False, score=pytest.approx(1 / (1 + math.exp(2)), rel=1e-6)))


def test_results_keep_order_when_lists_are_given(model):
    firsts = ["the [MASK]", "good old film", "[MASK] and [MASK]"] * 2
    seconds = ["bad", "[MASK]", "naive and running"] * 2
    results = model(firsts, text_pair=seconds, top_k=1)
    assert results == [model(*pair[:1], text_pair=pair[1], top_k=1) for pair in zip(firsts, seconds, strict=True)]
    assert [len(result.masks) for result in results] == [1, 1, 2] * 2
    assert model([]) == model([], text_pair=[]) == []
    assert model(["[MASK]", "the [MASK]"], length_config=(0.5, 0.5))[1].masks[0].start == 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "the book"}, r"text must have the mask token \[MASK\] or a text_pair, got 'the book'"),
        ({"texts": ["[MASK]", "the"]}, "text 1 must have the mask token"),
        ({"texts": "[MASK]", "top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"texts": "a", "text_pair": ["a"]}, "two strings or two lists of one length"),
        ({"texts": "a", "text_pair": ""}, "text_pair must have at least one token"),
        ({"texts": "a " * 9, "text_pair": "a " * 9}, "at most 13 tokens together .*, got 18. Shorten it.$"),
        ({"text_pair": "a"}, r"must be called as model\(texts\), got text_pair. Options: batch_size, text_pair, top_k"),
    ],
)
def test_call_names_rule_and_value_when_it_is_wrong(model, arguments, message):
    with pytest.raises(InputError, match=message):
        model(**arguments)


def test_call_blames_the_bundle_when_it_names_no_mask_token(bundle):
    manifest = replace(bundle.manifest, model=replace(bundle.manifest.model, mask_token_id=None))
    with pytest.raises(BundleError, match="mask_token_id must be an id of the bundle's tokenizer, got None"):
        DynamicBert(bundle.folder, manifest)("[MASK]")
