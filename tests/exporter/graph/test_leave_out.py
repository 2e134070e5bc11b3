"""Leaving out layers: the anytime graph, its frozen graphs and PyTorch with ``layer_config`` compute one thing."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Pooling, PoolingMode, Precision, Target, Task
from dynbert.session import open_graph
from dynbert_export.errors import ExportError
from dynbert_export.graph.freeze import freeze, task_outputs
from dynbert_export.graph.int8_operator import INT8_OPERATOR, int8_products
from dynbert_export.graph.leave_out import leave_out_layers
from dynbert_export.graph.names import names_in_layers
from dynbert_export.graph.specialise import rewrite, write_graphs
from dynbert_export.int8.choose import Quantized
from dynbert_export.int8.lower import lower
from dynbert_export.int8.put_back import put_back
from dynbert_export.int8.ranges import Range
from dynbert_export.int8.scores import find_scores, quantize_scores
from dynbert_export.variants import FP32_SET, GraphSet, Variant, anytime_configs
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    kept_by,
    make_feed,
    quantize_tiny_model,
    run_graph_in_memory,
    run_torch,
    serialize,
    trace_tiny_embedder,
    trace_tiny_model,
    with_lengths,
)

_SUBSETS = [layers for count in (1, 2) for layers in combinations(range(3), count)]
_LENGTHS = (None, (20, 10, 5), (64, 9, 9), (0.5, 0.3, 0.2))
_FEEDS = [make_feed(batch, tokens) for batch, tokens in ((1, 1), (4, 20), (2, 64))]
_MEAN = Pooling(mode=PoolingMode.MEAN, normalize=True)
_CLS = Pooling(mode=PoolingMode.CLS, normalize=False)
_USUAL = {"every token", "CLS", "mean", "relative"}
"""Kinds that differ most; the others are slow tests."""
_KINDS = {
    "every token": lambda folder: trace_tiny_model(folder, Task.QUESTION_ANSWERING),
    "CLS": lambda folder: trace_tiny_model(folder, Task.TEXT_CLASSIFICATION),
    "both": lambda folder: trace_tiny_model(folder, Task.PRETRAINING),
    "choices": lambda folder: trace_tiny_model(folder, Task.MULTIPLE_CHOICE),
    "mean": lambda folder: trace_tiny_embedder(folder, _MEAN),
    "CLS pooled": lambda folder: trace_tiny_embedder(folder, _CLS),
    "CLS may go": lambda folder: trace_tiny_embedder(folder, _MEAN, always_keep_cls_token=False),
    "CLS may go and is pooled": lambda folder: trace_tiny_embedder(folder, _CLS, always_keep_cls_token=False),
    "padding votes": lambda folder: trace_tiny_model(folder, Task.TOKEN_CLASSIFICATION, count_padded_queries=True),
    "relative": lambda folder: trace_tiny_model(
        folder, Task.TEXT_CLASSIFICATION, position_embedding_type="relative_key"
    ),
    "relative, every token": lambda folder: trace_tiny_model(
        folder, Task.FEATURE_EXTRACTION, position_embedding_type="relative_key_query"
    ),
}
"""What a head reads of the last layer, and what else decides how tokens are dropped."""
_RUNNING_FOR_CLS = ("CLS", "choices", "CLS pooled")
_SCATTERING = ("every token", "both", "CLS may go and is pooled", "padding votes", "relative, every token")


def _config(lengths):
    return None if lengths is None else LengthConfig(lengths)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Traced and rewritten, as a bundle's graphs are, each when it is first asked for."""
    made = {}

    def get(kind):
        if kind not in made:
            traced = _KINDS[kind](tmp_path_factory.mktemp("model") / "checkpoint")
            made[kind] = replace(traced, graph=rewrite(traced.graph, traced.spec))
        return made[kind]

    return get


@pytest.fixture(scope="module")
def classifier(models):
    return models("CLS")


@pytest.fixture(scope="module")
def quantized_classifier(classifier):
    return quantize_tiny_model(classifier)


def _assert_kept(outputs, kept, layers):
    found = kept_by(outputs)
    assert set(found) <= set(layers)
    for layer, positions in zip(layers, kept, strict=True):
        if layer in found:
            np.testing.assert_array_equal(found[layer], np.sort(positions, axis=1))


