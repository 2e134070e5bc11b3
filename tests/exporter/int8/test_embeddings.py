"""INT8 embeddings: off by half a row's scale at most, smaller, still INT8 when onnxruntime has optimised the graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert.session import open_session
from dynbert_export.graph.freeze import freeze, hide_kept_positions
from dynbert_export.graph.weights_file import save_sharing_weights
from dynbert_export.int8.embeddings import quantize_embeddings, quantize_rows
from dynbert_export.int8.lower import lower
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    make_feed,
    parse_graph,
    run_graph_in_memory,
    serialize,
    trace_tiny_model,
    with_lengths,
)

_LOOKUP = """(int64[batch,tokens] ids) => (float[batch,tokens,16] y) {
    looked = Gather (table, ids)
    y = Neg (looked)
}"""


def _table(rows=50, seed=0):
    generator = np.random.default_rng(seed)
    return (generator.normal(size=(rows, 16)) * generator.uniform(1e-3, 50, (rows, 1))).astype(np.float32)


def _tables(model):
    shapes = {"numbers": ir.DataType.INT8, "floats": ir.DataType.FLOAT}
    return {
        kind: [v.name for v in model.graph.initializers.values() if v.dtype is dtype and v.name.endswith(end)]
        for (kind, dtype), end in zip(shapes.items(), ("weight/int8", "embeddings.weight"), strict=True)
    }


@settings(deadline=None, max_examples=50)
@given(
    hypothesis_numpy.arrays(np.float32, (5, 4), elements=st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=True))
)
def test_rows_are_off_by_half_a_scale_at_most(table):
    numbers, scales = quantize_rows(table)
    assert (numbers.dtype, numbers.shape, scales.shape) == (np.int8, (5, 4), (5, 1))
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    assert numbers.min() >= -127
    error = np.abs(numbers.astype(np.float64) * scales - table)
    assert (error <= scales * 0.5 * (1 + 1e-5)).all()


def test_lookup_is_off_by_half_a_scale_at_most():
    table = _table()
    table[7] = 0  # as padding's row may be
    ids = np.arange(50).reshape(5, 10)
    model = parse_graph(_LOOKUP, table=table)
    quantized = quantize_embeddings(model)
    assert count_operators(quantized) == {"Gather": 2, "Cast": 1, "Mul": 1, "Neg": 1}
    [outputs] = run_graph_in_memory(quantized, {"ids": ids})
    assert_informative(outputs["y"])
    error = np.abs(-outputs["y"] - table[ids])
    bound = np.abs(table[ids]).max(axis=-1, keepdims=True) / 127 / 2
    assert (error <= bound * (1 + 1e-5)).all()
    assert error.max() > 0.9 * bound.max() * 0.5  # as large as rounding makes it: something was quantised
    assert (outputs["y"][0, 7] == 0).all()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("y = Neg (looked)", "flat = Transpose <perm = [1, 0]> (table) \n s = MatMul (looked, flat) \n y = Neg (s)"),
        ("y = Neg (looked)", "sum = ReduceSum (table) \n y = Add (looked, sum)"),
        ("Gather (table, ids)", "Gather <axis = 1> (table, ids)"),
        ("Gather (table, ids)", "Gather (table, chosen)"),
    ],
)
def test_table_stays_when_it_is_not_only_looked_up_by_row(old, new):
    assert old in _LOOKUP
    text = _LOOKUP.replace(old, new).replace("float[batch,tokens,16] y", "float[a,b,c] y")
    model = parse_graph(text, table=_table(), chosen=np.array([[1, 2]]))
    assert serialize(quantize_embeddings(model)) == serialize(quantize_embeddings(model, least_saving=1.0))
    assert "Cast" not in count_operators(quantize_embeddings(model))


@pytest.mark.parametrize("is_tied", [True, False])
def test_table_stays_when_a_product_has_it_transposed(is_tied):
    """A decoder's matrix, as the tracer writes it: the two become one again when the graph is written."""
    text = _LOOKUP.replace("y = Neg (looked)", "y = MatMul (looked, decoder)").replace("tokens,16] y", "tokens,50] y")
    decoder = _table(seed=0 if is_tied else 1).T
    quantized = quantize_embeddings(parse_graph(text, table=_table(), decoder=np.ascontiguousarray(decoder)))
    assert count_operators(quantized)["Cast"] == (0 if is_tied else 1)


