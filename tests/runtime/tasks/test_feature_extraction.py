"""Embeddings: pooling by hand, by sentence-transformers, and over batches."""

from __future__ import annotations

import numpy as np
import pytest

import dynbert
from dynbert import Pooling, PoolingMode
from dynbert.errors import BundleError, InputError
from dynbert.manifest import Task
from dynbert.tasks.feature_extraction import pool
from tests.helpers.bundles import WORDS, make_bundle

TEXTS = ["the good book", "paris", "zoe was in the old tower, running"]


def states_of(bundle, text):
    ids = [WORDS.index(word) for word in text.split()]
    return bundle.expected("full.int8.onnx", np.array([[2, *ids, 3]]))["last_hidden_state"][0]


@pytest.fixture(scope="module")
def model(embedding_bundle):
    return dynbert.load(embedding_bundle.folder)


def test_encode_is_the_normalised_mean_of_all_tokens(model, embedding_bundle):
    text = "the good book"
    mean = states_of(embedding_bundle, text).mean(axis=0)
    embedding = model.encode(text)
    assert embedding.dtype == np.float32
    assert embedding.shape == (8,)
    np.testing.assert_allclose(embedding, mean / np.linalg.norm(mean), rtol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "is_cls", "is_unit"),
    [
        ("mean", False, True),
        ("cls", True, True),
        (PoolingMode.CLS, True, True),
        (Pooling(mode=PoolingMode.MEAN, normalize=False), False, False),
        (Pooling(mode=PoolingMode.CLS, normalize=False), True, False),
    ],
)
def test_encode_pools_as_the_argument_says(model, embedding_bundle, pooling, is_cls, is_unit):
    states = states_of(embedding_bundle, "the good book")
    expected = states[0] if is_cls else states.mean(axis=0)
    expected = expected / np.linalg.norm(expected) if is_unit else expected
    np.testing.assert_allclose(model.encode("the good book", pooling=pooling), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("stated", "mode", "normalize"),
    [
        (None, "mean", False),
        (Pooling(mode=PoolingMode.CLS, normalize=True), "cls", True),
        (Pooling(mode=PoolingMode.MEAN, normalize=False), "mean", False),
    ],
)
def test_encode_pools_as_the_bundle_says(tmp_path, stated, mode, normalize):
    bundle = make_bundle(tmp_path / "bundle", pooling=stated)
    model = dynbert.load(bundle.folder)
    explicit = Pooling(mode=PoolingMode(mode), normalize=normalize)
    np.testing.assert_array_equal(model.encode("the book"), model.encode("the book", pooling=explicit))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_encode_keeps_order_and_ignores_padding(model, batch_size):
    embeddings = model.encode(TEXTS, batch_size=batch_size)
    assert embeddings.shape == (3, 8)
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        np.testing.assert_allclose(model.encode(text), embedding, rtol=1e-5, atol=1e-6)
    assert np.ptp(embeddings, axis=0).min() > 0


def test_encode_of_nothing_is_an_empty_array(model):
    assert model.encode([]).shape == (0, 8)
    assert model.encode([]).dtype == np.float32


def test_call_is_encode(model):
    np.testing.assert_array_equal(model(TEXTS), model.encode(TEXTS))
    np.testing.assert_array_equal(model(TEXTS[0], profile="fast"), model.encode(TEXTS[0], profile="fast"))


def test_encode_takes_an_iterator_as_length_config_when_there_are_many_batches(model):
    np.testing.assert_array_equal(
        model.encode(TEXTS, batch_size=1, length_config=iter([9, 3])),
        model.encode(TEXTS, batch_size=1, length_config=[9, 3]),
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": ""}, "text must have at least one token"),
        ({"texts": "the " * 15}, "at most 14 tokens"),
        ({"texts": "the", "batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"texts": "the", "batch_size": True}, "batch_size must be a whole number of at least 1, got True"),
        ({"texts": "the", "pooling": "max"}, "pooling must be one of mean, cls, or a Pooling, got 'max'"),
        ({"texts": "the", "profile": "slow"}, "profile must be one of full, fast, got 'slow'"),
    ],
)
def test_encode_names_rule_and_value_when_input_is_wrong(model, arguments, message):
    with pytest.raises(InputError, match=message):
        model.encode(**arguments)


def test_encode_blames_the_bundle_when_the_graph_has_no_states(tmp_path):
    from msgspec.structs import replace

    from dynbert.model import DynamicBert

    bundle = make_bundle(tmp_path / "bundle", task=Task.QUESTION_ANSWERING)
    manifest = replace(bundle.manifest, model=replace(bundle.manifest.model, task=Task.FEATURE_EXTRACTION))
    with pytest.raises(BundleError, match="must have the output last_hidden_state, got start_logits, end_logits"):
        DynamicBert(bundle.folder, manifest).encode("the")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["mean", "cls"])
def test_pooling_equals_sentence_transformers(mode):
    import torch
    from sentence_transformers.models import Pooling as Oracle

    generator = np.random.default_rng(1)
    states = generator.normal(size=(4, 6, 8)).astype(np.float32)
    mask = np.array([[1] * length + [0] * (6 - length) for length in (6, 4, 2, 1)])
    features = {"token_embeddings": torch.tensor(states), "attention_mask": torch.tensor(mask)}
    pooled = Oracle(8, pooling_mode=mode)(features)["sentence_embedding"]
    for normalize in (False, True):
        expected = torch.nn.functional.normalize(pooled, dim=1) if normalize else pooled
        ours = pool(states, mask, Pooling(mode=PoolingMode(mode), normalize=normalize))
        np.testing.assert_allclose(ours, expected.numpy(), rtol=1e-5, atol=1e-6)
