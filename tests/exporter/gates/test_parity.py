"""The gates: a good graph passes; one that is wrong in one way fails, and says how."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch

from dynbert.errors import BundleError
from dynbert.lengths import LengthConfig
from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert_export.errors import GateError
from dynbert_export.gates import parity
from dynbert_export.gates.parity import TorchReference, check_parity, make_cases
from dynbert_export.graph.editing import add_initializer, producer_of
from dynbert_export.graph.freeze import freeze, hide_kept_positions, task_outputs
from dynbert_export.graph.leave_out import leave_out_layers
from dynbert_export.graph.tracing import trace
from dynbert_export.graph.weights_file import save_sharing_weights
from dynbert_export.variants import anytime_configs
from tests.helpers.graphs import TracedModel, make_feed, trace_tiny_embedder, trace_tiny_model

_CONFIG = LengthConfig((20, 10, 5))


def _write(model, folder, name="fast.fp32.onnx"):
    [path] = save_sharing_weights({name: model}, folder, "weights.bin")
    return path


def _check(path, traced, *, lengths=(_CONFIG,), cases=None, limit=1e-4, layers=None):
    reference = TorchReference(
        traced.model,
        task_outputs(traced.graph),
        _make_cases(traced) if cases is None else cases,
        always_keep_cls_token=traced.spec.always_keep_cls_token,
        layers=layers,
    )
    return check_parity(path, reference, lengths=lengths, max_abs_difference=limit)


def _make_cases(traced, *, max_length=64, seed=0):
    return make_cases(traced.checkpoint.config, traced.checkpoint.task, max_length=max_length, seed=seed)


def _published(traced, config=_CONFIG):
    return hide_kept_positions(freeze(traced.graph, config, traced.spec))


@pytest.mark.parametrize("config", [None, _CONFIG, LengthConfig((0.5, 0.3, 0.2)), LengthConfig((64, 9, 9))])
def test_parity_holds_when_the_graph_is_good(traced, config, tmp_path):
    path = _write(_published(traced, config), tmp_path)
    parity = _check(path, traced, lengths=(config,))
    rows = sum(len(case["input_ids"]) for case in _make_cases(traced))
    assert (parity.inputs, parity.near_ties, parity.selection_agreement) == (rows, 0, 1.0)
    assert 0 < parity.max_abs_difference < 1e-5
    assert sorted(item.name for item in tmp_path.iterdir()) == ["fast.fp32.onnx", "weights.bin"]


def test_parity_holds_when_the_anytime_graph_is_good(traced, tmp_path):
    path = _write(hide_kept_positions(traced.graph), tmp_path)
    configs = anytime_configs(traced.spec.num_layers)
    one = _check(path, traced, lengths=configs[:1])
    assert _check(path, traced, lengths=configs).inputs == 2 * one.inputs


def _weight(model, shape=(32, 32)):
    return next(
        value
        for value in model.graph.initializers.values()
        if value.dtype == ir.DataType.FLOAT and tuple(value.shape) == shape
    )


def _change_weight(model, change):
    value = _weight(model)
    array = value.const_value.numpy().copy()
    change(array)
    value.const_value = ir.Tensor(array, name=value.name)


def _with_a_weight_off_by_a_hundredth(model):
    _change_weight(model, lambda array: array.__setitem__((0, 0), array[0, 0] + 1e-2))


def _with_a_weight_that_is_no_number(model):
    _change_weight(model, lambda array: array.__setitem__((0, 0), np.nan))


def _with_the_least_significant_tokens(model):
    next(node for node in model.graph if node.op_type == "TopK").attributes["largest"] = ir.AttrInt64("largest", 0)


def _with_shifted_states(model):
    """Gather the neighbours' states: the right positions, the wrong tokens."""
    gathers = [node for node in model.graph if node.op_type == "GatherElements"]
    gather = next(node for node in gathers if producer_of(node.inputs[0], "LayerNormalization"))
    one = add_initializer(model.graph, "one", np.array([1]))
    zero = add_initializer(model.graph, "zero", np.array([0]))
    shifted = ir.node("Max", [ir.node("Sub", [gather.inputs[1], one]).outputs[0], zero])
    model.graph.insert_before(gather, [shifted.inputs[0].producer(), shifted])
    gather.replace_input_with(1, shifted.outputs[0])


