"""Sessions: what they run on, when they open, and whose threads compute.

A shared pool would stay for the rest of the process: tests of it run in processes of their own.
"""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dynbert import session
from dynbert.cpu import usable_cores
from dynbert.errors import BundleError, InputError
from dynbert.session import GraphCache, open_graph, open_session, share_threads
from tests.helpers.bundles import make_bundle


def run_python(code, *arguments):
    """Run code in a process of its own, whose pool is not made yet."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def residual_graph(path):
    """Write ``LayerNormalization(x + y)``, which onnxruntime would fuse."""
    scale = numpy_helper.from_array(np.ones(8, np.float32), "scale")
    shift = numpy_helper.from_array(np.zeros(8, np.float32), "shift")
    nodes = [
        helper.make_node("Add", ["x", "y"], ["sum"]),
        helper.make_node("LayerNormalization", ["sum", "scale", "shift"], ["z"], axis=-1),
    ]
    dims = ["batch", "tokens", 8]
    value = helper.make_tensor_value_info
    inputs = [value(name, TensorProto.FLOAT, dims) for name in "xy"]
    graph = helper.make_graph(nodes, "residual", inputs, [value("z", TensorProto.FLOAT, dims)], [scale, shift])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def optimised_operators(folder):
    """Return the operators that onnxruntime really runs of that graph."""
    residual_graph(folder / "residual.onnx")
    open_session(folder / "residual.onnx", threads=1, optimized_model=folder / "optimised.onnx")
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


def test_open_session_keeps_add_and_layer_normalization_apart(tmp_path):
    assert optimised_operators(tmp_path) == ["Add", "LayerNormalization"]


def test_onnxruntime_would_fuse_them_when_the_optimizer_is_left_on(tmp_path, monkeypatch):
    # The canary of the test above: without the option its graph does change.
    monkeypatch.setattr(session, "_DISABLED_OPTIMIZERS", [])
    assert optimised_operators(tmp_path) == ["SkipLayerNormalization"]


def test_open_session_runs_on_the_cpu_only(embedding_bundle):
    opened = open_session(embedding_bundle.folder / "full.fp32.onnx")
    assert opened.get_providers() == ["CPUExecutionProvider"]


def test_open_session_has_its_own_sleeping_pool(embedding_bundle):
    for threads, expected in ((1, 1), (2, 2), (None, usable_cores())):
        options = open_session(embedding_bundle.folder / "full.fp32.onnx", threads=threads).get_session_options()
        assert options.use_per_session_threads
        assert options.intra_op_num_threads == expected
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("raw", [b"", b"not a graph", None])
def test_open_session_translates_the_failure_when_the_file_is_no_graph(tmp_path, raw):
    path = tmp_path / "full.fp32.onnx"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(BundleError, match=r"full.fp32.onnx must be a graph that onnxruntime [\d.]+ can load") as info:
        open_session(path)
    assert info.value.__cause__ is not None


def test_open_session_refuses_weights_outside_the_folder(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    model = onnx.load(bundle.folder / "full.fp32.onnx")
    table = next(item for item in model.graph.initializer if item.name == "table")
    (tmp_path / "outside.bin").write_bytes(table.raw_data)
    table.ClearField("raw_data")
    table.data_location = TensorProto.EXTERNAL
    table.external_data.add(key="location", value="../outside.bin")
    (bundle.folder / "full.fp32.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleError, match="must be a graph that onnxruntime"):
        open_session(bundle.folder / "full.fp32.onnx")


@pytest.mark.parametrize("threads", [0, -1, 1.0, "2", True])
def test_threads_are_refused_when_they_are_no_positive_number(embedding_bundle, threads):
    message = "threads must be a whole number of at least 1, or None, got"
    with pytest.raises(InputError, match=message):
        share_threads(threads)
    with pytest.raises(InputError, match=message):
        open_session(embedding_bundle.folder / "full.fp32.onnx", threads=threads)


def test_load_leaves_other_sessions_of_the_process_alone(embedding_bundle):
    # A shared pool by default would make onnxruntime refuse this plain session.
    code = """
import sys
from pathlib import Path
import dynbert
model = dynbert.load(sys.argv[1])
model.run({"input_ids": [[2, 5, 3]]})
import onnxruntime
onnxruntime.InferenceSession(Path(sys.argv[1]) / "full.fp32.onnx", providers=["CPUExecutionProvider"])
print("ok")
"""
    assert run_python(code, embedding_bundle.folder) == ["ok"]


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_sessions_start_no_threads_of_their_own_when_the_process_shares_a_pool(embedding_bundle):
    code = """
import os, sys
import dynbert, onnxruntime
tasks = lambda: len(os.listdir("/proc/self/task"))
before = tasks()
assert dynbert.share_threads(3) == 3
made = tasks()
model = dynbert.load(sys.argv[1])
for profile in model.profiles:
    model.run({"input_ids": [[2, 5, 3]]}, profile=profile)
print(len(model.profiles), made - before, tasks() - made, dynbert.share_threads())
"""
    sessions, made, later, size = map(int, run_python(code, embedding_bundle.folder))
    assert (sessions, later, size) == (2, 0, 3)
    assert made == 2  # the caller's thread computes too


def test_share_threads_takes_the_usable_cores_when_nothing_is_asked():
    code = "from dynbert import cpu, session; print(session.share_threads(), cpu.usable_cores())"
    threads, cores = run_python(code)
    assert threads == cores


def test_another_number_is_refused_when_the_process_shares_a_pool(embedding_bundle):
    code = """
