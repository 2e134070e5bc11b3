"""A mask of zeros that is not added changes nothing, to the last bit; any other mask is added."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.lengths import LengthConfig
from dynbert_export.graph.freeze import freeze
from dynbert_export.graph.specialise import rewrite
from dynbert_export.graph.unpadded import skip_empty_mask
from tests.helpers.graphs import (
    count_operators,
    make_feed,
    parse_graph,
    run_graph_in_memory,
    serialize,
    with_lengths,
)

_TOY = """(float[b,t,t] x, int64[b,t] attention_mask) => (float[b,t,t] y) {
    by_row = Unsqueeze (attention_mask, one)
    numbers = Cast <to = 1> (by_row)
    padding = Sub (full, numbers)
    mask = Mul (padding, lowest)
    masked = Add (x, mask)
    y = Softmax <axis = -1> (masked)
}"""
_TOY_CONSTANTS = {"one": np.array([1]), "full": np.float32(1), "lowest": np.finfo(np.float32).min}


def _frozen(traced, lengths):
    config = None if lengths is None else LengthConfig(lengths)
    return freeze(rewrite(traced.graph, traced.spec), config, traced.spec)


def _feeds():
    rows = [make_feed(1, 20, seed=seed) for seed in range(3)]
    unpadded = {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
    mixed = {name: np.concatenate([make_feed(4, 20)[name], unpadded[name]]) for name in unpadded}
    return [*(make_feed(batch, tokens) for tokens in (1, 2, 20, 64) for batch in (1, 4)), unpadded, mixed]


@pytest.mark.parametrize("lengths", [None, (20, 10, 5), (64, 30, 6), (0.9, 0.4, 0.2)])
def test_answers_stay_to_the_last_bit(traced, lengths):
    before = _frozen(traced, lengths)
    feeds = [traced.arrange(feed) for feed in _feeds()]
    runs = (run_graph_in_memory(graph, *feeds) for graph in (before, skip_empty_mask(before)))
    for wanted, got in zip(*runs, strict=True):
        assert wanted.keys() == got.keys()
        for name, array in wanted.items():
            np.testing.assert_array_equal(got[name], array, err_msg=name)


def test_anytime_graph_stays_too(traced_embedder):
    before = rewrite(traced_embedder.graph, traced_embedder.spec)
    feeds = [with_lengths(feed, LengthConfig((20, 10, 5)), traced_embedder.spec) for feed in _feeds()]
    runs = (run_graph_in_memory(graph, *feeds) for graph in (before, skip_empty_mask(before)))
    for wanted, got in zip(*runs, strict=True):
        np.testing.assert_array_equal(got["last_hidden_state"], wanted["last_hidden_state"])


def test_every_layer_branches_and_asks_once(traced):
    before = _frozen(traced, (20, 10, 5))
    counts, after = count_operators(before), count_operators(skip_empty_mask(before))
    assert (after["If"], after["Softmax"]) == (counts["Softmax"], 0) == (traced.spec.num_layers, 0)
    assert (after["Equal"] - counts["Equal"], after["Add"]) == (1, counts["Add"] - counts["Softmax"])


def test_branches_are_what_they_are_called(traced_embedder):
    [branching, *_] = [n for n in skip_empty_mask(_frozen(traced_embedder, None)).graph if n.op_type == "If"]
    operators = {
        name: [node.op_type for node in branching.attributes[name].as_graph()]
        for name in ("then_branch", "else_branch")
    }
    assert operators == {"then_branch": ["Softmax"], "else_branch": ["Add", "Softmax"]}


def test_padding_is_still_masked(traced_embedder):
    """A canary: with every token unmasked, the answers of padded rows must change."""
    graph = skip_empty_mask(_frozen(traced_embedder, None))
    feed = make_feed(4, 20)
    right, wrong = (
        run_graph_in_memory(graph, {**feed, "attention_mask": mask})[0]["last_hidden_state"]
        for mask in (feed["attention_mask"], np.ones_like(feed["attention_mask"]))
    )
    assert np.abs(right - wrong)[feed["attention_mask"] == 1].max() > 0.01


@pytest.mark.parametrize("mask", [[[1, 1, 1]], [[1, 1, 0]], [[0, 0, 0]], [[1, 1, 2]], [[2, 2, 2]]])
def test_any_mask_that_adds_something_is_added(mask):
    model = parse_graph(_TOY, **_TOY_CONSTANTS)
    after = skip_empty_mask(model)
    assert count_operators(after)["If"] == 1
    feed = {
        "x": np.random.default_rng(0).normal(size=(1, 3, 3)).astype(np.float32),
        "attention_mask": np.array(mask),
    }
    [wanted], [got] = (run_graph_in_memory(graph, feed) for graph in (model, after))
    np.testing.assert_array_equal(got["y"], wanted["y"])


@pytest.mark.parametrize(
    "text",
    [
        _TOY.replace("masked = Add (x, mask)", "masked = Add (x, x)"),
        _TOY.replace("masked = Add (x, mask)", "masked = Mul (x, mask)"),
        _TOY.replace("masked = Add (x, mask)", "masked = Add (x, numbers)"),
        _TOY.replace("padding = Sub (full, numbers)", "ten = Mul (x, x) padding = Sub (ten, numbers)"),
        _TOY.replace("y = Softmax <axis = -1> (masked)", "z = Softmax <axis = -1> (masked) y = Add (z, masked)"),
    ],
)
def test_others_stay(text):
    model = parse_graph(text, **_TOY_CONSTANTS)
    before = serialize(model)
    assert serialize(skip_empty_mask(model)) == before
