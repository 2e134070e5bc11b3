"""Verification finds what is wrong with a bundle, and all of it."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dynbert import verify
from dynbert.manifest import FULL, Embeddings, Precision, Target, Task
from dynbert.sweep import sweep_shapes
from dynbert.verify import verify_bundle
from tests.helpers.bundles import make_bundle, rewrite_manifest
from tests.helpers.damage import damage_changed, damage_missing, damage_truncated


def failures(checks):
    return {(check.file, check.name): " | ".join(check.failures) for check in checks if not check.is_passed}


def edit_graph(bundle, file, **arrays):
    """Replace initializers of a graph."""
    model = onnx.load(bundle.folder / file)
    for item in model.graph.initializer:
        if item.name in arrays:
            item.CopyFrom(numpy_helper.from_array(np.asarray(arrays[item.name], np.float32), item.name))
    onnx.save(model, bundle.folder / file)


@pytest.mark.parametrize("task", list(Task))
def test_verify_passes_and_checks_every_graph_when_the_bundle_is_sound(tmp_path, task):
    bundle = make_bundle(tmp_path / "bundle", task=task)
    checks = verify_bundle(bundle.folder)
    assert failures(checks) == {}
    made = {(check.file, check.name) for check in checks}
    assert {entry.file for entry in bundle.manifest.entries} <= {file for file, name in made if name == "contract"}
    for graph in bundle.manifest.graphs:
        assert {(graph.file, name) for name in ("opens", "runs", "probe")} <= made


def test_verify_runs_every_shape_of_the_sweep(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", profiles={FULL: None}, precisions=(Precision.FP32,))
    [check] = [check for check in verify_bundle(bundle.folder) if check.name == "runs"]
    assert check.note == f"{len(sweep_shapes(bundle.spec.max_length))} shapes" == "10 shapes"


def test_verify_lists_every_damaged_file(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    damage_changed(bundle.folder / "fast.int8.onnx")
    damage_missing(bundle.folder / "tokenizer.json")
    damage_truncated(bundle.folder / "probe.npz")
    checks = verify_bundle(bundle.folder)
    assert set(failures(checks)) == {
        ("fast.int8.onnx", "contract"),
        ("tokenizer.json", "contract"),
        ("probe.npz", "contract"),
    }
    assert {check.name for check in checks} == {"contract"}  # nothing unknown was opened


def test_verify_reports_a_manifest_that_cannot_be_read(tmp_path):
    [check] = verify_bundle(tmp_path)
    assert (check.file, check.name) == ("manifest.json", "contract")
    assert "must be a folder with a readable manifest.json" in check.failures[0]


def test_verify_finds_files_that_the_manifest_does_not_list(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    rewrite_manifest(bundle, files=())
    found = [failure for check in verify_bundle(bundle.folder) for failure in check.failures]
    assert found == [
        "probe.npz must be among the manifest's files, got no entry.",
        "tokenizer.json must be among the manifest's files, got no entry.",
    ]


def test_verify_finds_graphs_that_do_not_open_and_goes_on(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    for file in ("full.int8.onnx", "fast.fp32.onnx"):
        (bundle.folder / file).write_bytes(b"no graph")
    rewrite_manifest(bundle)
    checks = verify_bundle(bundle.folder)
    assert set(failures(checks)) == {("full.int8.onnx", "opens"), ("fast.fp32.onnx", "opens")}
    assert ("fast.int8.onnx", "probe") in {(check.file, check.name) for check in checks}


def test_verify_finds_a_tokenizer_that_cannot_be_read(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle.folder / "tokenizer.json").write_text("{}")
    rewrite_manifest(bundle)
    assert set(failures(verify_bundle(bundle.folder))) == {("tokenizer.json", "reads")}


def test_verify_finds_graphs_that_give_no_numbers(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", has_probe=False)
    table = bundle.table.copy()
    table[:] = np.inf
    edit_graph(bundle, "fast.fp32.onnx", table=table)
    rewrite_manifest(bundle)
    found = failures(verify_bundle(bundle.folder))
    assert set(found) == {("fast.fp32.onnx", "runs")}
    text = found["fast.fp32.onnx", "runs"]
    for tokens in (1, 2, 3, 7, 16):  # every shape is named, not only the first
        assert f"batch 1, {tokens} tokens: last_hidden_state must be finite, got {8 * tokens} values" in text


def test_verify_finds_outputs_of_another_shape_or_name(tmp_path):
    narrow = make_bundle(tmp_path / "narrow", has_probe=False)
    edit_graph(narrow, "full.int8.onnx", table=narrow.table[:, :4])
    rewrite_manifest(narrow)
    found = failures(verify_bundle(narrow.folder))
    assert "last_hidden_state must have the shape [1, 7, 8], got [1, 7, 4]" in found["full.int8.onnx", "runs"]
    other = make_bundle(tmp_path / "other", task=Task.QUESTION_ANSWERING)
    onnx_bytes = (other.folder / "full.int8.onnx").read_bytes()
    toy = make_bundle(tmp_path / "toy", has_probe=False)
    (toy.folder / "full.int8.onnx").write_bytes(onnx_bytes)
    rewrite_manifest(toy)
    found = failures(verify_bundle(toy.folder))
    assert "the outputs must have last_hidden_state, got start_logits, end_logits" in found["full.int8.onnx", "runs"]


def test_verify_finds_graphs_that_fail_at_run_time(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", has_probe=False)
    edit_graph(bundle, "full.fp32.onnx", table=bundle.table[:3])  # ids beyond the table
    rewrite_manifest(bundle)
    found = failures(verify_bundle(bundle.folder))
    assert set(found) == {("full.fp32.onnx", "runs")}
    assert "batch 4, 16 tokens: " in found["full.fp32.onnx", "runs"]


def test_verify_finds_a_graph_that_asks_for_lengths_under_a_profile_without(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", has_probe=False)
    anytime = (bundle.folder / "anytime.int8.onnx").read_bytes()
    (bundle.folder / "full.int8.onnx").write_bytes(anytime)
    rewrite_manifest(bundle)
    import dynbert

    with pytest.raises(dynbert.BundleError, match=r"full.int8.onnx must run on"):
        dynbert.load(bundle.folder).run({"input_ids": [[2, 5, 3]]})


@pytest.mark.parametrize(
    ("file", "scale", "message"),
    [
        ("fast.fp32.onnx", 1.5, "last_hidden_state must be as recorded, got differs by"),
        ("fast.int8.onnx", -1.0, "last_hidden_state must be as recorded, got has cosine -1.0000"),
        ("anytime.fp32.onnx", 0.0, "last_hidden_state must be as recorded, got differs by"),
    ],
)
def test_verify_finds_kernels_that_compute_something_else(tmp_path, file, scale, message):
    bundle = make_bundle(tmp_path / "bundle")
    edit_graph(bundle, file, scale=scale)
    rewrite_manifest(bundle)
    found = failures(verify_bundle(bundle.folder))
    assert set(found) == {(file, "probe")}
    assert message in found[file, "probe"]
    assert "saturate" not in found[file, "probe"]


def test_verify_tells_of_saturation_when_the_machine_has_no_vnni(tmp_path, monkeypatch):
    bundle = make_bundle(tmp_path / "bundle", target=Target.VNNI)
    edit_graph(bundle, "full.int8.onnx", scale=-1.0)
    rewrite_manifest(bundle)
    monkeypatch.setattr(verify, "int8_target", lambda: Target.AVX2)
    found = failures(verify_bundle(bundle.folder))
    assert "this CPU (avx2) sums pairs of INT8 products in 16 bits and may saturate" in found["full.int8.onnx", "probe"]


@pytest.mark.parametrize(("machine", "is_passed"), [(Target.AVX2, True), (Target.VNNI, False)])
def test_verify_forgives_saturation_when_the_machine_has_another_int8_graph(tmp_path, monkeypatch, machine, is_passed):
    bundle = make_bundle(tmp_path / "bundle", target=Target.VNNI, profiles={FULL: None})
    edit_graph(bundle, "full.int8.onnx", scale=-1.0)
    graphs = rewrite_manifest(bundle).manifest.graphs
    measured = {"parity": None, "agreement": graphs[0].agreement}
    second = msgspec.structs.replace(graphs[1], precision=Precision.INT8, target=Target.AVX2, **measured)
    rewrite_manifest(bundle, graphs=(graphs[0], second))
    monkeypatch.setattr(verify, "int8_target", lambda: machine)
    checks = verify_bundle(bundle.folder)
    [probe] = [check for check in checks if (check.file, check.name) == ("full.int8.onnx", "probe")]
    assert probe.is_passed is is_passed
    assert ("may saturate here; this CPU uses another" in probe.note) is is_passed


def test_verify_compares_valid_positions_only(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    with np.load(bundle.folder / "probe.npz") as archive:
        probe = dict(archive)
    padding = probe["input.attention_mask"] == 0
    assert padding.any()
    for name, array in probe.items():
        if name.endswith("last_hidden_state"):
            array[padding] = 99.0
    np.savez(bundle.folder / "probe.npz", **probe)
    rewrite_manifest(bundle)
    assert failures(verify_bundle(bundle.folder)) == {}


def rewrite_probe(bundle, edit):
    with np.load(bundle.folder / "probe.npz") as archive:
        probe = dict(archive)
    edit(probe)
    np.savez(bundle.folder / "probe.npz", **probe)
    rewrite_manifest(bundle)


def test_verify_finds_a_probe_that_lacks_arrays(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    rewrite_probe(
        bundle, lambda probe: (probe.pop("input.length_config"), probe.pop("fast.int8.onnx/last_hidden_state"))
    )
    found = failures(verify_bundle(bundle.folder))
    assert "The probe must have input.length_config" in found["anytime.fp32.onnx", "probe"]
    assert "The probe must have fast.int8.onnx/last_hidden_state" in found["fast.int8.onnx", "probe"]
    assert ("full.int8.onnx", "probe") not in found


def test_verify_finds_a_probe_of_another_shape_or_dtype(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    key = "full.fp32.onnx/last_hidden_state"
    rewrite_probe(bundle, lambda probe: probe.update({key: probe[key][:, :2]}))
    assert (
        "must have the probe's shape [2, 2, 8], got [2, 6, 8]"
        in failures(verify_bundle(bundle.folder))["full.fp32.onnx", "probe"]
    )
    rewrite_probe(bundle, lambda probe: probe.update({"input.input_ids": probe["input.input_ids"].astype(np.float32)}))
    assert "must run on" in failures(verify_bundle(bundle.folder))["full.int8.onnx", "probe"]


@pytest.mark.parametrize("kind", ["text", "npy", "pickle"])
def test_verify_refuses_a_probe_that_is_no_archive_of_plain_arrays(tmp_path, kind):
    bundle = make_bundle(tmp_path / "bundle")
    path = bundle.folder / "probe.npz"
    if kind == "text":
        path.write_text("text")
    elif kind == "npy":
        with path.open("wb") as stream:
            np.save(stream, np.ones(3))
    else:
        np.savez(path, **{"input.input_ids": np.array([{}], dtype=object)})
    rewrite_manifest(bundle)
    found = failures(verify_bundle(bundle.folder))
    assert set(found) == {("probe.npz", "reads")}
    assert "The probe must be a .npz archive" in found["probe.npz", "reads"]


def test_verify_says_so_when_there_is_no_probe(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", has_probe=False)
    checks = verify_bundle(bundle.folder)
    assert failures(checks) == {}
    assert [check.note for check in checks if check.name == "probe"] == ["the bundle has none"]


@pytest.mark.parametrize(
    ("output", "expected", "precision", "is_close"),
    [
        ([1.0, 2.0], [1.0, 2.0005], Precision.FP32, True),
        ([1.0, 2.0], [1.0, 2.01], Precision.FP32, False),
        ([np.nan, 2.0], [1.0, 2.0], Precision.FP32, False),
        ([1.0, 2.0], [1.1, 2.1], Precision.INT8, True),
        ([1.0, 2.0], [2.0, 1.0], Precision.INT8, False),
        ([0.0, 0.0], [0.0, 0.0], Precision.INT8, True),
        ([0.0, 0.0], [1.0, 0.0], Precision.INT8, False),
        ([np.nan, 1.0], [1.0, 1.0], Precision.INT8, False),
    ],
)
def test_compare_holds_each_precision_to_its_tolerance(output, expected, precision, is_close):
    assert verify._compare(np.array(output), np.array(expected), precision)[1] is is_close


def test_verify_compares_valid_positions_of_every_output_that_has_them():
    mask = np.array([[[1, 1, 0], [1, 0, 0]]])
    per_token, per_choice = np.arange(6.0).reshape(1, 2, 3), np.arange(2.0).reshape(1, 2)
    assert verify._valid("start_logits", per_token, mask).tolist() == [0, 1, 3]
    assert verify._valid("logits", per_choice, mask) is per_choice
    assert verify._valid("logits", np.zeros((1, 2, 3, 4)), mask).shape == (3, 4)


@pytest.mark.parametrize("task", list(Task))
def test_verify_finds_kernels_that_compute_something_else_for_every_task(tmp_path, task):
    bundle = make_bundle(tmp_path / "bundle", task=task)
    edit_graph(bundle, "full.fp32.onnx", scale=9.0)
    rewrite_manifest(bundle)
    assert set(failures(verify_bundle(bundle.folder))) == {("full.fp32.onnx", "probe")}


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task.TOKEN_CLASSIFICATION, "logits must have the shape [4, 7, 5], got [4, 7, 3]"),
        (Task.FILL_MASK, "logits must have the shape [4, 7, 35], got [4, 7, 3]"),
        (Task.NEXT_SENTENCE_PREDICTION, "logits must have the shape [4, 2], got [4, 3]"),
    ],
)
def test_verify_knows_the_shapes_of_a_task(tmp_path, task, message):
    bundle = make_bundle(tmp_path / "bundle", task=task, has_probe=False)
    edit_graph(bundle, "full.fp32.onnx", table=np.ones((35, 3)))
    rewrite_manifest(bundle)
    found = failures(verify_bundle(bundle.folder))
    assert message in found["full.fp32.onnx", "runs"]


def test_verify_holds_pooled_graphs_to_their_embeddings(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", embeddings=Embeddings.POOLED)
    assert failures(verify_bundle(bundle.folder)) == {}
    edit_graph(bundle, "full.fp32.onnx", scale=1.5)
    (bundle.folder / "fast.int8.onnx").write_bytes(
        (make_bundle(tmp_path / "other").folder / "fast.int8.onnx").read_bytes()
    )
    rewrite_manifest(bundle)
    found = failures(verify_bundle(bundle.folder))
    assert "sentence_embedding must be as recorded, got differs by" in found["full.fp32.onnx", "probe"]
    assert "the outputs must have sentence_embedding, got last_hidden_state" in found["fast.int8.onnx", "runs"]
