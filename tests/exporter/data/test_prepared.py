"""Which texts are calibrated on, which are judged by, and the arrays of both."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.manifest import Task
from dynbert_export.checkpoint.tokenizer import load_tokenizer
from dynbert_export.data.files import CalibrationTexts, load_texts
from dynbert_export.data.prepared import prepare_data
from dynbert_export.data.samples import Sample
from dynbert_export.tasks import HEADS

_WORDS = ("city", "river", "story", "train", "water", "house", "bridge", "night", "book", "film")


@pytest.fixture(scope="module")
def tokenizer(traced_embedder):
    return load_tokenizer(traced_embedder.checkpoint)


def _texts(count, words=20):
    generator = np.random.default_rng(0)
    samples = tuple(Sample(f"{index} " + " ".join(generator.choice(_WORDS, words))) for index in range(count))
    return CalibrationTexts(samples, name="mine.txt", note=None)


def _prepare(texts, tokenizer, task=Task.FEATURE_EXTRACTION, samples=128, max_length=64, seed=0):
    return prepare_data(texts, tokenizer, task, samples=samples, max_length=max_length, seed=seed)


def _rows(feeds):
    return [tuple(ids[mask == 1]) for f in feeds for ids, mask in zip(f["input_ids"], f["attention_mask"], strict=True)]


def test_evaluation_texts_are_not_calibrated_on(tokenizer):
    texts = _texts(40)
    prepared = _prepare(texts, tokenizer)
    number_ids = {row[1] for row in _rows(prepared.evaluation.feeds)}  # each text starts with its number's first digit
    assert prepared.evaluation.samples == len(_rows(prepared.evaluation.feeds)) == 10
    assert prepared.evaluation.name == "mine.txt, 10 held out"
    assert number_ids
    evaluated = {row[1:-1] for row in _rows(prepared.evaluation.feeds)}
    calibrated = [row[1:-1] for row in _rows(prepared.calibration)]
    for text in evaluated:
        middle = text[-12:]  # twelve words in a row do not come twice by chance
        assert not any(middle == row[i : i + 12] for row in calibrated for i in range(len(row)))


@pytest.mark.parametrize(("max_length", "window"), [(64, 64), (300, 128)])
def test_calibration_inputs_have_one_shape_and_no_padding(tokenizer, max_length, window):
    prepared = _prepare(_texts(40), tokenizer, max_length=max_length)
    assert {feed["input_ids"].shape for feed in prepared.calibration} == {(1, window)}
    assert all((feed["attention_mask"] == 1).all() for feed in prepared.calibration)


def test_evaluation_texts_stand_alone_and_without_padding(tokenizer):
    feeds = _prepare(_texts(60), tokenizer).evaluation.feeds
    assert {len(feed["input_ids"]) for feed in feeds} == {1}
    assert len({feed["input_ids"].shape for feed in feeds}) > 1, "each has its own length"
    assert all(feed["attention_mask"].all() for feed in feeds)


def test_evaluation_is_bounded_in_tokens_and_samples(tokenizer):
    prepared = _prepare(_texts(400, words=60), tokenizer, samples=300)
    assert sum(feed["input_ids"].size for feed in prepared.evaluation.feeds) <= 4096
    assert 8 <= prepared.evaluation.samples <= 64


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_samples_serve_both_purposes(tokenizer, count):
    prepared = _prepare(_texts(count), tokenizer)
    assert prepared.evaluation.samples == count
    assert prepared.evaluation.name == f"mine.txt, {count} calibrated on"
    assert prepared.calibration


def test_number_of_samples_is_kept(tokenizer):
    few, many = (_prepare(_texts(100), tokenizer, samples=count) for count in (4, 100))
    assert len(few.calibration) < len(many.calibration)


def test_seed_decides_the_samples(tokenizer):
    first, second, other = (_prepare(_texts(100), tokenizer, samples=20, seed=seed) for seed in (0, 0, 1))
    assert _rows(first.evaluation.feeds) == _rows(second.evaluation.feeds)
    assert _rows(first.calibration) == _rows(second.calibration)
    assert _rows(first.evaluation.feeds) != _rows(other.evaluation.feeds)


@pytest.mark.parametrize("task", list(Task))
def test_built_in_texts_are_enough_to_judge_by(tokenizer, task):
    prepared = _prepare(load_texts(None, task), tokenizer, task)
    assert prepared.evaluation.name.startswith("built-in, ")
    assert prepared.evaluation.samples >= 8
    has_second_part = any((feed["token_type_ids"] == 1).any() for feed in prepared.calibration)
    assert has_second_part == HEADS[task].pairs.is_required


@pytest.mark.parametrize("task", list(Task))
def test_rows_have_the_shape_and_the_masks_that_the_task_needs(tokenizer, task):
    texts = _texts(20)
    prepared, plain = _prepare(texts, tokenizer, task), _prepare(texts, tokenizer)
    for feeds in (prepared.calibration, prepared.evaluation.feeds):
        assert {feed["input_ids"].ndim for feed in feeds} == {3 if task is Task.MULTIPLE_CHOICE else 2}
        assert all(feed["input_ids"].size == feed["input_ids"].shape[-1] for feed in feeds)
        shares = [(feed["input_ids"] == tokenizer.mask_token_id).mean() for feed in feeds]
        lowest, highest = (0.05, 0.2) if HEADS[task].has_vocabulary else (0, 0)
        assert all(lowest <= share <= highest for share in shares)
        assert {array.dtype for feed in feeds for array in feed.values()} == {np.dtype(np.int64)}
    assert prepared.evaluation.samples == plain.evaluation.samples
    places = {tuple(np.flatnonzero(feed["input_ids"] == tokenizer.mask_token_id)) for feed in prepared.calibration}
    assert (len(places) > 1) == HEADS[task].has_vocabulary, "other masks in every window"
    again = _prepare(texts, tokenizer, task)
    for first, second in zip(prepared.evaluation.feeds, again.evaluation.feeds, strict=True):
        np.testing.assert_array_equal(first["input_ids"], second["input_ids"])