def _with_one_token_too_few(model):
    value = next(value for value in model.graph.initializers.values() if 20 in value.const_value.numpy().ravel())
    value.const_value = ir.Tensor(np.where(value.const_value.numpy() == 20, 19, value.const_value.numpy()))


def _with_another_shape(model):
    output = model.graph.outputs[0]
    axes = add_initializer(model.graph, "axes", np.array([0]))
    wide = ir.node("Unsqueeze", [output, axes])
    wide.outputs[0].name, output.name = output.name, "narrow"
    wide.outputs[0].type = output.type
    model.graph.append(wide)
    model.graph.outputs[0] = wide.outputs[0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_with_a_weight_off_by_a_hundredth, r"must keep the tokens .* in layer 2 of an input of 64 tokens, less"),
        (_with_a_weight_that_is_no_number, r"last_hidden_state must be finite, got values that are not"),
        (_with_the_least_significant_tokens, r"must keep the tokens that PyTorch keeps, got others in layer 0"),
        (_with_shifted_states, r"must keep the tokens .* in layer 2 of an input of 7 tokens, less"),
        (_with_one_token_too_few, r"must keep the tokens .* in layer 0 of an input of 64 tokens, less .* by inf"),
        (_with_another_shape, r"last_hidden_state must have shape \[1, 1, 32\], got \[1, 1, 1, 32\]"),
    ],
)
def test_parity_fails_when_the_graph_is_broken(traced_embedder, damage, message, tmp_path):
    model = _published(traced_embedder)
    damage(model)
    path = _write(model, tmp_path)
    with pytest.raises(GateError, match=message) as caught:
        _check(path, traced_embedder)
    assert "fast.fp32.onnx" in str(caught.value)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["fast.fp32.onnx", "weights.bin"]


@pytest.fixture(scope="module")
def pooled(tmp_path_factory) -> TracedModel:
    """A model whose graphs give normalised means, hidden size 64: as wide as the longest input is long."""
    pooling = Pooling(mode=PoolingMode.MEAN, normalize=True)
    return trace_tiny_embedder(tmp_path_factory.mktemp("pooled") / "model", pooling, hidden_size=64)


def _find_weights(model):
    """Return the node that weighs the states of a mean."""
    return next(node for node in model.graph if node.op_type == "Mul" and _is_weight(node.inputs[1]))


def _is_weight(value):
    source = producer_of(value, "Unsqueeze")
    cast = producer_of(source and source.inputs[0], "GatherElements", "Cast")
    return cast is not None and "attention_mask" in {cast.inputs[0].name, _name_of_source(cast)}


def _name_of_source(node):
    source = producer_of(node.inputs[0], "Cast")
    return source and source.inputs[0].name


def _with_padding_in_the_mean(model):
    """All weights are one, of the sum and of the count."""
    weights = _find_weights(model).inputs[1].producer().inputs[0]
    ones = ir.node("Max", [weights, add_initializer(model.graph, "all", np.float32(1))])
    model.graph.insert_after(weights.producer(), ones)
    for use in [use for use in weights.uses() if use.node is not ones]:
        use.node.replace_input_with(use.idx, ones.outputs[0])


def _with_half_the_length(model):
    """Embeddings are scaled to half of unit length."""
    norm = next(node for node in model.graph if node.op_type == "ReduceL2")
    doubled = ir.node("Mul", [norm.outputs[0], add_initializer(model.graph, "two", np.float32(2))])
    model.graph.insert_after(norm, doubled)
    for use in [use for use in norm.outputs[0].uses() if use.node is not doubled]:
        use.node.replace_input_with(use.idx, doubled.outputs[0])


