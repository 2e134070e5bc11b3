"""Embeddings: pooling by hand, by sentence-transformers, and over batches."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

import dynbert
from dynbert import Pooling, PoolingMode
from dynbert.errors import BundleError, InputError
from dynbert.manifest import Embeddings, Task
from dynbert.model import DynamicBert
from dynbert.tasks.feature_extraction import pool
from tests.helpers.bundles import WORDS, make_bundle

MEAN = Pooling(mode=PoolingMode.MEAN, normalize=False)
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


@pytest.mark.parametrize(
    ("embeddings", "output"),
    [(Embeddings.TOKEN_STATES, "last_hidden_state"), (Embeddings.POOLED, "sentence_embedding")],
)
def test_encode_blames_the_bundle_when_the_graph_has_another_output(tmp_path, embeddings, output):
    bundle = make_bundle(tmp_path / "bundle", task=Task.QUESTION_ANSWERING)
    changes = {"task": Task.FEATURE_EXTRACTION, "embeddings": embeddings, "pooling": MEAN}
    manifest = replace(bundle.manifest, model=replace(bundle.manifest.model, **changes))
    with pytest.raises(BundleError, match=f"must have the output {output}, got start_logits, end_logits"):
        DynamicBert(bundle.folder, manifest).encode("the")


@pytest.fixture(scope="module")
def pooled_bundle(tmp_path_factory):
    """Of CLS, so that it is not the default that is taken for right."""
    pooling = Pooling(mode=PoolingMode.CLS, normalize=False)
    return make_bundle(tmp_path_factory.mktemp("pooled"), embeddings=Embeddings.POOLED, pooling=pooling)


@pytest.fixture(scope="module")
def pooled_model(pooled_bundle):
    return dynbert.load(pooled_bundle.folder)


@pytest.mark.parametrize("choice", [{}, {"profile": "fast"}, {"length_config": (3, 2)}, {"length_config": (0.5, 0.25)}])
def test_embedding_is_what_the_graph_pooled(pooled_model, choice):
    embeddings = pooled_model.encode(TEXTS, **choice)
    assert (embeddings.dtype, embeddings.shape) == (np.float32, (3, 8))
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        ids = pooled_model._tokenizer.encode([text], truncate=False)[0].ids
        run = pooled_model.run({"input_ids": [ids]}, **choice)
        assert set(run) == {"sentence_embedding"}
        np.testing.assert_allclose(embedding, run["sentence_embedding"][0], rtol=1e-5)
        np.testing.assert_array_equal(pooled_model(text, **choice), pooled_model.encode(text, **choice))
    assert np.ptp(embeddings, axis=0).min() > 0


def test_embedding_of_a_graph_is_the_oracle_s(pooled_model, pooled_bundle):
    ids = np.array([[2, *(WORDS.index(word) for word in ("the", "good", "book")), 3]])
    [expected] = pooled_bundle.expected("full.int8.onnx", ids)["sentence_embedding"]
    np.testing.assert_allclose(pooled_model.encode("the good book"), expected, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["cls", PoolingMode.CLS, Pooling(mode=PoolingMode.CLS, normalize=False)])
def test_the_pooling_of_the_graphs_may_be_named(pooled_model, pooling):
    np.testing.assert_array_equal(pooled_model.encode(TEXTS, pooling=pooling), pooled_model.encode(TEXTS))


@pytest.mark.parametrize(
    ("pooling", "got"),
    [
        ("mean", "mean, not normalised"),
        (Pooling(mode=PoolingMode.CLS, normalize=True), "cls, normalised"),
        (Pooling(mode=PoolingMode.MEAN, normalize=True), "mean, normalised"),
    ],
)
def test_another_pooling_than_that_of_the_graphs_is_refused(pooled_model, pooling, got):
    message = (
        rf"^pooling must be that of this bundle's graphs, which pool \(cls, not normalised\), got {got}\. "
        r"Leave it out, or export with --embeddings token-states to choose at each call\.$"
    )
    with pytest.raises(InputError, match=message):
        pooled_model.encode("the", pooling=pooling)
    with pytest.raises(InputError, match="pooling must be one of mean, cls, or a Pooling, got 'max'"):
        pooled_model.encode("the", pooling="max")


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
