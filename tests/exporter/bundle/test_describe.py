"""The manifest's facts of a model, and the probe: recorded runs of the published graphs."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Embeddings, Task
from dynbert.probe import read_probe
from dynbert_export.bundle.describe import describe_model, record_probe
from dynbert_export.graph.specialise import write_graphs
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.variants import FP32_SET, PublishedGraph, list_variants
from tests.helpers.graphs import make_feed, run_graph_in_memory, with_lengths

_FAST = LengthConfig((20, 10, 5))


def _describe(traced, *, mask_token_id=None):
    embeddings = Embeddings.TOKEN_STATES if traced.checkpoint.task is Task.FEATURE_EXTRACTION else None
    return describe_model(
        traced.checkpoint, always_keep_cls_token=True, embeddings=embeddings, mask_token_id=mask_token_id
    )


def test_facts_are_the_checkpoint_s(traced):
    facts, config = _describe(traced, mask_token_id=7), traced.checkpoint.config
    assert (facts.task, facts.architecture) == (traced.checkpoint.task, traced.checkpoint.architecture)
    assert (facts.num_layers, facts.max_length) == (traced.spec.num_layers, traced.spec.max_length)
    assert (facts.vocab_size, facts.pad_token_id, facts.mask_token_id) == (config.vocab_size, config.pad_token_id, 7)


def _record(traced, folder, facts):
    variants = list_variants((NamedLengths("fast", _FAST),), traced.spec.num_layers)
    paths = write_graphs(traced.graph, variants, folder, FP32_SET, traced.spec)
    published = [PublishedGraph(variant, FP32_SET, paths[variant.name]) for variant in variants]
    example = traced.arrange(make_feed(1, 50, vocab_size=traced.vocab_size))
    record_probe(folder, published, example, facts)
    return example, read_probe(folder / "probe.npz")


def test_probe_has_the_first_tokens_and_what_every_graph_gives_for_them(traced_embedder, tmp_path):
    example, probe = _record(traced_embedder, tmp_path, _describe(traced_embedder))
    first = {name: array[:, :32] for name, array in example.items()}
    for name, array in first.items():
        np.testing.assert_array_equal(probe[f"input.{name}"], array)
    for graph, lengths in (("full", None), ("fast", _FAST), ("anytime", _FAST)):
        [wanted] = run_graph_in_memory(traced_embedder.graph, with_lengths(first, lengths, traced_embedder.spec))
        got = probe[f"{graph}.fp32.onnx/last_hidden_state"]
        np.testing.assert_allclose(got, wanted["last_hidden_state"], rtol=0, atol=2e-5)


@pytest.mark.parametrize(("vocab_size", "tokens"), [(200, 32), (30522, 8), (1 << 30, 1)])
def test_probe_of_a_large_vocabulary_is_short(traced_models, tmp_path, vocab_size, tokens):
    traced = traced_models[Task.FILL_MASK]
    facts = msgspec.structs.replace(_describe(traced), vocab_size=vocab_size)
    _, probe = _record(traced, tmp_path, facts)
    assert probe["input.input_ids"].shape == (1, tokens)