@pytest.mark.parametrize("config", [None, _CONFIG, LengthConfig((0.5, 0.3, 0.2))], ids=str)
def test_parity_holds_when_a_pooled_graph_is_good(pooled, config, tmp_path):
    parity = _check(_write(_published(pooled, config), tmp_path), pooled, lengths=(config,))
    assert (parity.inputs, parity.near_ties) == (sum(len(case["input_ids"]) for case in _make_cases(pooled)), 0)
    assert 0 < parity.max_abs_difference < 1e-6


@pytest.mark.parametrize(
    ("damage", "config"),
    [
        (_with_padding_in_the_mean, None),
        (_with_padding_in_the_mean, LengthConfig((40, 30, 30))),
        (_with_half_the_length, None),
        (_with_half_the_length, _CONFIG),
        (_with_the_least_significant_tokens, _CONFIG),
        (_with_shifted_states, _CONFIG),
    ],
)
def test_parity_fails_when_a_pooled_graph_is_broken(pooled, damage, config, tmp_path):
    model = _published(pooled, config)
    damage(model)
    with pytest.raises(GateError, match=r"must differ from PyTorch by at most|must keep the tokens that PyTorch keeps"):
        _check(_write(model, tmp_path), pooled, lengths=(config,))


def test_every_number_of_an_embedding_is_compared_where_it_is_as_wide_as_the_input_is_long(pooled, tmp_path):
    """A mask of the input's tokens, taken for one of the embedding's numbers, would leave the last ones out."""
    model = _published(pooled, None)
    output = model.graph.outputs[0]
    fault = np.zeros((1, 64), np.float32)
    fault[0, -1] = 1e-3
    added = ir.node("Add", [output, add_initializer(model.graph, "fault", fault)])
    added.outputs[0].name, output.name = output.name, "right"
    added.outputs[0].type, added.outputs[0].shape = output.type, output.shape
    model.graph.append(added)
    model.graph.outputs[0] = added.outputs[0]
    case = make_feed(2, 64)
    padded = {name: array[1:] for name, array in case.items()}
    assert padded["attention_mask"].sum() < 64
    with pytest.raises(GateError, match=r"must differ from PyTorch by at most 0\.0001, got 0\.001"):
        _check(_write(model, tmp_path), pooled, lengths=(None,), cases=[padded])


def test_parity_fails_when_the_full_graph_has_a_changed_weight(traced, tmp_path):
    """Without selection in between, the difference itself is measured."""
    model = _published(traced, None)
    _with_a_weight_off_by_a_hundredth(model)
    path = _write(model, tmp_path)
    with pytest.raises(GateError, match=r"must differ from PyTorch by at most 0\.0001, got [\d.e-]+ over \d+ rows"):
        _check(path, traced, lengths=(None,))


def test_parity_fails_when_the_profile_is_another(traced_embedder, tmp_path):
    path = _write(_published(traced_embedder, LengthConfig((20, 10, 6))), tmp_path)
    with pytest.raises(GateError, match="others in layer 2"):
        _check(path, traced_embedder)


def test_parity_fails_when_the_difference_is_above_the_limit(traced_embedder, tmp_path):
    path = _write(_published(traced_embedder), tmp_path)
    with pytest.raises(GateError, match="by at most 1e-12"):
        _check(path, traced_embedder, limit=1e-12)


def test_temporary_graph_is_removed_when_it_does_not_open(traced_embedder, tmp_path):
    path = _write(_published(traced_embedder), tmp_path)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(BundleError, match="must be a graph that onnxruntime"):
        _check(path, traced_embedder)
    assert [item.name for item in tmp_path.iterdir()] == ["fast.fp32.onnx"]


def test_temporary_graph_is_removed_when_the_check_is_interrupted(traced_embedder, tmp_path, monkeypatch):
    path = _write(_published(traced_embedder), tmp_path)

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(parity.TorchReference, "answer", interrupt)
    with pytest.raises(KeyboardInterrupt):
        _check(path, traced_embedder)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["fast.fp32.onnx", "weights.bin"]


