"""The gate on invariance: static INT8 passes; what depends on the batch or on padding fails, and says how."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from dynbert.lengths import LengthConfig
from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert_export.errors import ExportError, GateError
from dynbert_export.gates import invariance
from dynbert_export.gates.invariance import check_invariance, make_texts
from dynbert_export.graph.editing import add_initializer
from dynbert_export.graph.freeze import freeze, hide_kept_positions
from dynbert_export.graph.names import kept_positions_name
from dynbert_export.graph.specialise import rewrite
from dynbert_export.graph.weights_file import save_sharing_weights
from dynbert_export.int8.lower import lower
from tests.helpers.graphs import make_feed, quantize_tiny_model, trace_tiny_embedder

_COUNTS = LengthConfig((20, 10, 5))
_FRACTIONS = LengthConfig((0.5, 0.3, 0.2))


def _texts(*lengths):
    return make_texts([make_feed(1, tokens, seed=tokens) for tokens in lengths or (7, 12, 30)], max_length=64)


def _write(model, folder):
    [path] = save_sharing_weights({"fast.int8.onnx": model}, folder, "weights.bin")
    return path


def _published(model, traced, config):
    return hide_kept_positions(freeze(model, config, traced.spec))


def _check(path, *, lengths=_COUNTS, texts=None, keep_cls=True):
    return check_invariance(path, texts or _texts(), lengths=lengths, always_keep_cls_token=keep_cls)


@pytest.mark.parametrize(("config", "compared"), [(None, 16), (_COUNTS, 16), (_FRACTIONS, 8)])
def test_static_graph_passes(quantized, traced_embedder, config, compared, tmp_path):
    path = _write(_published(lower(quantized.qdq), traced_embedder, config), tmp_path)
    found = _check(path, lengths=config)
    assert (found.inputs + found.near_ties, found.near_ties) == (compared, 0)
    assert found.max_abs_difference < 5e-3
    assert sorted(item.name for item in tmp_path.iterdir()) == ["fast.int8.onnx", "weights.bin"]


def test_padding_is_left_out_when_it_votes(quantized, traced_embedder, tmp_path):
    model = _published(lower(quantized.qdq), traced_embedder, _COUNTS)
    _add_to_scores(model, np.linspace(50, 0, 64))
    path = _write(model, tmp_path)
    texts, options = _texts(), {"lengths": _COUNTS, "always_keep_cls_token": True}
    assert check_invariance(path, texts, counts_padding=True, **options).inputs == 8


@pytest.mark.parametrize("config", [_COUNTS, _FRACTIONS])
def test_static_anytime_graph_passes_with_counts_whatever_its_config(quantized, tmp_path, config):
    path = _write(hide_kept_positions(lower(quantized.qdq)), tmp_path)
    assert _check(path, lengths=config).inputs == 16


@pytest.mark.parametrize("task", [Task.QUESTION_ANSWERING, Task.TEXT_CLASSIFICATION])
def test_static_graphs_with_heads_pass(traced_models, task, tmp_path):
    """The last layer of a classifier runs for one token, and has no positions to show."""
    traced = traced_models[task]
    path = _write(_published(lower(quantize_tiny_model(traced).qdq), traced, _COUNTS), tmp_path)
    found = _check(path)
    assert (found.inputs, found.near_ties) == (16, 0)


@pytest.fixture(scope="module", params=[PoolingMode.MEAN, PoolingMode.CLS])
def pooled(request, tmp_path_factory):
    """A model whose graphs give normalised embeddings, and its INT8 graph."""
    folder = tmp_path_factory.mktemp(request.param)
    traced = trace_tiny_embedder(folder / "model", Pooling(mode=request.param, normalize=True))
    rewritten = replace(traced, graph=rewrite(traced.graph, traced.spec))
    return rewritten, lower(quantize_tiny_model(rewritten).qdq)


@pytest.mark.parametrize(("config", "compared"), [(None, 16), (_COUNTS, 16), (_FRACTIONS, 8)])
def test_static_graph_of_embeddings_passes(pooled, config, compared, tmp_path):
    traced, int8 = pooled
    found = _check(_write(_published(int8, traced, config), tmp_path), lengths=config)
    assert (found.inputs + found.near_ties, found.near_ties) == (compared, 0)
    assert found.max_abs_difference < 1e-3


@pytest.mark.parametrize("config", [None, _COUNTS])
def test_embeddings_are_held_to_their_own_spread(pooled, config, tmp_path):
    """Each of 32 numbers is about 0.18: what would be allowed of token states is far too much of it."""
    traced, int8 = pooled
    model = _published(int8, traced, config)
    _shift_outputs(model, 5e-5, by="attention_mask")
    with pytest.raises(GateError, match=r"sentence_embedding that differs by .*, at most 0\.000\d+ is allowed"):
        _check(_write(model, tmp_path), lengths=config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "must answer the same to a text alone and in a batch of 8, got last_hidden_state"),
        (_COUNTS, "must answer the same to a text alone and in a batch of 8, got last_hidden_state"),
        (_FRACTIONS, "must keep the same tokens of a text alone and in a batch of 8, got others"),
    ],
)
def test_dynamic_graph_fails(quantized, traced_embedder, config, message, tmp_path):
    """What it is exempt for: its scales are those of the batch."""
    path = _write(_published(lower(quantized.dynamic), traced_embedder, config), tmp_path)
    with pytest.raises(GateError, match=rf"fast\.int8\.onnx {message}"):
        _check(path, lengths=config)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["fast.int8.onnx", "weights.bin"]


def _add_to_scores(model, ramp, *, wider_than=40):
    """Add numbers to the first layer's significances where the input has many tokens, as padding makes it."""
    top = next(node for node in model.graph if node.op_type == "TopK")
    constants = {
        "width/axis": np.array([1]),
        "width/least": np.array([wider_than]),
        "width/ramp": ramp.astype(np.float32),
    }
    axis, least, values = (add_initializer(model.graph, name, array) for name, array in constants.items())
    shape = ir.node("Shape", [top.inputs[0]])
    width = ir.node("Gather", [shape.outputs[0], axis])
    over = ir.node("Greater", [width.outputs[0], least])
    factor = ir.node("Cast", [over.outputs[0]], attributes={"to": ir.DataType.FLOAT})
    zero = add_initializer(model.graph, "width/zero", np.array([0]))
    part = ir.node("Slice", [values, zero, width.outputs[0]])
    scaled = ir.node("Mul", [part.outputs[0], factor.outputs[0]])
    added = ir.node("Add", [top.inputs[0], scaled.outputs[0]])
    model.graph.insert_before(top, [shape, width, over, factor, part, scaled, added])
    top.replace_input_with(0, added.outputs[0])


