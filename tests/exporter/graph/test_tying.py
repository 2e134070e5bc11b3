"""Tied vocabularies: the same numbers, one table, and no other graph is touched."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_export.graph.freeze import freeze, hide_kept_positions
from dynbert_export.graph.tying import share_tied_weights
from dynbert_export.graph.weights_file import save_sharing_weights
from dynbert_export.int8.lower import lower
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    make_feed,
    parse_graph,
    quantize_tiny_model,
    run_graph_in_memory,
    serialize,
    trace_tiny_model,
)

_VOCABULARY, _HIDDEN = 200, 32


def _tables(model):
    shapes = ((_VOCABULARY, _HIDDEN), (_HIDDEN, _VOCABULARY))
    return [tuple(value.shape) for value in model.graph.initializers.values() if tuple(value.shape) in shapes]


@pytest.mark.parametrize("task", [Task.FILL_MASK, Task.PRETRAINING])
@pytest.mark.parametrize("config", [None, LengthConfig((20, 10, 5)), LengthConfig((0.5, 0.3, 0.2))])
def test_vocabulary_is_scored_by_the_word_embeddings_themselves(traced_models, task, config):
    traced = traced_models[task]
    frozen = hide_kept_positions(freeze(traced.graph, config, traced.spec))
    before = serialize(frozen)
    shared = share_tied_weights(frozen)
    assert len(_tables(frozen)) == 2, "there is something to share"
    assert _tables(shared) == [(_VOCABULARY, _HIDDEN)]
    assert count_operators(shared) == count_operators(frozen) + Counter({"Transpose": 1})
    assert serialize(frozen) == before
    onnx.checker.check_model(ir.to_proto(shared), full_check=True)
    feeds = [make_feed(batch, tokens) for tokens in (1, 7, 64) for batch in (1, 4)]
    for wanted, got in zip(run_graph_in_memory(frozen, *feeds), run_graph_in_memory(shared, *feeds), strict=True):
        for name, array in wanted.items():
            assert_informative(array)
            np.testing.assert_allclose(got[name], array, rtol=0, atol=1e-5)


def test_weights_file_has_the_table_once(traced_models, tmp_path):
    traced = traced_models[Task.FILL_MASK]
    sizes = {}
    for name, change in (("before", lambda model: model), ("after", share_tied_weights)):
        frozen = hide_kept_positions(freeze(traced.graph, None, traced.spec))
        save_sharing_weights({f"{name}.onnx": change(frozen)}, tmp_path, f"{name}.bin")
        sizes[name] = (tmp_path / f"{name}.bin").stat().st_size
    assert sizes["before"] - sizes["after"] >= 4 * _VOCABULARY * _HIDDEN


def test_quantised_graphs_share_the_table_too(traced_models):
    """Neural Compressor rewrites products; the vocabulary's must come out of it in a form that is known here."""
    traced = traced_models[Task.PRETRAINING]
    steps = quantize_tiny_model(traced)
    for model in (steps.qdq, steps.dynamic):
        frozen = freeze(lower(model), None, traced.spec)
        assert _tables(share_tied_weights(frozen)) == [(_VOCABULARY, _HIDDEN)]


def test_a_vocabulary_with_weights_of_its_own_keeps_them(tmp_path):
    traced = trace_tiny_model(tmp_path, Task.FILL_MASK, tie_word_embeddings=False)
    shared = share_tied_weights(traced.graph)
    assert sorted(_tables(shared)) == [(_HIDDEN, _VOCABULARY), (_VOCABULARY, _HIDDEN)]
    assert count_operators(shared) == count_operators(traced.graph)


@pytest.mark.parametrize("task", sorted(set(Task) - {Task.FILL_MASK, Task.PRETRAINING}))
def test_other_heads_stay_as_they_are(traced_models, task):
    graph = traced_models[task].graph
    assert serialize(share_tied_weights(graph)) == serialize(graph)


_TOY = """(int64[rows] ids) => (float[rows,VOCABULARY] y) {
    x = Gather (table, ids)
    y = MatMul (x, matrix)
}"""


def _toy(table, matrix):
    return parse_graph(_TOY.replace("VOCABULARY", str(matrix.shape[1])), table=table, matrix=matrix)


def test_only_an_equal_matrix_is_replaced():
    table = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    tied = np.ascontiguousarray(table.T)
    assert count_operators(share_tied_weights(_toy(table, tied)))["Transpose"] == 1
    changed = tied.copy()
    changed[3, 5] += 1e-3
    square = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    for rows, matrix in ((table, changed), (table, tied[:, :5]), (square, square)):
        assert count_operators(share_tied_weights(_toy(rows, np.ascontiguousarray(matrix))))["Transpose"] == 0