@pytest.fixture(scope="module")
def undecided(tmp_path_factory) -> TracedModel:
    """A model to which every token is as significant as any other: its queries are zero, so attention is uniform."""
    import torch

    traced = trace_tiny_model(tmp_path_factory.mktemp("undecided"), Task.FEATURE_EXTRACTION)
    with torch.no_grad():
        for layer in traced.model.encoder.layer:
            layer.attention.self.query.weight.zero_()
            layer.attention.self.query.bias.zero_()
    graph = trace(traced.model, Task.FEATURE_EXTRACTION, opset=17, always_keep_cls_token=True)
    return TracedModel(traced.checkpoint, traced.model, graph, traced.spec)


def _with_later_tokens_first(model):
    """Break ties the other way round: add to each significance a little that grows with the position."""
    top = next(node for node in model.graph if node.op_type == "TopK")
    ramp = add_initializer(model.graph, "ramp", np.linspace(0, 1e-5, 64, dtype=np.float32)[:7])
    skewed = ir.node("Add", [top.inputs[0], ramp])
    model.graph.insert_before(top, skewed)
    top.replace_input_with(0, skewed.outputs[0])


def test_reference_answers_from_memory_until_that_is_full(traced_embedder, monkeypatch):
    """What is asked for again is the same object; what had to go is computed again, and equal."""
    cases = [make_feed(1, 16, seed=seed) for seed in range(4)]
    reference = TorchReference(traced_embedder.model, ["last_hidden_state"], cases, always_keep_cls_token=True)
    bytes_each = reference.answer(0, None).nbytes
    assert bytes_each == 16 * 32 * 4
    monkeypatch.setattr(parity, "_MAX_CACHED_BYTES", 3 * bytes_each)
    first = [reference.answer(case, None) for case in range(4)]
    second = [reference.answer(case, None) for case in reversed(range(4))]
    assert [one is other for one, other in zip(first, reversed(second), strict=True)] == [False, True, True, True]
    np.testing.assert_array_equal(first[0].outputs["last_hidden_state"], second[-1].outputs["last_hidden_state"])
    monkeypatch.setattr(parity, "_MAX_CACHED_BYTES", bytes_each - 1)
    assert reference.answer(0, _CONFIG).nbytes == bytes_each, "an answer too large to be kept is given all the same"


def test_near_ties_are_counted_and_left_out(undecided, tmp_path):
    config = LengthConfig((4, 4, 4))
    model = _published(undecided, config)
    assert _check(_write(model, tmp_path), undecided, lengths=(config,), cases=[make_feed(1, 7)]).near_ties == 0
    _with_later_tokens_first(model)
    path = _write(model, tmp_path)
    cases = [make_feed(1, 7), make_feed(2, 7)]  # the last text has three tokens, fewer than are kept
    parity = _check(path, undecided, lengths=(config,), cases=cases)
    assert (parity.inputs, parity.near_ties) == (1, 2)
    assert parity.selection_agreement == pytest.approx(1 / 3)


def test_parity_fails_when_there_are_near_ties_only(undecided, tmp_path):
    config = LengthConfig((4, 4, 4))
    model = _published(undecided, config)
    _with_later_tokens_first(model)
    path = _write(model, tmp_path)
    with pytest.raises(GateError, match="checked on at least one row, got 1 near ties only"):
        _check(path, undecided, lengths=(config,), cases=[make_feed(1, 7)])


def test_dropping_cls_is_no_near_tie(undecided, tmp_path):
    """Where the cut goes through equals, another choice is fine, but not one that loses a token above the cut."""
    config = LengthConfig((4, 4, 4))
    model = _published(undecided, config)
    _with_the_least_significant_tokens(model)
    path = _write(model, tmp_path)
    with pytest.raises(GateError, match="in layer 0 of an input of 7 tokens, less significant by inf"):
        _check(path, undecided, lengths=(config,), cases=[make_feed(1, 7)])


