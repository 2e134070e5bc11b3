"""One weights file for many graphs: what is in it, who can read it, where it may lie."""

from __future__ import annotations

import shutil
from itertools import pairwise

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from dynbert.lengths import LengthConfig
from dynbert_export.graph.freeze import freeze, hide_kept_positions
from dynbert_export.graph.weights_file import save_beside_weights, save_sharing_weights
from tests.helpers.graphs import assert_informative, make_feed, parse_graph, run_graph_in_memory, serialize

_WEIGHTS = "weights.fp32.bin"


@pytest.fixture(scope="module")
def graphs(traced_embedder):
    lengths = {"full": None, "fast": LengthConfig((20, 10, 5)), "half": LengthConfig((0.5, 0.5, 0.5))}
    return {
        f"{name}.onnx": hide_kept_positions(freeze(traced_embedder.graph, config, traced_embedder.spec))
        for name, config in lengths.items()
    }


def _run(path, feed):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {item.name: feed[item.name] for item in session.get_inputs()})[0]


def _external(path):
    """Return (offset, length) of every tensor that a graph keeps elsewhere, by name."""
    model = onnx.load(path, load_external_data=False)
    places = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            assert entries["location"] == _WEIGHTS
            places[tensor.name] = (int(entries["offset"]), int(entries["length"]))
    return places


def test_graphs_compute_the_same_from_a_moved_folder(graphs, tmp_path):
    (tmp_path / "made").mkdir()
    paths = save_sharing_weights(graphs, tmp_path / "made", _WEIGHTS)
    assert [path.name for path in paths] == list(graphs)
    shutil.move(tmp_path / "made", tmp_path / "moved")
    feed = make_feed(3, 20)
    for name, model in graphs.items():
        [expected] = run_graph_in_memory(model, feed)
        got = _run(tmp_path / "moved" / name, feed)
        assert_informative(got)
        np.testing.assert_array_equal(got, expected["last_hidden_state"])


def test_graphs_load_in_onnx_from_a_moved_folder(graphs, tmp_path):
    (tmp_path / "made").mkdir()
    save_sharing_weights(graphs, tmp_path / "made", _WEIGHTS)
    shutil.move(tmp_path / "made", tmp_path / "moved")
    for name, model in graphs.items():
        onnx.checker.check_model(tmp_path / "moved" / name)
        loaded = {
            tensor.name: onnx.numpy_helper.to_array(tensor)
            for tensor in onnx.load(tmp_path / "moved" / name).graph.initializer
        }
        assert set(loaded) == set(model.graph.initializers)
        for tensor, array in loaded.items():
            np.testing.assert_array_equal(array, model.graph.initializers[tensor].const_value.numpy())


def test_file_holds_each_large_tensor_once(graphs, tmp_path):
    paths = save_sharing_weights(graphs, tmp_path, _WEIGHTS)
    places = set().union(*(_external(path).values() for path in paths))
    distinct = {
        value.const_value.tobytes()
        for model in graphs.values()
        for value in model.graph.initializers.values()
        if value.const_value.nbytes >= 1024
    }
    assert len(places) == len(distinct) > 10
    taken = sorted(places)
    for (offset, length), (following, _) in pairwise(taken):
        assert offset + length <= following
    assert (tmp_path / _WEIGHTS).stat().st_size == taken[-1][0] + taken[-1][1]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*graphs, _WEIGHTS])


def test_further_graphs_cost_no_further_weights(graphs, tmp_path):
    for count in (1, 3):
        (tmp_path / str(count)).mkdir()
        save_sharing_weights(dict(list(graphs.items())[:count]), tmp_path / str(count), _WEIGHTS)
    one, three = ((tmp_path / str(count) / _WEIGHTS).stat().st_size for count in (1, 3))
    assert one == three


def test_small_tensors_stay_in_the_graph(tmp_path):
    small, large = np.arange(255, dtype=np.float32), np.arange(256, dtype=np.float32)
    model = parse_graph(
        "(float[1] x) => (float[255] y, float[256] z) { y = Add (x, small) \n z = Add (x, large) }",
        small=small,
        large=large,
    )
    [path] = save_sharing_weights({"toy.onnx": model}, tmp_path, _WEIGHTS)
    assert list(_external(path)) == ["large"]
    assert (tmp_path / _WEIGHTS).stat().st_size == 1024


def test_equal_bytes_of_another_type_or_shape_are_another_tensor(tmp_path):
    numbers = np.arange(512, dtype=np.int64)
    constants = {"a": numbers, "b": numbers.view(np.float64), "c": numbers.reshape(2, 256), "d": numbers.copy()}
    nodes = "\n".join(f"{name}_out = Identity ({name})" for name in constants)
    model = parse_graph(
        f"(float[1] x) => (int64[512] a_out, double[512] b_out, int64[2,256] c_out, int64[512] d_out) {{ {nodes} }}",
        **constants,
    )
    [path] = save_sharing_weights({"toy.onnx": model}, tmp_path, _WEIGHTS)
    places = _external(path)
    assert (len(places), len(set(places.values())), places["a"]) == (4, 3, places["d"])
    for name, tensor in ir.load(path).graph.initializers.items():
        np.testing.assert_array_equal(tensor.const_value.numpy(), constants[name])


def test_offsets_can_be_mapped(graphs, tmp_path):
    [path, *_] = save_sharing_weights(graphs, tmp_path, _WEIGHTS)
    large = [offset for offset, length in _external(path).values() if length >= 1 << 20]
    assert all(offset % 4096 == 0 for offset in large)


def test_saving_leaves_the_graphs_as_they_were(graphs, tmp_path):
    before = [serialize(model) for model in graphs.values()]
    save_sharing_weights(graphs, tmp_path, _WEIGHTS)
    assert [serialize(model) for model in graphs.values()] == before


def test_saving_twice_gives_equal_files(graphs, tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        save_sharing_weights(graphs, tmp_path / name, _WEIGHTS)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_graph_is_added_to_weights_that_are_there(graphs, tmp_path):
    [full] = save_sharing_weights({"full.onnx": graphs["full.onnx"]}, tmp_path, _WEIGHTS)
    size = (tmp_path / _WEIGHTS).stat().st_size
    save_beside_weights(ir.load(full), tmp_path / "again.onnx", _WEIGHTS)
    assert {path.name for path in tmp_path.iterdir()} == {"full.onnx", "again.onnx", _WEIGHTS}
    assert (tmp_path / _WEIGHTS).stat().st_size == size
    assert _external(tmp_path / "again.onnx") == _external(full)
    with pytest.raises(ValueError, match=rf"must be in {_WEIGHTS}, got "):
        save_beside_weights(graphs["full.onnx"], tmp_path / "other.onnx", _WEIGHTS)
    assert not (tmp_path / "other.onnx").exists()
