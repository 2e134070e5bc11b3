"""Rows that are put back at once are the rows that were put back number by number."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.lengths import LengthConfig
from dynbert_export.graph.freeze import freeze
from dynbert_export.graph.rewrites import rewrite
from dynbert_export.graph.scatter_rows import scatter_rows
from tests.helpers.graphs import (
    assert_same_answers,
    count_operators,
    make_feed,
    parse_graph,
    run_graph_in_memory,
)


def test_answers_stay(traced):
    assert_same_answers(traced, scatter_rows(rewrite(traced.graph, traced.spec)))


@pytest.mark.parametrize("lengths", [(20, 10, 5), (64, 30, 6), (0.9, 0.4, 0.2)])
def test_frozen_graph_gives_exactly_the_same(traced_embedder, lengths):
    before = freeze(rewrite(traced_embedder.graph, traced_embedder.spec), LengthConfig(lengths), traced_embedder.spec)
    after = scatter_rows(before)
    feeds = [make_feed(batch, tokens) for tokens in (1, 2, 20, 64) for batch in (1, 4)]
    for wanted, got in zip(run_graph_in_memory(before, *feeds), run_graph_in_memory(after, *feeds), strict=True):
        np.testing.assert_array_equal(got["last_hidden_state"], wanted["last_hidden_state"])


def test_every_scatter_is_by_rows(traced_embedder):
    counts = count_operators(scatter_rows(traced_embedder.graph))
    assert (counts["ScatterElements"], counts["ScatterND"]) == (0, traced_embedder.spec.num_layers)


@pytest.mark.parametrize(
    "scatter", ["ScatterElements <axis = 2> (x, index, updates)", "ScatterElements <axis = 1> (x, given, updates)"]
)
def test_other_scatters_stay(scatter):
    index = "column = Unsqueeze (kept, last) shape = Shape (updates) index = Expand (column, shape)"
    inputs = "float[1,4,4] x, float[1,2,4] updates, int64[1,2] kept, int64[1,2,4] given"
    model = parse_graph(
        f"({inputs}) => (float[1,4,4] y) {{ {index} y = {scatter} }}",
        last=np.array([2]),
    )
    before = count_operators(model)
    assert count_operators(scatter_rows(model))["ScatterElements"] == before["ScatterElements"] == 1