def test_graph_fails_when_padding_decides_what_is_kept(quantized, traced_embedder, tmp_path):
    model = _published(lower(quantized.qdq), traced_embedder, _COUNTS)
    _add_to_scores(model, np.linspace(50, 0, 64))
    message = (
        rf"keep the same tokens of a text alone and .*, got others at {kept_positions_name(0)} of a text of 2\d tok"
    )
    with pytest.raises(GateError, match=message):
        _check(_write(model, tmp_path))


def test_near_ties_are_counted_and_left_out(quantized, traced_embedder, tmp_path, monkeypatch):
    """As if every gap were a near tie: the rows with other tokens are no fault, and are not compared."""
    monkeypatch.setattr(invariance, "INT8_TIE_GAP", 1e3)
    model = _published(lower(quantized.qdq), traced_embedder, _COUNTS)
    _add_to_scores(model, np.linspace(50, 0, 64))
    found = _check(_write(model, tmp_path))
    assert found.near_ties > 0
    assert found.inputs + found.near_ties == 16
    assert found.max_abs_difference < 5e-3


def test_graph_fails_when_there_are_near_ties_only(quantized, traced_embedder, tmp_path, monkeypatch):
    """As if every gap were one; in company every text keeps its first five tokens, whatever it keeps alone."""
    monkeypatch.setattr(invariance, "INT8_TIE_GAP", 1e3)
    counts = LengthConfig((5, 5, 5))
    model = _published(lower(quantized.qdq), traced_embedder, counts)
    _add_to_scores(model, np.linspace(50, 0, 64), wider_than=60)
    with pytest.raises(GateError, match="compared on at least one text, got 16 near ties only"):
        _check(_write(model, tmp_path), lengths=counts)


