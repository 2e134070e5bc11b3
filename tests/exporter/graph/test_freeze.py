"""Freezing: one anytime graph, the frozen graphs and the eager PyTorch model are three ways to compute one thing."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dynbert.inputs import LENGTH_CONFIG
from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_export.errors import ExportError
from dynbert_export.graph.freeze import freeze, hide_kept_positions, show_kept_positions, task_outputs
from dynbert_export.graph.names import kept_positions_name
from dynbert_export.graph.tracing import trace
from tests.helpers.graphs import (
    assert_informative,
    count_operators,
    kept_by,
    make_feed,
    parse_graph,
    run_graph_in_memory,
    run_torch,
    serialize,
    trace_tiny_model,
    with_lengths,
)

_CUTS = [  # length config, and the layers that can drop a token of an input of at most 64
    (None, ()),
    ((64, 64, 64), ()),
    ((1.0, 1.0, 1.0), ()),
    ((20, 10, 5), (0, 1, 2)),
    ((12, 12, 5), (0, 2)),
    ((12, 12, 12), (0,)),
    ((64, 9, 9), (1,)),
    ((64, 64, 4), (2,)),
    ((64, 30, 6), (1, 2)),
    ((63, 63, 63), (0,)),
    ((1, 1, 1), (0,)),
    ((2, 1, 1), (0, 1)),
    ((0.5, 0.3, 0.2), (0, 1, 2)),
    ((0.9, 0.9, 0.4), (0, 2)),
    ((1.0, 0.5, 0.5), (1,)),
    ((1.0, 1.0, 0.3), (2,)),
    ((0.999999, 0.333333, 0.000001), (0, 1, 2)),
    ((0.000001, 0.000001, 0.000001), (0,)),
]
_TOKENS = (1, 2, 3, 7, 20, 64)
_FEEDS = [make_feed(batch, tokens) for tokens in _TOKENS for batch in (1, 4)]
_GATHERING = ("TopK", "GatherElements", "ScatterElements")


def _config(lengths):
    return None if lengths is None else LengthConfig(lengths)


@pytest.fixture(scope="module")
def frozen_graph():
    """Freeze once for all tests that only read the result."""
    graphs = {}

    def get(traced, lengths):
        key = (traced.checkpoint.task, str(lengths))  # (1.0, 1.0) and (1, 1) are equal tuples
        if key not in graphs:
            graphs[key] = freeze(traced.graph, _config(lengths), traced.spec)
        return graphs[key]

    return get


@pytest.fixture(scope="module")
def free_cls(tmp_path_factory):
    """A model whose graphs may drop CLS."""
    folder = tmp_path_factory.mktemp("free-cls")
    return trace_tiny_model(folder, Task.FEATURE_EXTRACTION, always_keep_cls_token=False)


@pytest.fixture(scope="module")
def voting_padding(tmp_path_factory):
    """A model that counts the votes of padding, as the reference does."""
    folder = tmp_path_factory.mktemp("voting-padding")
    return trace_tiny_model(folder, Task.FEATURE_EXTRACTION, count_padded_queries=True)


def _assert_equal(outputs, expected, names):
    for name in names:
        assert outputs[name].shape == expected[name].shape
        np.testing.assert_allclose(outputs[name], expected[name], rtol=0, atol=1e-4, err_msg=name)


@pytest.mark.parametrize(("lengths", "cuts"), _CUTS)
def test_frozen_anytime_and_eager_agree(traced, frozen_graph, lengths, cuts):
    config = _config(lengths)
    frozen = frozen_graph(traced, lengths)
    names = task_outputs(frozen)
    assert names == task_outputs(traced.graph)
    feeds = [traced.arrange(feed) for feed in _FEEDS]
    frozen_runs = run_graph_in_memory(frozen, *feeds)
    anytime_runs = run_graph_in_memory(traced.graph, *(with_lengths(feed, config, traced.spec) for feed in feeds))
    for feed, outputs, anytime in zip(feeds, frozen_runs, anytime_runs, strict=True):
        expected, kept = run_torch(traced, feed, config)
        for name in names:
            assert_informative(expected[name])
        _assert_equal(outputs, expected, names)
        _assert_equal(anytime, expected, names)
        assert set(kept_by(anytime)) == set(range(traced.spec.num_layers))
        assert set(kept_by(outputs)) == set(cuts)
        batch, tokens = len(feed["input_ids"]), feed["input_ids"].shape[-1]
        entering = np.broadcast_to(np.arange(tokens), (batch, tokens))
        for layer, positions in enumerate(kept):
            np.testing.assert_array_equal(kept_by(anytime)[layer], positions)
            # A layer without a cut keeps what entered it.
            np.testing.assert_array_equal(kept_by(outputs)[layer] if layer in cuts else entering, positions)
            entering = positions


@pytest.mark.parametrize(("lengths", "cuts"), _CUTS)
def test_freeze_leaves_the_cuts_of_the_layers_that_can_drop(traced, frozen_graph, lengths, cuts):
    counts = count_operators(frozen_graph(traced, lengths))
    assert counts["TopK"] == 2 * len(cuts)  # one ranks the tokens, one puts the kept ones back into text order
    assert counts["ScatterElements"] == len(cuts)
    assert (counts["GatherElements"] > 0) == bool(cuts)


def test_cuts_change_the_answer(traced_embedder, frozen_graph):
    """A canary: were nothing dropped anywhere, the comparisons above would hold as well."""
    feed = make_feed(4, 20)
    runs = [
        run_graph_in_memory(frozen_graph(traced_embedder, lengths), feed)[0]
        for lengths in (None, (20, 10, 5), (12, 12, 12), (1, 1, 1))
    ]
    for index, run in enumerate(runs):
        for other in runs[:index]:
            assert np.abs(run["last_hidden_state"] - other["last_hidden_state"]).max() > 0.05


def test_full_graph_has_nothing_that_selects(traced, frozen_graph):
    counts = count_operators(frozen_graph(traced, None))
    assert {name: counts[name] for name in _GATHERING} == dict.fromkeys(_GATHERING, 0)
    votes = traced.spec.num_layers  # the product that sums up what each token received
    assert counts["MatMul"] == count_operators(traced.graph)["MatMul"] - votes >= 8 * traced.spec.num_layers


@pytest.mark.parametrize("lengths", [None, (20, 10, 5), (0.5, 0.3, 0.2), (64, 64, 64)])
def test_freeze_takes_the_length_input_away(traced, frozen_graph, lengths):
    frozen = frozen_graph(traced, lengths)
    assert [value.name for value in frozen.graph.inputs] == [
        value.name for value in traced.graph.graph.inputs if value.name != LENGTH_CONFIG
    ]
    assert LENGTH_CONFIG not in {value.name for value in frozen.graph.inputs}


@pytest.mark.parametrize(("lengths", "cuts"), _CUTS)
def test_frozen_graph_is_valid(traced, frozen_graph, lengths, cuts):
    """Strictly: every value that is declared has a type, and the outputs have the shapes that they were traced with."""
    del cuts
    frozen = frozen_graph(traced, lengths)
    for model in (frozen, hide_kept_positions(frozen), show_kept_positions(hide_kept_positions(frozen))):
        onnx.checker.check_model(ir.to_proto(model), full_check=True)
    outputs = {value.name: value for value in traced.graph.graph.outputs}
    for value in hide_kept_positions(frozen).graph.outputs:
        assert (value.type, str(value.shape)) == (outputs[value.name].type, str(outputs[value.name].shape))


def test_freeze_leaves_its_argument_as_it_was(traced_embedder):
    """Of a graph that was never frozen: what the first freeze would change, the second finds changed."""
    fresh = trace(traced_embedder.model, Task.FEATURE_EXTRACTION, opset=17, always_keep_cls_token=True)
    before = serialize(fresh)
    for lengths in (None, (20, 10, 5), (0.5, 0.3, 0.2), (64, 9, 9)):
        freeze(fresh, _config(lengths), traced_embedder.spec)
        assert serialize(fresh) == before


def test_freeze_gives_the_same_graph_twice(traced_embedder):
    config = LengthConfig((20, 10, 5))
    first, second = (serialize(freeze(traced_embedder.graph, config, traced_embedder.spec)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    "lengths", [None, (20, 10, 5), (1, 1, 1), (0.5, 0.3, 0.2), (0.000001,) * 3, (1.0, 0.4, 0.4), (64, 3, 1)]
)
def test_frozen_anytime_and_eager_agree_when_cls_may_be_dropped(free_cls, lengths):
    traced, config = free_cls, _config(lengths)
    frozen_runs = run_graph_in_memory(freeze(traced.graph, config, traced.spec), *_FEEDS)
    anytime_runs = run_graph_in_memory(traced.graph, *(with_lengths(feed, config, traced.spec) for feed in _FEEDS))
    dropped_cls = False
    for feed, outputs, anytime in zip(_FEEDS, frozen_runs, anytime_runs, strict=True):
        expected, kept = run_torch(traced, feed, config)
        _assert_equal(outputs, expected, ["last_hidden_state"])
        _assert_equal(anytime, expected, ["last_hidden_state"])
        for layer, positions in kept_by(outputs).items():
            np.testing.assert_array_equal(positions, kept[layer])
        dropped_cls |= any((positions[:, 0] > 0).any() for positions in kept)
    assert dropped_cls == (lengths is not None)


@pytest.mark.parametrize(("num_layers", "lengths"), [(1, (5,)), (1, (0.3,)), (2, (64, 5)), (5, (30, 30, 9, 9, 2))])
def test_frozen_and_eager_agree_when_there_are_other_numbers_of_layers(tmp_path, num_layers, lengths):
    traced = trace_tiny_model(tmp_path, Task.FEATURE_EXTRACTION, num_hidden_layers=num_layers)
    config = LengthConfig(lengths)
    runs = run_graph_in_memory(freeze(traced.graph, config, traced.spec), *_FEEDS)
    for feed, outputs in zip(_FEEDS, runs, strict=True):
        expected, kept = run_torch(traced, feed, config)
        _assert_equal(outputs, expected, ["last_hidden_state"])
        for layer, positions in kept_by(outputs).items():
            np.testing.assert_array_equal(positions, kept[layer])


@pytest.fixture(scope="module", params=["relative_key", "relative_key_query"])
def relative(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("relative")
    return trace_tiny_model(folder, Task.QUESTION_ANSWERING, position_embedding_type=request.param)


@pytest.mark.parametrize(("lengths", "cuts"), [(None, 0), ((20, 10, 5), 3), ((64, 9, 9), 1), ((1.0, 0.5, 0.3), 2)])
def test_frozen_and_eager_agree_when_positions_are_relative(relative, lengths, cuts):
    """A layer measures distances between the positions that are left: all of them where nothing was dropped."""
    traced, config = relative, _config(lengths)
    frozen = freeze(traced.graph, config, traced.spec)
    assert count_operators(frozen)["TopK"] == 2 * cuts
    for feed, outputs in zip(_FEEDS, run_graph_in_memory(frozen, *_FEEDS), strict=True):
        expected, kept = run_torch(traced, feed, config)
        _assert_equal(outputs, expected, ["start_logits", "end_logits"])
        for layer, positions in kept_by(outputs).items():
            np.testing.assert_array_equal(positions, kept[layer])


@pytest.mark.parametrize("lengths", [None, (20, 10, 5), (64, 9, 9), (0.5, 0.3, 0.2)])
def test_frozen_anytime_and_eager_agree_when_several_choices_compete(traced_models, frozen_graph, lengths):
    traced, config = traced_models[Task.MULTIPLE_CHOICE], _config(lengths)
    frozen = frozen_graph(traced, lengths)
    for tokens in _TOKENS:
        feed = {name: array.reshape(2, 3, tokens) for name, array in make_feed(6, tokens).items()}
        expected, kept = run_torch(traced, feed, config)
        assert expected["logits"].shape == (2, 3)
        assert_informative(expected["logits"])
        [outputs] = run_graph_in_memory(frozen, feed)
        [anytime] = run_graph_in_memory(traced.graph, with_lengths(feed, config, traced.spec))
        _assert_equal(outputs, expected, ["logits"])
        _assert_equal(anytime, expected, ["logits"])
        for layer, positions in kept_by(outputs).items():
            np.testing.assert_array_equal(positions, kept[layer])


@pytest.mark.parametrize("lengths", [None, (20, 10, 5), (64, 9, 9), (30, 30, 6), (0.5, 0.3, 0.2)])
def test_frozen_anytime_and_eager_agree_when_padding_votes(voting_padding, lengths):
    """Eager mode has the reference's order then, a graph the text's; the tokens are the same."""
    traced, config = voting_padding, _config(lengths)
    frozen_runs = run_graph_in_memory(freeze(traced.graph, config, traced.spec), *_FEEDS)
    anytime_runs = run_graph_in_memory(traced.graph, *(with_lengths(feed, config, traced.spec) for feed in _FEEDS))
    is_reordered = False
    for feed, outputs, anytime in zip(_FEEDS, frozen_runs, anytime_runs, strict=True):
        expected, kept = run_torch(traced, feed, config)
        _assert_equal(outputs, expected, ["last_hidden_state"])
        _assert_equal(anytime, expected, ["last_hidden_state"])
        for layer, positions in (kept_by(anytime) | kept_by(outputs)).items():
            np.testing.assert_array_equal(positions, np.sort(kept[layer], axis=1))
            is_reordered |= (positions != kept[layer]).any()
    assert is_reordered == (lengths is not None)


def test_answer_does_not_depend_on_padding(traced):
    """The same text alone and padded in a batch: a count of tokens, not a share of the padded length, decides."""
    frozen = freeze(traced.graph, LengthConfig((6, 4, 3)), traced.spec)
    feed = traced.arrange(make_feed(4, 20))
    [batch] = run_graph_in_memory(frozen, feed)
    for row in range(4):
        tokens = int(feed["attention_mask"][row].sum())
        text = {name: array[row : row + 1, ..., :tokens] for name, array in feed.items()}
        [alone] = run_graph_in_memory(frozen, text)
        for name in task_outputs(frozen):
            has_positions = alone[name].shape[1:2] == (tokens,) and batch[name].shape[1] == 20
            got = batch[name][row, :tokens] if has_positions else batch[name][row]
            np.testing.assert_allclose(got, alone[name][0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("lengths", [None, (20, 10, 5), (64, 9, 9), (0.5, 0.3, 0.2)])
def test_hidden_positions_come_back_when_shown(traced, frozen_graph, lengths):
    frozen = frozen_graph(traced, lengths)
    hidden = hide_kept_positions(frozen)
    assert tuple(value.name for value in hidden.graph.outputs) == task_outputs(frozen)
    shown = show_kept_positions(hidden)
    feed = traced.arrange(make_feed(3, 20))
    [before], [published], [after] = (run_graph_in_memory(model, feed) for model in (frozen, hidden, shown))
    assert set(before) == set(after)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
    for name, array in published.items():
        np.testing.assert_array_equal(before[name], array)


def test_hiding_the_positions_leaves_its_argument_as_it_was(traced_embedder):
    before = serialize(traced_embedder.graph)
    hidden = hide_kept_positions(traced_embedder.graph)
    published = serialize(hidden)
    show_kept_positions(hidden)
    assert (serialize(traced_embedder.graph), serialize(hidden)) == (before, published)


def _without_length_input(model):
    next(value for value in model.graph.inputs if value.name == LENGTH_CONFIG).name = "lengths"


def _without_kept_positions(model):
    model.graph.outputs.pop(-2)  # the last layer may have none, see single_token.py


def _with_positions_from_elsewhere(model):
    outputs = model.graph.outputs
    index = next(i for i, value in enumerate(outputs) if value.name == kept_positions_name(1))
    outputs[index].name = "moved"
    copy = ir.node("Identity", [outputs[index]])
    copy.outputs[0].name = kept_positions_name(1)
    model.graph.append(copy)
    outputs[index] = copy.outputs[0]


def _with_another_scatter(model):
    scatter = next(node for node in model.graph if node.op_type == "ScatterElements")
    model.graph.append(ir.node("ScatterElements", scatter.inputs, scatter.attributes))


def _with_a_foreign_index(model):
    gather = next(node for node in model.graph if node.op_type == "GatherElements")
    foreign = ir.node("Abs", [gather.inputs[1]])
    model.graph.insert_before(gather, foreign)
    gather.replace_input_with(1, foreign.outputs[0])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_without_length_input, "length_config must be an input"),
        (_without_kept_positions, r"kept_positions\.1 must be an output"),
        (_with_positions_from_elsewhere, r"kept_positions\.1 must come from GatherElements"),
        (_with_another_scatter, "must be 3 ScatterElements, one a layer, got 4"),
        (_with_a_foreign_index, "must gather by a layer's kept tokens"),
    ],
)
def test_freeze_refuses_a_graph_of_another_form(traced_embedder, damage, message):
    damaged = traced_embedder.graph.clone()
    damage(damaged)
    with pytest.raises(ExportError, match=message):
        freeze(damaged, LengthConfig((20, 10, 5)), traced_embedder.spec)


def test_freeze_refuses_a_frozen_graph(traced_embedder):
    frozen = freeze(traced_embedder.graph, LengthConfig((20, 10, 5)), traced_embedder.spec)
    with pytest.raises(ExportError, match="The traced graph must have its known form"):
        freeze(frozen, None, traced_embedder.spec)


def test_freeze_refuses_a_foreign_graph(traced_embedder):
    foreign = parse_graph("(float[3,4] x) => (float[3,4] y) { y = Neg (x) }")
    with pytest.raises(ExportError, match=r"kept_positions\.0 must be an output"):
        freeze(foreign, None, traced_embedder.spec)