def test_cases_are_short_and_long_alone_and_unequally_padded(traced_embedder):
    cases = _make_cases(traced_embedder)
    assert [case["input_ids"].shape for case in cases] == [(b, t) for t in (1, 2, 3, 7, 64) for b in (1, 4)]
    for case in cases:
        counts = case["attention_mask"].sum(axis=1)
        assert counts[0] == case["input_ids"].shape[1]
        assert (counts >= 1).all()
        assert (case["input_ids"][case["attention_mask"] == 0] == 0).all()
        assert case["input_ids"].max() < traced_embedder.vocab_size
    assert len(set(cases[-1]["attention_mask"].sum(axis=1))) == 4
    assert _make_cases(traced_embedder, max_length=130)[-1]["input_ids"].shape == (4, 130)


def test_cases_depend_on_the_seed_alone(traced_embedder):
    first, second, other = (_make_cases(traced_embedder, seed=seed)[-1]["input_ids"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert (first != other).any()


def _publish_layers(traced, layers, config=_CONFIG):
    left = leave_out_layers(traced.graph, layers, traced.spec)
    return hide_kept_positions(freeze(left, config, replace(traced.spec, layers=layers)))


@pytest.mark.parametrize("layers", [(0, 2), (1, 2), (0, 1), (2,)], ids=str)
@pytest.mark.parametrize("config", [None, _CONFIG, LengthConfig((0.5, 0.3, 0.2))], ids=str)
def test_parity_holds_when_layers_are_left_out(traced_embedder, tmp_path, layers, config):
    path = _write(_publish_layers(traced_embedder, layers, config), tmp_path)
    parity = _check(path, traced_embedder, lengths=(config,), layers=layers)
    assert (parity.near_ties, parity.selection_agreement) == (0, 1.0)
    assert 0 < parity.max_abs_difference < 1e-5


@pytest.mark.parametrize("layers", [None, (0, 1), (1, 2)], ids=str)
def test_parity_fails_when_other_layers_are_left_out(traced_embedder, tmp_path, layers):
    """By what is kept where both have a layer, else by the answers."""
    path = _write(_publish_layers(traced_embedder, (0, 2)), tmp_path)
    with pytest.raises(GateError, match=r"must keep the tokens that PyTorch keeps|must differ from PyTorch by at most"):
        _check(path, traced_embedder, layers=layers)


def test_a_gap_is_measured_in_the_layer_that_it_is_of(traced_embedder):
    """By an oracle that knows the model with the other layers taken out of it."""
    traced, layers, config = traced_embedder, (0, 2), LengthConfig((20, 10, 5))
    cases = _make_cases(traced)
    case = next(index for index, feed in enumerate(cases) if feed["input_ids"].shape == (4, 64))
    arguments = {"cases": cases, "always_keep_cls_token": True}
    reference = TorchReference(traced.model, ["last_hidden_state"], layers=layers, **arguments)
    short = copy.deepcopy(traced.model)
    short.encoder.layer = torch.nn.ModuleList([short.encoder.layer[layer] for layer in layers])
    short.config.num_hidden_layers = 2
    oracle = TorchReference(short, ["last_hidden_state"], **arguments)
    shortened = LengthConfig((20, 5))
    kept, wanted = (
        each.answer(case, lengths).kept_positions for each, lengths in ((reference, config), (oracle, shortened))
    )
    assert (set(kept), set(wanted)) == ({0, 2}, {0, 1})
    lost = kept[2][1][1:]
    swapped = np.sort([*kept[2][1][:1], *lost[1:], np.setdiff1d(kept[0][1], kept[2][1])[0]])
    gap = reference.measure_gap(case, config, layer=2, row=1, found=swapped)
    assert 0 < gap < 100
    assert gap == pytest.approx(oracle.measure_gap(case, shortened, layer=1, row=1, found=swapped), rel=1e-4)