import sys
from pathlib import Path
import dynbert
from dynbert.session import open_session
dynbert.share_threads(2)
dynbert.load(sys.argv[1], threads=2)
for use in (
    lambda: dynbert.share_threads(3),
    lambda: dynbert.load(sys.argv[1], threads=3),
    lambda: open_session(Path(sys.argv[1]) / "full.fp32.onnx", threads=3),
):
    try:
        use()
    except dynbert.InputError as err:
        print("refused" if "threads must be None or 2" in str(err) and "got 3" in str(err) else err)
"""
    assert run_python(code, embedding_bundle.folder) == ["refused"] * 3


def test_open_session_joins_the_pool_when_other_code_made_it(embedding_bundle):
    code = """
import sys
from pathlib import Path
import onnxruntime
onnxruntime.set_global_thread_pool_sizes(2, 1)
import dynbert
from dynbert.session import open_session
path = Path(sys.argv[1]) / "full.fp32.onnx"
print(open_session(path).get_session_options().use_per_session_threads)
for use in (lambda: open_session(path, threads=2), lambda: dynbert.share_threads(2)):
    try:
        use()
    except dynbert.InputError as err:
        print("refused" if "onnxruntime's shared pool, got" in str(err) else err)
"""
    assert run_python(code, embedding_bundle.folder) == ["False", "refused", "refused"]


def test_graph_is_fed_only_what_it_declares(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", inputs=("input_ids",), has_probe=False)
    graph = open_graph(bundle.folder / "full.fp32.onnx")
    assert graph.inputs == {"input_ids"}
    ids = np.array([[2, 5, 3]])
    outputs = graph.run({"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": ids})
    np.testing.assert_array_equal(
        outputs["last_hidden_state"], bundle.expected("full.fp32.onnx", ids)["last_hidden_state"]
    )


def test_graph_selects_what_it_declares(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", inputs=("input_ids",), has_probe=False)
    graph = open_graph(bundle.folder / "anytime.fp32.onnx")
    arrays = {name: np.ones(2) for name in ("input_ids", "length_config", "attention_mask")}
    assert list(graph.select(arrays)) == ["input_ids", "length_config"]


def test_open_graph_takes_any_inputs_of_a_graph_that_is_no_bundle_s(tmp_path):
    residual_graph(tmp_path / "trial.onnx")
    graph = open_graph(tmp_path / "trial.onnx", any_inputs=True)
    x = np.arange(8, dtype=np.float32).reshape(1, 1, 8)
    np.testing.assert_allclose(graph.run({"x": x, "y": x})["z"].std(), 1.0, rtol=1e-3)


@pytest.mark.parametrize("name", ["input_ids", "last_hidden_state"])
def test_open_graph_refuses_names_that_are_no_text(tmp_path, name):
    path = make_bundle(tmp_path / "bundle", has_probe=False).folder / "full.fp32.onnx"
    path.write_bytes(path.read_bytes().replace(name.encode(), name[:-1].encode() + b"\xff"))
    with pytest.raises(BundleError, match=r"full.fp32.onnx must have names in UTF-8, got: 'utf-8' codec can't decode"):
        open_graph(path)


def test_open_graph_refuses_inputs_that_nobody_can_feed(tmp_path):
    residual_graph(tmp_path / "full.fp32.onnx")
    with pytest.raises(BundleError, match=r"must have inputs among input_ids, .*, got x, y"):
        open_graph(tmp_path / "full.fp32.onnx")


def test_graph_run_translates_the_failure_when_onnxruntime_fails(embedding_bundle):
    graph = open_graph(embedding_bundle.folder / "full.fp32.onnx")
    ids = np.array([[10_000]])  # the table has no such row; check_inputs would have said so
    feed = {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids}
    with pytest.raises(BundleError, match=r"full.fp32.onnx must run on input_ids\[1, 1\].* Try dynbert verify") as info:
        graph.run(feed)
    assert info.value.__cause__ is not None


def test_cache_opens_each_graph_once_when_threads_race(embedding_bundle, monkeypatch):
    opened = []

    def slow_open(path, **options):
        opened.append(path.name)
        graph = open_graph(path, **options)
        assert threading.active_count() > 1
        return graph

    monkeypatch.setattr(session, "open_graph", slow_open)
    cache = GraphCache(embedding_bundle.folder)
    barrier = threading.Barrier(4)
    graphs = []

    def use():
        barrier.wait()
        graphs.append(cache.get("full.fp32.onnx"))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert opened == ["full.fp32.onnx"]
    assert len(graphs) == 4
    assert len({id(graph) for graph in graphs}) == 1


def test_cache_opens_a_graph_once_more_for_further_outputs(embedding_bundle):
    cache = GraphCache(embedding_bundle.folder, threads=1)
    plain, watched = cache.get("fast.fp32.onnx"), cache.get("fast.fp32.onnx", ("kept_positions.0",))
    assert (plain.outputs, watched.outputs) == (("last_hidden_state",), ("last_hidden_state", "kept_positions.0"))
    assert cache.get("fast.fp32.onnx") is plain
    assert cache.get("fast.fp32.onnx", ("kept_positions.0",)) is watched
