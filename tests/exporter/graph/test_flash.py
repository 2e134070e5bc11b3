"""A layer that drops nothing answers the same with one operator as with many."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_export.graph.flash import use_flash_attention
from dynbert_export.graph.freeze import freeze
from dynbert_export.graph.specialise import rewrite
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    make_feed,
    run_graph_in_memory,
    run_torch,
    serialize,
    trace_tiny_model,
)

_CONFIGS = [(None, 3), ((64, 30, 6), 1), ((12, 12, 5), 1), ((20, 10, 5), 0), ((1.0, 1.0, 0.3), 2)]


def _freeze(traced, lengths):
    config = None if lengths is None else LengthConfig(lengths)
    return freeze(rewrite(traced.graph, traced.spec), config, traced.spec)


def _feeds():
    unpadded = [make_feed(1, tokens) for tokens in (1, 2, 20, 64)]
    padded = [make_feed(4, tokens) for tokens in (2, 20, 64)]
    rows = [make_feed(1, 20, seed=seed) for seed in range(3)]
    return [*unpadded, *padded, {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}]


@pytest.mark.parametrize("lengths", [lengths for lengths, _ in _CONFIGS])
def test_answers_stay(traced, lengths):
    before = _freeze(traced, lengths)
    after = use_flash_attention(before)
    feeds = [traced.arrange(feed) for feed in _feeds()]
    for feed, wanted, got in zip(
        feeds, run_graph_in_memory(before, *feeds), run_graph_in_memory(after, *feeds), strict=True
    ):
        assert wanted.keys() == got.keys()
        for name, array in wanted.items():
            if array.dtype == np.float32:
                assert_informative(array)
            np.testing.assert_allclose(got[name], array, rtol=0, atol=2e-5, err_msg=f"{name} {feed['input_ids'].shape}")


@pytest.mark.parametrize(("lengths", "layers"), _CONFIGS)
def test_layers_that_drop_nothing_get_the_operator_and_others_do_not(traced_embedder, lengths, layers):
    counts = count_operators(use_flash_attention(_freeze(traced_embedder, lengths)))
    assert counts["MultiHeadAttention"] == layers
    assert counts["Softmax"] == traced_embedder.spec.num_layers - layers


def test_single_token_layer_gets_the_operator_too(traced_models):
    traced = traced_models[Task.TEXT_CLASSIFICATION]
    graph = use_flash_attention(_freeze(traced, (20, 10, 5)))
    assert count_operators(graph)["MultiHeadAttention"] == 1
    for feed in _feeds():
        expected, _ = run_torch(traced, feed, LengthConfig((20, 10, 5)))
        np.testing.assert_allclose(run_graph_in_memory(graph, feed)[0]["logits"], expected["logits"], atol=1e-4)


def test_padding_changes_nothing_to_the_last_bit(traced_embedder):
    """What INT8 needs: a sum rounded otherwise may end on the other side of a quantisation step."""
    graph = use_flash_attention(_freeze(traced_embedder, None))
    alone = make_feed(1, 20)
    padded = {name: np.pad(array, ((0, 0), (0, 44))) for name, array in alone.items()}
    rows = make_feed(4, 64)
    batch = {name: np.concatenate([padded[name], rows[name]]) for name in rows}
    wanted, got, of_batch = (
        run_graph_in_memory(graph, feed)[0]["last_hidden_state"] for feed in (alone, padded, batch)
    )
    np.testing.assert_array_equal(got[:, :20], wanted)
    np.testing.assert_array_equal(of_batch[:1, :20], wanted)


def test_the_mask_is_heeded(traced_embedder):
    """A canary: with every token unmasked, padded rows must change."""
    graph = use_flash_attention(_freeze(traced_embedder, None))
    feed = make_feed(4, 20)
    right, wrong = (
        run_graph_in_memory(graph, {**feed, "attention_mask": mask})[0]["last_hidden_state"]
        for mask in (feed["attention_mask"], np.ones_like(feed["attention_mask"]))
    )
    assert np.abs(right - wrong)[feed["attention_mask"] == 1].max() > 0.01


@pytest.mark.parametrize("kind", ["relative_key", "relative_key_query"])
def test_relative_positions_keep_their_traced_form(tmp_path, kind):
    traced = trace_tiny_model(tmp_path / kind, Task.FEATURE_EXTRACTION, position_embedding_type=kind)
    before = _freeze(traced, None)
    assert serialize(use_flash_attention(before)) == serialize(before)
