"""Outputs added to a model's bytes, and what metadata says of kept tokens; onnx is the oracle of the bytes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dynbert.errors import BundleError
from dynbert.kept_values import KEPT_TOKENS, KeptValues, add_outputs, kept_indices_name, read_kept_values
from dynbert.session import open_graph
from tests.helpers.bundles import make_bundle

_CUTS = {0: "kept_positions.0", 2: "kept_indices.2"}


def _metadata(text):
    return {KEPT_TOKENS: text, "other": "x"}


@pytest.mark.parametrize(
    "values", [KeptValues(cuts={}), KeptValues(cuts=_CUTS), KeptValues(cuts={}, first_token_layer=2)]
)
def test_what_is_written_is_read(values):
    assert read_kept_values(_metadata(values.encode()), 3) == values


def test_graphs_of_older_bundles_say_nothing():
    assert read_kept_values({"other": "x"}, 3) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name values by layers"),
        ("[]", "must name values by layers"),
        ('{"cuts":{}, "more":1}', "must name values by layers"),
        ('{"cuts":{"-1":"a"}}', "must name values by layers"),
        ('{"cuts":{"3":"a"}}', "must name layers below 3, got 3"),
        ('{"cuts":{"0":"a"},"first_token_layer":7}', "must name layers below 3, got 7"),
    ],
)
def test_metadata_that_breaks_a_rule_is_refused(text, message):
    with pytest.raises(BundleError, match=message):
        read_kept_values(_metadata(text), 3)


def test_a_row_is_traced_from_layer_to_layer():
    values = KeptValues(cuts={0: "a", 2: "b"}, first_token_layer=3)
    outputs = {"a": np.array([0, 2, 3, 6]), "b": np.array([0, 3])}
    traced = values.trace_row(outputs, 7)
    assert {layer: left.tolist() for layer, left in traced.items()} == {0: [0, 2, 3, 6], 2: [0, 6], 3: [0]}


@pytest.mark.parametrize(
    "kept",
    [
        np.array([0, 7]),
        np.array([-1, 2]),
        np.array([2, 1]),
        np.array([1, 1]),
        np.array([], np.int64),
        np.array([[0, 1]]),
        np.array([0.0, 1.0]),
    ],
)
def test_what_cannot_be_kept_tokens_is_refused(kept):
    with pytest.raises(BundleError, match="must be ascending indices below 7, at least one"):
        KeptValues(cuts={0: "a"}).trace_row({"a": kept}, 7)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "kept_indices.11"], ["x" * 127, "y" * 128, "z" * 20000]])
def test_added_outputs_are_what_onnx_reads(names):
    graph = helper.make_graph([], "toy", [], [helper.make_tensor_value_info("first", TensorProto.FLOAT, ["n"])])
    model = helper.make_model(graph)
    extended = onnx.load_from_string(add_outputs(model.SerializeToString(), names))
    del extended.graph.output[1:]
    assert extended == model
    extended = onnx.load_from_string(add_outputs(model.SerializeToString(), names))
    assert [value.name for value in extended.graph.output] == ["first", *names]
    for value in extended.graph.output[1:]:
        assert value.type.tensor_type.elem_type == TensorProto.INT64
        assert not value.type.tensor_type.HasField("shape")


def test_a_graph_gives_values_inside_it_and_its_file_stays(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    path = bundle.folder / "fast.fp32.onnx"
    before = path.read_bytes()
    plain = open_graph(path, threads=1)
    graph = open_graph(path, threads=1, extra_outputs=("kept_positions.0",))
    ids = np.array([[2, 5, 6, 7, 3]])
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    outputs = graph.run(feed)
    assert outputs.pop("kept_positions.0").tolist() == [[0, 2, 4]]
    np.testing.assert_array_equal(outputs["last_hidden_state"], plain.run(feed)["last_hidden_state"])
    assert plain.metadata[KEPT_TOKENS] == KeptValues(cuts={0: "kept_positions.0", 1: kept_indices_name(1)}).encode()
    assert path.read_bytes() == before


def test_a_value_that_is_not_there_is_the_bundle_s_fault(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"must be a graph that onnxruntime .* can load"):
        open_graph(bundle.folder / "fast.fp32.onnx", extra_outputs=("nowhere",))
    with pytest.raises(BundleError, match="No such file"):
        open_graph(bundle.folder / "missing.onnx", extra_outputs=("nowhere",))
