"""Rows that are moved at once are the rows that were moved number by number."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.lengths import LengthConfig
from dynbert_export.graph.freeze import freeze
from dynbert_export.graph.specialise import rewrite
from dynbert_export.graph.whole_rows import move_whole_rows
from tests.helpers.graphs import (
    assert_same_answers,
    count_operators,
    make_feed,
    parse_graph,
    run_graph_in_memory,
)


def test_answers_stay(traced):
    assert_same_answers(traced, move_whole_rows(rewrite(traced.graph, traced.spec)))


@pytest.mark.parametrize("lengths", [(20, 10, 5), (64, 30, 6), (0.9, 0.4, 0.2)])
def test_frozen_graph_gives_exactly_the_same(traced_embedder, lengths):
    before = freeze(rewrite(traced_embedder.graph, traced_embedder.spec), LengthConfig(lengths), traced_embedder.spec)
    after = move_whole_rows(before)
    feeds = [make_feed(batch, tokens) for tokens in (1, 2, 20, 64) for batch in (1, 4)]
    for wanted, got in zip(run_graph_in_memory(before, *feeds), run_graph_in_memory(after, *feeds), strict=True):
        np.testing.assert_array_equal(got["last_hidden_state"], wanted["last_hidden_state"])


def test_states_move_by_rows_and_what_selects_does_not(traced_embedder):
    before, after = (
        count_operators(graph) for graph in (traced_embedder.graph, move_whole_rows(traced_embedder.graph))
    )
    layers = traced_embedder.spec.num_layers
    assert (after["ScatterElements"], after["ScatterND"], after["GatherND"]) == (0, layers, layers)
    assert after["GatherElements"] == before["GatherElements"] - layers > 0


@pytest.mark.parametrize(
    "move",
    [
        "ScatterElements <axis = 2> (x, index, updates)",
        "ScatterElements <axis = 1> (x, given, updates)",
        "GatherElements <axis = 2> (x, index)",
        "GatherElements (x, index)",
        "GatherElements <axis = 1> (x, given)",
    ],
)
def test_others_stay(move):
    index = "column = Unsqueeze (kept, last) shape = Shape (updates) index = Expand (column, shape)"
    inputs = "float[1,4,4] x, float[1,2,4] updates, int64[1,2] kept, int64[1,2,4] given"
    model = parse_graph(
        f"({inputs}) => (float[1,a,b] y) {{ {index} y = {move} }}",
        last=np.array([2]),
    )
    operator = move.split()[0]
    assert count_operators(model)[operator] == count_operators(move_whole_rows(model))[operator] == 1