def _shift_outputs(model, amount, *, by=None):
    """Add to the output what depends on the width of the batch: its own, or that of an input."""
    output = model.graph.outputs[0]
    shape = ir.node("Shape", [next((value for value in model.graph.inputs if value.name == by), output)])
    width = ir.node("Cast", [shape.outputs[0]], attributes={"to": ir.DataType.FLOAT})
    index = add_initializer(model.graph, "index", np.array(1))
    tokens = ir.node("Gather", [width.outputs[0], index])
    scaled = ir.node("Mul", [tokens.outputs[0], add_initializer(model.graph, "amount", np.float32(amount))])
    added = ir.node("Add", [output, scaled.outputs[0]])
    added.outputs[0].name, output.name = output.name, "unshifted"
    added.outputs[0].type = output.type
    model.graph.extend([shape, width, tokens, scaled, added])
    model.graph.outputs[0] = added.outputs[0]


@pytest.mark.parametrize("amount", [3e-4, np.nan])
def test_graph_fails_when_an_answer_differs(quantized, traced_embedder, amount, tmp_path):
    model = _published(lower(quantized.qdq), traced_embedder, _COUNTS)
    _shift_outputs(model, amount)
    with pytest.raises(
        GateError, match=r"must answer the same .*last_hidden_state that differs by .* most 0\.005\d* is"
    ):
        _check(_write(model, tmp_path))


def test_small_differences_are_recorded(quantized, traced_embedder, tmp_path):
    model = _published(lower(quantized.qdq), traced_embedder, _COUNTS)
    _shift_outputs(model, 5e-5)
    assert 1e-3 < _check(_write(model, tmp_path)).max_abs_difference < 5e-3


def test_tolerance_grows_with_the_spread_of_an_output(quantized, traced_embedder, tmp_path):
    model = _published(lower(quantized.qdq), traced_embedder, _COUNTS)
    _shift_outputs(model, 3e-4)
    output = model.graph.outputs[0]
    large = ir.node("Mul", [output, add_initializer(model.graph, "hundred", np.float32(100))])
    large.outputs[0].name, output.name, large.outputs[0].type = output.name, "small", output.type
    model.graph.append(large)
    model.graph.outputs[0] = large.outputs[0]
    path = _write(model, tmp_path)
    with pytest.raises(GateError, match=r"at most 0\.[4-9]\d* is allowed"):
        _check(path)


def test_unknown_form_of_the_selection_is_refused(quantized, traced_embedder, tmp_path):
    model = _published(lower(quantized.qdq), traced_embedder, _COUNTS)
    kept = next(v for node in model.graph for v in node.outputs if v.name == kept_positions_name(0))
    copy = ir.node("Abs", [kept])
    kept.name, copy.outputs[0].name = "sorted", kept.name
    model.graph.insert_after(kept.producer(), copy)
    with pytest.raises(ExportError, match=r"kept_positions\.0 must come from TopK"):
        _check(_write(model, tmp_path))


def test_texts_are_eight_of_unequal_length_within_the_maximum():
    texts = _texts()
    lengths = [text["input_ids"].shape for text in texts]
    assert lengths == [(1, 64 * (index + 1) // 9) for index in range(8)]
    assert all(text["attention_mask"].all() for text in texts)
    assert [text["input_ids"].shape[1] for text in make_texts([make_feed(1, 5)], max_length=3)] == [1] * 5 + [2] * 3
    assert make_texts([make_feed(1, 5)], max_length=512)[-1]["input_ids"].shape == (1, 227)
