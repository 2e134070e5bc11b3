"""The INT8 recipe: what it tries, that it keeps what answers best, and what it says of its choice."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.manifest import Target, Task
from dynbert_export.evaluation.agreement import AnswerMeasure
from dynbert_export.graph.editing import producer_of
from dynbert_export.int8.calibration import Calibration, full_length_feeds
from dynbert_export.int8.choose import list_ways, quantize_static
from dynbert_export.int8.lower import INT8_OPERATOR
from dynbert_export.int8.neural_compressor import NeuralCompressor
from dynbert_export.options.vocabularies import CalibrationMethod
from dynbert_export.progress import SilentProgress
from dynbert_export.variants import list_int8_sets
from tests.helpers.graphs import assert_informative, count_operators, make_feed, parse_graph, run_graph_in_memory

_TOKENS, _WIDTH = 128, 64
_SETS = list_int8_sets((Target.AVX2,))  # exact on every processor
_TOY = """(int64[batch,tokens] input_ids, int64[1] length_config) => (float[batch,tokens,8] logits, int64[1] kept) {
    x = Gather (table, input_ids)
    y = MatMul (x, weight)
    logits = Add (y, bias)
    kept = Identity (length_config)
}"""


def _toy(*, outlier):
    """One product. Token 0 has a number that is ``outlier`` times too large, in a channel that the product ignores."""
    generator = np.random.default_rng(0)
    table = generator.normal(size=(50, _WIDTH)).astype(np.float32)
    weight = generator.normal(size=(_WIDTH, 8)).astype(np.float32)
    table[0, 3], weight[3] = outlier, 1e-6
    constants = {"table": table, "weight": weight, "bias": generator.normal(size=8).astype(np.float32)}
    model = parse_graph(_TOY, **constants)
    for node in model.graph:  # Neural Compressor knows nodes by their names
        node.name = f"/model/encoder/layer.0/dense/{node.op_type}"
    return model


def _calibration(inputs=6):
    """Texts; token 0 comes in the first two, once each."""
    feeds = []
    for seed in range(inputs):
        feed = make_feed(1, _TOKENS, vocab_size=50, seed=seed)
        if seed < 2:
            feed["input_ids"][0, 5] = 0
        feeds.append({"input_ids": feed["input_ids"]})
    full = full_length_feeds(feeds, num_layers=1, always_keep_cls_token=True)
    return Calibration(full, AnswerMeasure(Task.TEXT_CLASSIFICATION), threads=1)


class _Notes(SilentProgress):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def _quantize(model, *, method="auto", alpha="none", inputs=6, engine=None):
    ways, progress = list_ways(CalibrationMethod(method), alpha), _Notes()
    found = quantize_static(model, _SETS, ways, _calibration(inputs), engine or NeuralCompressor(), progress)
    (quantized,) = found.values()
    return quantized, progress.notes


def _error(quantized, model):
    calibration = _calibration()
    runs = [run_graph_in_memory(graph, *calibration.feeds) for graph in (model, quantized.graph)]
    assert_informative(runs[0][0]["logits"])
    return calibration.measure.error(runs[0], runs[1], calibration.feeds)


def _range_of(quantized):
    product = next(node for node in quantized.graph.graph if node.op_type == INT8_OPERATOR)
    scale = producer_of(product.inputs[0], "QuantizeLinear").inputs[1].const_value.numpy()
    return float(scale.item()) * 255


def test_auto_clips_an_outlier_that_does_not_matter():
    model = _toy(outlier=1000.0)
    auto, [note] = _quantize(model)
    plain, nothing = _quantize(model, method="minmax")
    assert nothing == [], "no choice, no note"
    assert _range_of(plain) > 1000
    assert _range_of(auto) < 20
    assert _error(auto, model) < _error(plain, model) / 100
    assert "minmax ranges, no smoothing: 0." in note
    assert not note.startswith("INT8 activations have minmax")


def test_auto_keeps_every_value_where_clipping_does_not_help():
    model = _toy(outlier=1.0)
    auto, [note] = _quantize(model)
    plain, _ = _quantize(model, method="minmax")
    assert note.startswith("INT8 activations have minmax ranges, no smoothing, chosen by the error of answers")
    assert _range_of(auto) == _range_of(plain)


@pytest.mark.parametrize(("method", "tried"), [("auto", 4), ("percentile", 2), ("minmax", 0), ("entropy", 0)])
def test_method_decides_what_is_tried(method, tried):
    quantized, notes = _quantize(_toy(outlier=100.0), method=method)
    assert (notes[0].count("ranges, no smoothing: ") if notes else 0) == tried
    assert (_range_of(quantized) > 100) == (method == "minmax")
    assert count_operators(quantized.graph)[INT8_OPERATOR] == 1


def test_auto_smooths_where_it_helps():
    model = _toy(outlier=1.0)
    table = model.graph.initializers["table"].const_value.numpy()
    scales = np.ones(_WIDTH, np.float32)
    scales[7] = 100.0  # a channel of outliers that the product needs
    weight = model.graph.initializers["weight"].const_value.numpy() / scales[:, None]
    text = {"table": table * scales, "weight": weight, "bias": np.ones(8, np.float32)}
    model = parse_graph(_TOY, **text)
    for node in model.graph:  # Neural Compressor knows nodes by their names
        node.name = f"/model/encoder/layer.0/dense/{node.op_type}"
    quantized, [note] = _quantize(model, method="minmax", alpha="auto")
    assert "Mul" in count_operators(quantized.graph)
    assert note.startswith("INT8 activations have minmax ranges, smoothing ")
    assert all(f"smoothing {alpha}: " in note for alpha in (0.5, 0.7, 0.8))
    assert "no smoothing: " in note
    plain, _ = _quantize(model, method="minmax")
    assert _error(quantized, model) < _error(plain, model) / 3


def test_one_calibration_input_is_enough():
    quantized, [note] = _quantize(_toy(outlier=1.0), inputs=1)
    assert count_operators(quantized.graph)[INT8_OPERATOR] == 1
    assert "nan" not in note


def test_neural_compressor_calibrates_on_one_input_only():
    seen = []

    class Engine(NeuralCompressor):
        def quantize_static(self, model, feeds, *, reduce_range):
            seen.append(len(feeds))
            return super().quantize_static(model, feeds, reduce_range=reduce_range)

    first, _ = _quantize(_toy(outlier=1.0), engine=Engine())
    assert seen == [1]
    assert first.source is not first.graph