@pytest.mark.parametrize("layers", _SUBSETS, ids=str)
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind in _USUAL else pytest.mark.slow) for kind in _KINDS]
)
def test_graphs_equal_pytorch_with_these_layers(models, kind, layers):
    traced = models(kind)
    left, spec = leave_out_layers(traced.graph, layers, traced.spec), replace(traced.spec, layers=layers)
    names = task_outputs(left)
    assert names == task_outputs(traced.graph)
    feeds = [traced.arrange(feed) for feed in _FEEDS]
    for config in map(_config, _LENGTHS):
        frozen = run_graph_in_memory(freeze(left, config, spec), *feeds)
        anytime = run_graph_in_memory(left, *(with_lengths(feed, config, traced.spec) for feed in feeds))
        for feed, *found in zip(feeds, frozen, anytime, strict=True):
            expected, kept = run_torch(traced, feed, config, layers=layers)
            for outputs in found:
                _assert_kept(outputs, kept, layers)
                for name in names:
                    assert_informative(expected[name])
                    np.testing.assert_allclose(outputs[name], expected[name], rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("task", [Task.QUESTION_ANSWERING, Task.TEXT_CLASSIFICATION], ids=str)
def test_a_graph_that_was_not_rewritten_is_taken_too(traced_models, task):
    traced, config = traced_models[task], LengthConfig((20, 10, 5))
    for layers in _SUBSETS:
        left = leave_out_layers(traced.graph, layers, traced.spec)
        expected, kept = run_torch(traced, _FEEDS[1], config, layers=layers)
        [outputs] = run_graph_in_memory(left, with_lengths(_FEEDS[1], config, traced.spec))
        _assert_kept(outputs, kept, layers)
        assert set(kept_by(outputs)) == set(layers)
        for name in task_outputs(left):
            np.testing.assert_allclose(outputs[name], expected[name], rtol=0, atol=2e-5)


@pytest.mark.parametrize("layers", _SUBSETS, ids=str)
@pytest.mark.parametrize("kind", _KINDS)
def test_a_left_out_layer_leaves_nothing_behind(models, kind, layers):
    traced = models(kind)
    left = leave_out_layers(traced.graph, layers, traced.spec)
    others = set(range(3)) - set(layers)
    weighing = [node.name for node in left.graph if node.op_type in {"MatMul", "LayerNormalization", "TopK", "Softmax"}]
    assert names_in_layers(weighing, sorted(others)) == ()
    assert names_in_layers(weighing, layers)
    counts, before = count_operators(left), count_operators(traced.graph)
    cutting = len(layers) - (1 if kind in (*_RUNNING_FOR_CLS, "relative") else 0)
    assert counts["TopK"] == 2 * cutting
    assert counts["ScatterElements"] == (len(layers) if kind in _SCATTERING else 0)
    assert counts["LayerNormalization"] == before["LayerNormalization"] - 2 * len(others)
    onnx.checker.check_model(ir.to_proto(left), full_check=True)
    onnx.checker.check_model(ir.to_proto(freeze(left, None, replace(traced.spec, layers=layers))), full_check=True)


def test_entries_of_left_out_layers_say_nothing(models):
    traced = models("every token")
    left = leave_out_layers(traced.graph, (0, 2), traced.spec)
    spec = replace(traced.spec, layers=(0, 2))
    runs = [
        run_graph_in_memory(freeze(left, LengthConfig((20, length, 5)), spec), _FEEDS[1])[0] for length in (20, 9, 5)
    ]
    for run in runs[1:]:
        for name, array in run.items():
            np.testing.assert_array_equal(array, runs[0][name])
    feed = with_lengths(_FEEDS[1], LengthConfig((20, 10, 5)), traced.spec)
    [first], [second] = (
        run_graph_in_memory(left, {**feed, "length_config": np.array([20, middle, 5])}) for middle in (10, 1)
    )
    np.testing.assert_array_equal(first["start_logits"], second["start_logits"])


def test_every_choice_of_layers_answers_otherwise(models):
    """A canary: were nothing left out, or always the same, the comparisons above would hold as well."""
    traced = models("mean")
    feed = with_lengths(_FEEDS[1], None, traced.spec)
    runs = [
        run_graph_in_memory(leave_out_layers(traced.graph, layers, traced.spec), feed)[0]["sentence_embedding"]
        for layers in _SUBSETS
    ]
    for index, run in enumerate(runs):
        assert all(np.abs(run - other).max() > 0.02 for other in runs[:index])


@pytest.mark.parametrize("kind", _RUNNING_FOR_CLS)
def test_the_layer_that_becomes_the_last_runs_for_one_token(models, kind):
    traced = models(kind)
    left = leave_out_layers(traced.graph, (0, 1), traced.spec)
    assert set(kept_by({value.name: value for value in left.graph.outputs})) == {0}
    full = freeze(left, None, replace(traced.spec, layers=(0, 1)))
    products = [node for node in full.graph if node.op_type == "MatMul" and "layer.1/" in node.name]
    by_module = {node.name.split("/")[-2]: node for node in products if "/self/" in node.name}
    dense = [node for node in products if "dense" in node.name]
    full.graph.outputs.extend(node.outputs[0] for node in [by_module["query"], by_module["key"], *dense])
    [outputs] = run_graph_in_memory(full, traced.arrange(make_feed(2, 20)))
    rows = [array.shape[1] for array in outputs.values() if array.ndim == 3]
    assert sorted(rows) == [1, 1, 1, 1, 20]


def test_all_layers_are_the_graph_itself(classifier):
    left = leave_out_layers(classifier.graph, (0, 1, 2), classifier.spec)
    assert left is not classifier.graph
    assert serialize(left) == serialize(classifier.graph)


def test_layers_can_be_left_out_one_after_the_other(models):
    traced = models("every token")
    twice = leave_out_layers(traced.graph, (0, 2), traced.spec)
    twice = leave_out_layers(twice, (2,), replace(traced.spec, layers=(0, 2)))
    once = leave_out_layers(traced.graph, (2,), traced.spec)
    feed = with_lengths(_FEEDS[1], LengthConfig((20, 10, 5)), traced.spec)
    [first], [second] = (run_graph_in_memory(graph, feed) for graph in (once, twice))
    assert set(first) == set(second)
    for name, array in first.items():
        np.testing.assert_array_equal(second[name], array)


@pytest.mark.parametrize("kind", ["every token", "CLS", "mean"])
def test_leaving_out_leaves_its_argument_as_it_was(models, kind):
    traced = models(kind)
    before = serialize(traced.graph)
    first = serialize(leave_out_layers(traced.graph, (0, 1), traced.spec))
    assert serialize(traced.graph) == before
    assert serialize(leave_out_layers(traced.graph, (0, 1), traced.spec)) == first


@pytest.mark.parametrize("layers", [(), (1, 0), (0, 0), (0, 3), (-1,)], ids=str)
def test_layers_must_be_some_of_the_graph_s(classifier, layers):
    with pytest.raises(ValueError, match=r"layers must be some of \(0, 1, 2\) in ascending order, got"):
        leave_out_layers(classifier.graph, layers, classifier.spec)


def test_layers_that_are_left_out_already_cannot_be_asked_for(classifier):
    left, spec = leave_out_layers(classifier.graph, (0, 1), classifier.spec), replace(classifier.spec, layers=(0, 1))
    with pytest.raises(ValueError, match=r"some of \(0, 1\) in ascending order, got \(0, 2\)"):
        leave_out_layers(left, (0, 2), spec)


@pytest.mark.parametrize(
    ("scope", "message"),
    [("/embeddings/LayerNorm/", "must end the embeddings"), ("/encoder/layer.1/output/", "must end layer 1")],
)
def test_a_graph_of_another_form_is_refused(classifier, scope, message):
    damaged = classifier.graph.clone()
    for node in damaged.graph:
        if scope in node.name:
            node.name = "elsewhere"
    with pytest.raises(ExportError, match=rf"known form: a LayerNormalization {message}\. This is a fault of dynbert"):
        leave_out_layers(damaged, (0, 2), classifier.spec)


def test_a_graph_without_its_positions_is_refused(classifier):
    damaged = classifier.graph.clone()
    damaged.graph.outputs.pop(-2)
    with pytest.raises(ExportError, match=r"kept_positions\.0 must be an output"):
        leave_out_layers(damaged, (0, 2), classifier.spec)


@pytest.mark.parametrize("layers", _SUBSETS, ids=str)
def test_smoothing_stays_exact(classifier, quantized_classifier, layers):
    """Smoothed graphs equal PyTorch: a factor of a layer is undone in the same layer."""
    left = leave_out_layers(quantized_classifier.folded, layers, classifier.spec)
    config = LengthConfig((20, 10, 5))
    expected, kept = run_torch(classifier, _FEEDS[1], config, layers=layers)
    [outputs] = run_graph_in_memory(left, with_lengths(_FEEDS[1], config, classifier.spec))
    _assert_kept(outputs, kept, layers)
    np.testing.assert_allclose(outputs["logits"], expected["logits"], rtol=0, atol=5e-5)


@pytest.mark.parametrize("layers", _SUBSETS, ids=str)
@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_int8_graphs_compute_what_the_quantised_graph_computes(classifier, quantized_classifier, kind, layers):
    """Before lowering, with the same layers left out: dequantised weights and activations, multiplied in fp32.

    Dynamic ranges are those of the tokens that are there: of CLS alone in a last layer that runs for it.
    """
    before = quantized_classifier.qdq if kind == "static" else quantized_classifier.dynamic
    left, spec = leave_out_layers(lower(before), layers, classifier.spec), replace(classifier.spec, layers=layers)
    reference = leave_out_layers(before, layers, classifier.spec)
    assert names_in_layers([product.name for _, product in int8_products(left)], layers)
    assert count_operators(left)[INT8_OPERATOR] == 6 * len(layers)
    for config in (None, LengthConfig((20, 10, 5))):
        feed = with_lengths(_FEEDS[1], config, classifier.spec)
        [wanted] = run_graph_in_memory(reference, feed, optimize=False)
        [in_torch] = [run_torch(classifier, _FEEDS[1], config, layers=layers)[0]["logits"]]
        for graph in (left, freeze(left, config, spec)):
            [got] = run_graph_in_memory(graph, feed)
            if kind == "static" or layers[-1] == 2:
                np.testing.assert_allclose(got["logits"], wanted["logits"], rtol=0, atol=1e-4)
            assert 1e-6 < np.abs(got["logits"] - in_torch).max() < 0.3 * np.ptp(in_torch)


@pytest.mark.parametrize("layers", [(0, 1), (0,), (1, 2), (2,)], ids=str)
def test_int8_scores_and_products_that_were_put_back_go_with_their_layers(classifier, quantized_classifier, layers):
    ranges = {name: (Range(-8.0, 8.0), Range(-8.0, 8.0)) for name in find_scores(quantized_classifier.folded)}
    assert len(ranges) == 3
    lowered = quantize_scores(lower(quantized_classifier.qdq), ranges)
    products = [product.name for _, product in int8_products(lowered)]
    back = [name for name in products if "intermediate" in name or "layer.0/attention/self/query" in name]
    graph = put_back(Quantized(lowered, quantized_classifier.folded, tuple(ranges)), back)
    left, spec = leave_out_layers(graph, layers, classifier.spec), replace(classifier.spec, layers=layers)
    found = [product.name for _, product in int8_products(left)]
    assert sorted(found) == sorted(names_in_layers(set(products) - set(back), layers))
    [wanted] = run_graph_in_memory(
        freeze(leave_out_layers(classifier.graph, layers, classifier.spec), None, spec), _FEEDS[1]
    )
    [got] = run_graph_in_memory(freeze(left, None, spec), _FEEDS[1])
    assert 1e-6 < np.abs(got["logits"] - wanted["logits"]).max() < 0.3 * np.ptp(wanted["logits"])


def test_int8_layer_that_becomes_the_last_runs_for_one_token(classifier, quantized_classifier):
    left = leave_out_layers(lower(quantized_classifier.qdq), (0, 1), classifier.spec)
    full = freeze(left, None, replace(classifier.spec, layers=(0, 1)))
    nodes = {product.name: node for node, product in int8_products(full) if "layer.1/" in product.name}
    assert len(nodes) == 6
    for node in nodes.values():
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    full.graph.outputs.extend(node.outputs[0] for node in nodes.values())
    [outputs] = run_graph_in_memory(full, make_feed(2, 20))
    assert sorted(array.shape[1] for array in outputs.values() if array.ndim == 3) == [1, 1, 1, 1, 20, 20]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_graphs_of_several_layers_share_one_weights_file(classifier, quantized_classifier, tmp_path, precision):
    """Profiles, and anytime graphs, as a search over layers wants them."""
    graph_set = FP32_SET if precision == "fp32" else GraphSet(Precision.INT8, Target.AVX2, "int8")
    anytime = classifier.graph if precision == "fp32" else lower(quantized_classifier.qdq)
    with_all = (Variant("full", None), Variant("anytime", None, anytime_configs(3)))
    variants = (
        *with_all,
        *(Variant(f"fast-{index}", LengthConfig((20, 10, 5)), layers=layers) for index, layers in enumerate(_SUBSETS)),
        *(Variant(f"anytime-{layers[0]}", None, anytime_configs(3), layers=layers) for layers in ((0, 1), (1, 2))),
    )
    for name, chosen in (("alone", with_all), ("together", variants)):
        (tmp_path / name).mkdir()
        paths = write_graphs(anytime, chosen, tmp_path / name, graph_set, classifier.spec)
    assert set(paths) == {variant.name for variant in variants}
    alone, together = (tmp_path / name / graph_set.weights_file for name in ("alone", "together"))
    assert together.stat().st_size == alone.stat().st_size
    for variant in variants:
        config = LengthConfig((30, 20, 10)) if variant.is_anytime else variant.lengths
        feed = with_lengths(_FEEDS[1], config, classifier.spec)
        left = leave_out_layers(anytime, variant.layers or (0, 1, 2), classifier.spec)
        [expected] = run_graph_in_memory(left, feed)
        got = open_graph(paths[variant.name], threads=1).run(feed)
        np.testing.assert_allclose(got["logits"], expected["logits"], rtol=0, atol=1e-4)
