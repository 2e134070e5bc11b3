"""Published graphs say where they hold the tokens that they keep; the oracle is what PyTorch's layers keep."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dynbert.kept_values import KEPT_TOKENS, KeptValues, read_kept_values
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, Pooling, PoolingMode, Precision, Target, Task
from dynbert.session import open_graph
from dynbert_export.graph.kept_indices import name_kept_indices
from dynbert_export.graph.names import kept_positions_name
from dynbert_export.graph.specialise import rewrite, write_graphs
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.variants import FP32_SET, GraphSet, list_variants
from tests.helpers.graphs import make_feed, run_torch, trace_tiny_embedder, with_lengths

_INT8_SET = GraphSet(Precision.INT8, Target.AVX2, "int8")
"""Its graphs have the last rewrites, with softmaxes inside branches; the products stay fp32 here."""
_LENGTHS = {
    "steps": (20, 10, 5),
    "late": (64, 9, 9),
    "last": (64, 64, 4),
    "skip": (12, 12, 5),
    "halves": (0.5, 0.3, 0.2),
}
_VARIANTS = list_variants(tuple(NamedLengths(name, LengthConfig(value)) for name, value in _LENGTHS.items()), 3)
_FEEDS = [make_feed(batch, tokens) for tokens, batch in ((1, 1), (7, 4), (64, 2))]


def _open(path):
    """Return where a graph has what it keeps, and the graph opened so that it gives that."""
    values = read_kept_values(open_graph(path, threads=1).metadata, 3)
    return values, open_graph(path, threads=1, extra_outputs=tuple(values.cuts.values()))


def _watch(values, graph, feed):
    """Return positions by layers: layer -> [rows, kept]."""
    outputs = graph.run(feed)
    tokens = feed["input_ids"].shape[-1]
    rows = range(feed["input_ids"].size // tokens)
    traced = [values.trace_row({name: outputs[name][row] for name in values.cuts.values()}, tokens) for row in rows]
    return {layer: np.stack([row[layer] for row in traced]) for layer in traced[0]}


def _check(traced, folder, graph_set, configs):
    """Write the graphs of all profiles and compare what each keeps with PyTorch."""
    rewritten = rewrite(traced.graph, traced.spec)
    paths = write_graphs(rewritten, _VARIANTS, folder, graph_set, traced.spec)
    opened = {name: _open(path) for name, path in paths.items()}
    runs_last_for_all = kept_positions_name(2) in {value.name for value in rewritten.graph.outputs}
    assert {values.first_token_layer for values, _ in opened.values()} == {None if runs_last_for_all else 2}
    seen = set()
    for name, lengths in configs:
        values, graph = opened[name]
        config = None if lengths is None else LengthConfig(lengths)
        for feed in map(traced.arrange, _FEEDS):
            fed = with_lengths(feed, config, traced.spec) if name == ANYTIME else feed
            positions = _watch(values, graph, fed)
            _, expected = run_torch(traced, feed, config)
            for layer in range(3):
                if layer == values.first_token_layer:
                    np.testing.assert_array_equal(positions[layer], np.zeros((len(expected[layer]), 1)))
                elif layer in positions:
                    np.testing.assert_array_equal(positions[layer], np.sort(expected[layer]))
                    seen.add((name, layer))
                else:  # nothing was dropped here: what the layer before left is still there
                    before = expected[layer - 1].shape[1] if layer else feed["input_ids"].shape[-1]
                    assert expected[layer].shape[1] == before
    return seen


_CONFIGS = [("full", None), *_LENGTHS.items(), (ANYTIME, (20, 10, 5)), (ANYTIME, (0.5, 0.3, 0.2))]
_DROPPING = {("steps", 0), ("steps", 1), ("late", 1), ("skip", 0), ("halves", 0), ("halves", 1), (ANYTIME, 1)}
"""Graphs and layers that must be among those compared, whatever the head."""


def test_published_graphs_show_what_torch_keeps(traced, tmp_path):
    assert _check(traced, tmp_path, FP32_SET, _CONFIGS) >= _DROPPING


@pytest.mark.parametrize("task", [Task.TEXT_CLASSIFICATION, Task.QUESTION_ANSWERING])
def test_graphs_with_branches_show_what_torch_keeps(traced_models, task, tmp_path):
    assert _check(traced_models[task], tmp_path, _INT8_SET, _CONFIGS) >= _DROPPING


@pytest.mark.parametrize("mode", PoolingMode)
@pytest.mark.parametrize("always_keep_cls_token", [True, False])
def test_pooled_graphs_show_what_torch_keeps(tmp_path, mode, always_keep_cls_token):
    pooling = Pooling(mode=mode, normalize=False)
    traced = trace_tiny_embedder(tmp_path / "model", pooling, always_keep_cls_token=always_keep_cls_token)
    (tmp_path / "graphs").mkdir()
    assert _check(traced, tmp_path / "graphs", FP32_SET, _CONFIGS) >= _DROPPING


def test_naming_adds_no_node_and_changes_no_output(traced_embedder):
    graph = rewrite(traced_embedder.graph, traced_embedder.spec)
    named = name_kept_indices(graph, first_token_layer=None)
    assert [node.op_type for node in named.graph] == [node.op_type for node in graph.graph]
    assert [value.name for value in named.graph.outputs] == [value.name for value in graph.graph.outputs]
    assert KEPT_TOKENS not in graph.metadata_props
    expected = {0: "kept_positions.0", 1: "kept_indices.1", 2: "kept_indices.2"}
    assert named.metadata_props[KEPT_TOKENS] == KeptValues(cuts=expected).encode()


def test_a_graph_that_drops_nothing_names_nothing(traced_embedder, tmp_path):
    paths = write_graphs(traced_embedder.graph, _VARIANTS, tmp_path, FP32_SET, traced_embedder.spec)
    assert ir.load(paths["full"]).metadata_props == {KEPT_TOKENS: '{"cuts":{},"first_token_layer":null}'}
