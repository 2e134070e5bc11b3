"""The order of the rewrites: what each kind of graph went through, and that all of them share their weights."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Target, Task
from dynbert_export.graph.specialise import rewrite, write_graphs
from dynbert_export.int8.lower import lower
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.variants import FP32_SET, list_int8_sets, list_variants
from tests.helpers.graphs import assert_same_answers, count_operators, serialize, trace_tiny_model

_FAST = LengthConfig((20, 10, 5))
[_INT8_SET] = list_int8_sets((Target.AVX2,))


def _variants(traced):
    return list_variants((NamedLengths("fast", _FAST),), traced.spec.num_layers)


def test_rewritten_graph_answers_as_the_traced_one(traced):
    before = serialize(traced.graph)
    rewritten = rewrite(traced.graph, traced.spec)
    assert serialize(traced.graph) == before
    assert_same_answers(traced, rewritten)


@pytest.mark.parametrize(("keep_cls", "scores"), [(True, 2), (False, 3)])
def test_last_layer_runs_for_one_token_only_where_cls_stays(tmp_path, keep_cls, scores):
    traced = trace_tiny_model(tmp_path / "model", Task.TEXT_CLASSIFICATION, always_keep_cls_token=keep_cls)
    positions = [value.name for value in rewrite(traced.graph, traced.spec).graph.outputs[1:]]
    assert positions == [f"kept_positions.{layer}" for layer in range(scores)]


def test_graphs_of_a_set_have_one_weights_file_and_no_positions(traced_embedder, tmp_path):
    variants, spec = _variants(traced_embedder), traced_embedder.spec
    paths = write_graphs(rewrite(traced_embedder.graph, spec), variants, tmp_path, FP32_SET, spec)
    assert {name: path.name for name, path in paths.items()} == {
        name: f"{name}.fp32.onnx" for name in ("full", "fast", "anytime")
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*(path.name for path in paths.values()), "weights.fp32.bin"]
    )
    models = {name: ir.load(path) for name, path in paths.items()}
    for model in models.values():
        assert [value.name for value in model.graph.outputs] == ["last_hidden_state"]
    assert "length_config" in {value.name for value in models["anytime"].graph.inputs}
    assert count_operators(models["full"])["MultiHeadAttention"] == spec.num_layers
    assert count_operators(models["anytime"])["MultiHeadAttention"] == 0
    assert count_operators(models["fast"])["GatherND"] > 0


def test_only_int8_graphs_ask_whether_anything_is_padded(quantized, traced_embedder, tmp_path):
    variants, spec = _variants(traced_embedder), traced_embedder.spec
    int8 = write_graphs(lower(quantized.qdq), variants, tmp_path, _INT8_SET, spec)
    fp32 = write_graphs(traced_embedder.graph, variants, tmp_path, FP32_SET, spec)
    assert count_operators(ir.load(int8["fast"]))["If"] > 0
    assert count_operators(ir.load(fp32["fast"]))["If"] == 0
