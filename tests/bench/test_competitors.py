"""The registry: who is measured, on what, with which settings."""

from __future__ import annotations

from dynbert.manifest import Task
from dynbert_bench.competitors import Choices, Registry
from dynbert_bench.options import FULL_PLAN, QUICK_PLAN, Cell, Group

_CELL = Cell(Task.QUESTION_ANSWERING, 384)


def _by_name(registry=None, cell=_CELL):
    return {item.name: item for item in (registry or Registry(FULL_PLAN)).competitors(cell)}


def test_every_row_that_was_asked_for_is_there():
    profiles = [f"dynbert-{name}" for name in ("full", "fast", "balanced", "anytime")]
    peers = [
        f"{name}-{lengths}"
        for name in ("torch", "ort-fp32", "ort-dynamic", "ort-static", "openvino")
        for lengths in ("full", "fast")
    ]
    assert sorted(_by_name()) == sorted(["base-line", *peers, *profiles])
    assert sorted(_by_name(cell=Cell(Task.TEXT_CLASSIFICATION, 128))) == [
        *("dynbert-full", "openvino-full", "ort-dynamic-full", "ort-fp32-full"),
    ]


def test_all_but_the_base_line_share_one_checkpoint():
    competitors = _by_name()
    base_line = competitors.pop("base-line")
    assert len({item.checkpoint.key for item in competitors.values()}) == 1
    assert base_line.checkpoint.settings["hidden"] == 768


def test_peers_with_lengths_start_from_the_graph_of_these_lengths():
    competitors = _by_name()
    for name in ("ort-dynamic-fast", "ort-static-fast", "openvino-fast"):
        for setup in competitors[name].setups:
            graph = setup.artifact.sources["graph"]
            graph = graph.sources.get("graph", graph)  # the one before onnxruntime's optimizer
            assert graph.settings == {"profile": "fast"}
            assert graph.sources["bundle"].settings["profiles"]["fast"] == "315,251,242,159,142,33"


def test_openvino_is_tried_with_fixed_and_dynamic_shapes_and_both_precisions():
    options = [tuple(map(str, item.options.values())) for item in _by_name()["openvino-fast"].setups]
    assert sorted(options) == [("None", "None"), ("None", "f32"), ("[1, 384]", "None"), ("[1, 384]", "f32")]
    assert len(_by_name()["openvino-full"].setups) == 8


def test_groups_are_left_out_on_request():
    registry = Registry(FULL_PLAN, Choices(without=frozenset(Group)))
    assert {item.group for item in registry.competitors(_CELL)} == {None}
    registry = Registry(FULL_PLAN, Choices(without=frozenset({Group.OPENVINO})))
    assert Group.OPENVINO not in {item.group for item in registry.competitors(_CELL)}


def test_a_given_model_is_the_checkpoint_of_all_but_the_base_line():
    competitors = _by_name(Registry(FULL_PLAN, Choices(model="/a/model", model_digest="abc")))
    base_line = competitors.pop("base-line")
    assert {item.checkpoint.settings["folder"] for item in competitors.values()} == {"/a/model"}
    assert base_line.checkpoint.kind == "checkpoint"


def test_plans_can_run_their_lengths():
    for plan in (FULL_PLAN, QUICK_PLAN):
        for config in (plan.fast, plan.balanced):
            config.check_layers(plan.shape.layers)
            config.check_max_length(plan.max_length)
        assert plan.timing.rounds >= (2 if plan.is_quick else 7)
