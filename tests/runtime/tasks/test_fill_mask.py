"""Filling masks: which tokens, with what probability, and the text that they make."""

from __future__ import annotations

import math

import numpy as np
import pytest
from msgspec.structs import replace

import dynbert
from dynbert import Candidate, MaskedToken
from dynbert.errors import BundleError, InputError
from dynbert.manifest import Task
from dynbert.model import DynamicBert
from dynbert.tasks.base import TaskContext
from dynbert.tasks.fill_mask import fill_masks
from dynbert.tokenization import TextTokenizer
from tests.helpers.bundles import WORDS, make_bundle, make_tokenizer

REST = len(WORDS) - 3
TOTAL = math.exp(3) + math.exp(2) + math.exp(1) + REST
"""Of the weights of three favoured words, and the rest with the logit 0."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    table = np.zeros((len(WORDS), len(WORDS)), np.float32)
    for word, logit in (("paris", 3.0), ("##ing", 2.0), ("book", 1.0)):
        table[WORDS.index("[MASK]"), WORDS.index(word)] = logit
    return make_bundle(tmp_path_factory.mktemp("mask"), task=Task.FILL_MASK, table=table)


@pytest.fixture(scope="module")
def model(bundle):
    return dynbert.load(bundle.folder)


def candidate(word, logit, text):
    return Candidate(word, WORDS.index(word), pytest.approx(math.exp(logit) / TOTAL, rel=1e-6), text)


def test_mask_gets_the_most_probable_tokens_and_their_texts(model):
    [mask] = model("Zoé was in [MASK].", top_k=4)
    assert mask == MaskedToken(
        start=11,
        end=17,
        candidates=(
            candidate("paris", 3, "Zoé was in paris."),
            candidate("##ing", 2, "Zoé was in ing."),
            candidate("book", 1, "Zoé was in book."),
            candidate("[PAD]", 0, "Zoé was in [PAD]."),  # the lowest id of the equals
        ),
        sequence=0,
    )


def test_masks_are_in_text_order_and_each_fills_its_own_place(model):
    text = "[MASK]  was in\t[MASK], [MASK]"
    masks = model(text, top_k=1)
    assert [(mask.start, mask.end) for mask in masks] == [(0, 6), (15, 21), (23, 29)]
    assert {text[mask.start : mask.end] for mask in masks} == {"[MASK]"}
    assert [mask.candidates[0].text for mask in masks] == [
        "paris  was in\t[MASK], [MASK]",
        "[MASK]  was in\tparis, [MASK]",
        "[MASK]  was in\t[MASK], paris",
    ]


def test_top_k_is_five_and_ends_with_the_vocabulary(model):
    assert len(model("[MASK]")[0].candidates) == 5
    [mask] = model("[MASK]", top_k=10_000)
    assert sorted(item.token_id for item in mask.candidates) == list(range(len(WORDS)))
    assert sum(item.score for item in mask.candidates) == pytest.approx(1.0)
    scores = [item.score for item in mask.candidates]
    assert scores == sorted(scores, reverse=True)


def test_padding_of_the_vocabulary_takes_probability_but_is_no_candidate(bundle):
    facts = replace(bundle.manifest.model, vocab_size=len(WORDS) + 2)

    def run(inputs):
        logits = np.zeros((*inputs["input_ids"].shape, len(WORDS) + 2), np.float32)
        logits[..., -1] = 5.0
        logits[..., 7] = 4.0
        return {"logits": logits}

    task = TaskContext(facts, TextTokenizer(make_tokenizer(), facts), run)
    [mask] = fill_masks(task, "the [MASK]", top_k=2, batch_size=8)
    assert [item.token for item in mask.candidates] == [WORDS[7], "[PAD]"]
    total = math.exp(5) + math.exp(4) + len(WORDS)
    assert mask.candidates[0].score == pytest.approx(math.exp(4) / total)


def test_masks_keep_order_when_a_list_is_given(model):
    texts = ["in [MASK]", "[MASK] and [MASK] of the old book", "[MASK]."] * 3  # more than one batch
    results = model(texts, top_k=2)
    assert results == [model(text, top_k=2) for text in texts]
    assert [len(masks) for masks in results] == [1, 2, 1] * 3
    assert model([]) == []


def test_masks_take_a_length_config(model):
    for config in ((9, 4), [0.9, 0.5]):
        assert len(model(["in [MASK]", "the [MASK] of it"], length_config=config)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": "the book"}, r"text must have the mask token \[MASK\] at least once, got 'the book'"),
        ({"texts": ["[MASK]", "a [mask]"]}, r"text 1 must have the mask token \[MASK\]"),
        ({"texts": ""}, "text must have at least one token"),
        ({"texts": "[MASK] " * 15}, r"text must have at most 14 tokens .*, got 15. Shorten it.$"),
        ({"texts": "[MASK]", "top_k": 0}, "top_k must be a whole number of at least 1, got 0"),
        ({"texts": "[MASK]", "top_k": 1.0}, "top_k must be a whole number of at least 1, got 1.0"),
        ({"texts": "[MASK]", "truncate": True}, r"must be called as model\(texts\), got texts, truncate"),
    ],
)
def test_call_names_rule_and_value_when_it_is_wrong(model, arguments, message):
    with pytest.raises(InputError, match=message):
        model(**arguments)


@pytest.mark.parametrize("token_id", [None, 999])
def test_call_blames_the_bundle_when_it_names_no_mask_token(bundle, token_id):
    manifest = replace(bundle.manifest, model=replace(bundle.manifest.model, mask_token_id=token_id))
    with pytest.raises(BundleError, match=f"mask_token_id must be an id of the bundle's tokenizer, got {token_id}"):
        DynamicBert(bundle.folder, manifest)("[MASK]")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_candidates_equal_hugging_faces_pipeline(bundle):
    import torch
    from transformers import PreTrainedTokenizerFast
    from transformers.pipelines.fill_mask import FillMaskPipeline

    tokenizer = make_tokenizer()
    tokenizer.no_padding()
    tokenizer.no_truncation()
    pipeline = object.__new__(FillMaskPipeline)
    pipeline.framework = "pt"
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("mask", "pad", "cls", "sep")}
    pipeline.tokenizer = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    ids = pipeline.tokenizer("the [MASK] of [MASK]", return_tensors="pt")["input_ids"]
    logits = np.random.default_rng(0).normal(size=(1, ids.shape[1], len(WORDS))).astype(np.float32)
    theirs = pipeline.postprocess({"input_ids": ids, "logits": torch.from_numpy(logits)}, top_k=7)
    facts = bundle.manifest.model
    task = TaskContext(facts, TextTokenizer(make_tokenizer(), facts), lambda _: {"logits": logits})
    ours = fill_masks(task, "the [MASK] of [MASK]", top_k=7, batch_size=8)
    assert [[(item.token_id, pytest.approx(item.score)) for item in mask.candidates] for mask in ours] == [
        [(item["token"], item["score"]) for item in mask] for mask in theirs
    ]