def test_one_table_serves_several_lookups():
    model = parse_graph(
        "(int64[n] ids, int64[n] others) => (float[n,16] y) {"
        "a = Gather (table, ids) \n b = Gather (table, others) \n y = Sub (a, b) }",
        table=_table(),
    )
    quantized = quantize_embeddings(model)
    assert len(quantized.graph.initializers) == 2
    feed = {"ids": np.arange(50), "others": np.arange(50)[::-1].copy()}
    [before], [after] = (run_graph_in_memory(each, feed) for each in (model, quantized))
    np.testing.assert_allclose(after["y"], before["y"], rtol=0, atol=np.abs(_table()).max() / 127)


def test_small_tables_stay():
    text = """(int64[n] ids) => (float[n,16] y) {
        a = Gather (words, ids) \n b = Gather (types, ids) \n y = Add (a, b)
    }"""
    quantized = quantize_embeddings(parse_graph(text, words=_table(400), types=_table(20)))
    assert {name for name, v in quantized.graph.initializers.items() if v.dtype is ir.DataType.FLOAT} == {
        "types",
        "words/scales",
    }


def test_tiny_model_answers_nearly_the_same(quantized, traced_embedder):
    before = lower(quantized.qdq)
    after = quantize_embeddings(before)
    assert _tables(before)["numbers"] == []
    assert len(_tables(after)["numbers"]) == 2  # words and, in so small a model, positions
    feeds = [with_lengths(make_feed(4, tokens), None, traced_embedder.spec) for tokens in (1, 7, 64)]
    for old, new in zip(run_graph_in_memory(before, *feeds), run_graph_in_memory(after, *feeds), strict=True):
        wanted, got = old["last_hidden_state"], new["last_hidden_state"]
        assert_informative(got)
        assert (got != wanted).any()
        cosines = (wanted * got).sum(-1) / np.linalg.norm(wanted, axis=-1) / np.linalg.norm(got, axis=-1)
        assert cosines.mean() > 0.999


def test_argument_stays_as_it_was(quantized):
    model = lower(quantized.qdq)
    before = serialize(model)
    quantize_embeddings(model)
    assert serialize(model) == before


@pytest.mark.parametrize("config", [None, LengthConfig((20, 10, 5)), LengthConfig((0.5, 0.3, 0.2))])
def test_onnxruntime_does_not_make_the_table_float_again(quantized, traced_embedder, config, tmp_path):
    model = quantize_embeddings(lower(quantized.qdq))
    graph = hide_kept_positions(freeze(model, config, traced_embedder.spec))
    [path] = save_sharing_weights({"graph.onnx": graph}, tmp_path, "weights.bin")
    open_session(path, threads=1, optimized_model=tmp_path / "optimized.onnx")
    optimized = ir.load(tmp_path / "optimized.onnx")
    vocabulary = traced_embedder.vocab_size
    tables = {
        value.dtype: tuple(value.shape)
        for value in optimized.graph.initializers.values()
        if value.shape is not None and len(value.shape) == 2 and value.shape[0] == vocabulary
    }
    assert tables == {ir.DataType.INT8: (vocabulary, 32), ir.DataType.FLOAT: (vocabulary, 1)}


def test_file_is_a_quarter_when_the_vocabulary_is_large(tmp_path):
    traced = trace_tiny_model(tmp_path / "model", Task.FEATURE_EXTRACTION, vocab_size=20_000)
    sizes = []
    for name, model in (("before", traced.graph), ("after", quantize_embeddings(traced.graph))):
        save_sharing_weights({f"{name}.onnx": model}, tmp_path, f"{name}.bin")
        sizes.append((tmp_path / f"{name}.bin").stat().st_size)
    assert sizes[1] < 0.35 * sizes[0]
