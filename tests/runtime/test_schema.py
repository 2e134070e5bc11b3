"""The manifest's records: the rules that they hold by themselves."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert.manifest import (
    Agreement,
    Embeddings,
    FileEntry,
    Parity,
    Precision,
    Task,
    is_file_name,
    is_file_path,
)
from tests.helpers.bundles import make_bundle

NAMES = [
    ("full.int8.onnx", True),
    ("a", True),
    ("", False),
    (".hidden", False),
    ("..", False),
    ("folder\\file", False),
    ("C:file", False),
    ("new\nline", False),
    ("trailing\n", False),
    ("nul\0", False),
    ("a" * 128, True),
    ("a" * 129, False),
]
PATHS = [
    ("1_Pooling/config.json", True),
    ("a/b/c", False),
    ("/etc/passwd", False),
    ("../weights.bin", False),
    ("a/..", False),
    ("a/.hidden", False),
    (".git/config", False),
    ("a/", False),
    ("/a", False),
    ("a//b", False),
    ("./a", False),
]


@pytest.mark.parametrize(("name", "is_valid"), [*NAMES, *((path, False) for path, _ in PATHS)])
def test_is_file_name_accepts_plain_names_only(name, is_valid):
    assert is_file_name(name) is is_valid


@pytest.mark.parametrize(("path", "is_valid"), [*NAMES, *PATHS])
def test_is_file_path_accepts_a_plain_name_in_a_plain_folder_too(path, is_valid):
    assert is_file_path(path) is is_valid


_PIECES = st.sampled_from(["a", "B", "config.json", ".", "..", "/", "\\", "~", "", "\0", "C:", " ", "-", "_", "é"])


@given(st.one_of(st.text(max_size=20), st.lists(_PIECES, max_size=8).map("".join)))
def test_no_path_leaves_the_bundle(tmp_path_factory, path):
    bundle = tmp_path_factory.getbasetemp() / "bundle"
    if is_file_path(path):
        inside = (bundle / path).resolve().relative_to(bundle.resolve()).parts
        assert 1 <= len(inside) <= 2
        assert "/".join(inside) == path
        assert not any(part.startswith(".") for part in inside)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("toy")).manifest


def _with_files(manifest, *names):
    files = tuple(FileEntry(file=name, sha256="0" * 64, bytes=1) for name in names)
    return msgspec.structs.replace(manifest, files=files)


def test_files_may_lie_in_a_folder_of_the_bundle(manifest):
    changed = _with_files(manifest, "tokenizer.json", "1_Pooling/config.json", "1_Pooling/more.json", "2_Dense/a")
    assert [entry.file for entry in changed.entries][-1] == "2_Dense/a"


@pytest.mark.parametrize(
    ("names", "clash"),
    [
        (("a.json", "A.json"), "'a.json' and 'A.json'"),
        (("a.json", "a.json"), "'a.json' and 'a.json'"),
        (("FULL.int8.onnx",), "'full.int8.onnx' and 'FULL.int8.onnx'"),
        (("manifest.json",), "'manifest.json' and 'manifest.json'"),
        (("Manifest.json",), "'manifest.json' and 'Manifest.json'"),
        (("1_Pooling/a", "1_pooling/b"), "'1_Pooling' and '1_pooling'"),
        (("1_Pooling/a", "1_Pooling/A"), "'1_Pooling/a' and '1_Pooling/A'"),
        (("1_Pooling", "1_pooling/a"), "'1_pooling' and '1_Pooling'"),
        (("manifest.json/a",), "'manifest.json' and 'manifest.json'"),
    ],
)
def test_files_that_differ_only_in_case_are_refused(manifest, names, clash):
    with pytest.raises(ValueError, match=f"^files must differ in name, and not only in case, got {clash}$"):
        _with_files(manifest, *names)


@pytest.mark.parametrize("name", ["graphs/full.onnx", "../full.onnx", ".full.onnx"])
def test_graphs_and_the_probe_lie_directly_in_the_bundle(manifest, name):
    message = f"^file must be a plain name inside the bundle, got '{name}'$"
    graphs = (msgspec.structs.replace(manifest.graphs[0], file=name), *manifest.graphs[1:])
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(manifest, graphs=graphs)
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(manifest, probe=msgspec.structs.replace(manifest.probe, file=name))


PARITY = Parity(inputs=1, near_ties=0, max_abs_difference=0.0, selection_agreement=1.0)
AGREEMENT = Agreement(inputs=1, max_abs_difference=0.0, metric="cosine", value=1.0)


@pytest.mark.parametrize(
    ("precision", "parity", "agreement", "message"),
    [
        (Precision.FP32, None, None, "an fp32 graph must have parity alone, got neither"),
        (Precision.FP32, None, AGREEMENT, "an fp32 graph must have parity alone, got agreement"),
        (Precision.FP32, PARITY, AGREEMENT, "an fp32 graph must have parity alone, got parity and agreement"),
        (Precision.INT8, None, None, "an int8 graph must have agreement alone, got neither"),
        (Precision.INT8, PARITY, None, "an int8 graph must have agreement alone, got parity"),
        (Precision.INT8, PARITY, AGREEMENT, "an int8 graph must have agreement alone, got parity and agreement"),
    ],
)
def test_a_graph_has_what_its_precision_is_measured_by(manifest, precision, parity, agreement, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        msgspec.structs.replace(manifest.graphs[0], precision=precision, parity=parity, agreement=agreement)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"embeddings": None}, "embeddings must be given for feature-extraction, got none"),
        ({"task": Task.FILL_MASK}, "embeddings must be left out for fill-mask, got token-states"),
        (
            {"embeddings": Embeddings.POOLED, "pooling": None},
            "pooling must be given where embeddings is pooled, got none",
        ),
    ],
)
def test_a_bundle_of_embeddings_says_what_its_graphs_give_and_no_other_does(manifest, changes, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        msgspec.structs.replace(manifest.model, **changes)


@pytest.mark.parametrize("layers", [(), (1, 0), (0, 0), (0, 99)])
def test_a_layer_config_names_layers_that_there_are_each_once_and_in_order(manifest, layers):
    profiles = (msgspec.structs.replace(manifest.profiles[0], layer_config=layers), *manifest.profiles[1:])
    last = manifest.model.num_layers - 1
    with pytest.raises(ValueError, match=rf"^layer_config must be layer indices from 0 to {last} in ascending order"):
        msgspec.structs.replace(manifest, profiles=profiles)


def test_a_profile_may_run_some_layers_only(manifest):
    profiles = (msgspec.structs.replace(manifest.profiles[0], layer_config=(0,)), *manifest.profiles[1:])
    assert msgspec.structs.replace(manifest, profiles=profiles).profiles[0].layer_config == (0,)
