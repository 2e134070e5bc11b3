"""A loaded bundle: the right graph with the right arrays, opened when needed, from any number of threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import dynbert
from dynbert import model as model_module
from dynbert import session
from dynbert.errors import BundleError, InputError, LengthConfigError, ProfileError
from dynbert.lengths import LengthConfig
from dynbert.manifest import FULL, Precision, Target, Task
from tests.helpers.bundles import make_bundle, rewrite_manifest
from tests.helpers.damage import (
    damage_changed,
    damage_linked,
    damage_missing,
    damage_truncated,
)

IDS = np.array([[2, 10, 11, 12, 13, 3], [2, 14, 3, 0, 0, 0]])
MASK = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
TYPES = np.array([[0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 0]])


@pytest.fixture(scope="module")
def model(embedding_bundle):
    return dynbert.load(embedding_bundle.folder)


def test_model_tells_its_facts(model, embedding_bundle):
    assert model.task is Task.FEATURE_EXTRACTION
    assert model.max_length == 16
    assert model.manifest == embedding_bundle.manifest
    assert repr(model) == "<DynamicBert toy/bert: feature-extraction, profiles full, fast>"


def test_profiles_tell_lengths_files_and_measurements(model, embedding_bundle):
    assert list(model.profiles) == ["full", "fast"]
    assert model.profiles["full"].length_config is None
    fast = model.profiles["fast"]
    assert fast.length_config == LengthConfig((0.5, 0.25))
    assert [graph.file for graph in fast.graphs] == ["fast.int8.onnx", "fast.fp32.onnx"]
    assert fast.graphs[0].bytes == (embedding_bundle.folder / "fast.int8.onnx").stat().st_size
    assert fast.graphs[0].latency[0].median_ms == 1.25
    assert {profile.layer_config for profile in model.profiles.values()} == {None}
    with pytest.raises(TypeError):
        model.profiles["mine"] = fast


def test_profiles_tell_the_layers_that_run(tmp_path):
    profiles = {FULL: None, "fast": (0.5, 0.25), "short": None}
    bundle = make_bundle(tmp_path / "toy", profiles=profiles, layers={"fast": (0,), "short": (1,)})
    model = dynbert.load(bundle.folder, precision="fp32")
    found = {name: (profile.length_config, profile.layer_config) for name, profile in model.profiles.items()}
    assert found == {FULL: (None, None), "fast": (LengthConfig((0.5, 0.25)), (0,)), "short": (None, (1,))}
    outputs = model.run({"input_ids": IDS}, profile="short")
    expected = bundle.expected("short.fp32.onnx", IDS)
    np.testing.assert_allclose(outputs["last_hidden_state"], expected["last_hidden_state"], rtol=1e-6)


@pytest.mark.parametrize("precision", [None, "int8", "fp32", Precision.FP32])
@pytest.mark.parametrize("profile", [None, "full", "fast"])
def test_run_uses_the_graph_that_was_asked_for(embedding_bundle, precision, profile):
    model = dynbert.load(embedding_bundle.folder, precision=precision)
    outputs = model.run({"input_ids": IDS, "attention_mask": MASK, "token_type_ids": TYPES}, profile=profile)
    name = "fp32" if precision in {"fp32", Precision.FP32} else "int8"
    expected = embedding_bundle.expected(f"{profile or 'full'}.{name}.onnx", IDS, types=TYPES)
    assert set(outputs) == {"last_hidden_state"}
    np.testing.assert_allclose(outputs["last_hidden_state"], expected["last_hidden_state"], rtol=1e-6)


def test_run_fills_in_mask_and_types(model):
    given = {"input_ids": IDS, "attention_mask": np.ones_like(IDS), "token_type_ids": np.zeros_like(IDS)}
    np.testing.assert_array_equal(
        model.run({"input_ids": IDS.astype(np.int16)})["last_hidden_state"], model.run(given)["last_hidden_state"]
    )


@pytest.mark.parametrize(
    ("length_config", "lengths"),
    [
        ((5, 4), (5, 4)),
        ((16, 4), (6, 4)),  # clipped to the input
        ("0.5,0.25", (3, 2)),
        ([1.0, 0.1], (6, 2)),  # CLS and one other stay
        (np.array([5, 4]), (5, 4)),
        (LengthConfig((5, 4)), (5, 4)),
    ],
)
def test_run_feeds_resolved_lengths_to_the_anytime_graph(model, embedding_bundle, length_config, lengths):
    outputs = model.run({"input_ids": IDS}, length_config=length_config)
    expected = embedding_bundle.expected("anytime.int8.onnx", IDS, lengths=lengths)
    np.testing.assert_allclose(outputs["last_hidden_state"], expected["last_hidden_state"], rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"profile": "slow"}, ProfileError, "profile must be one of full, fast, got 'slow'"),
        ({"profile": "anytime"}, ProfileError, "Pass length_config="),
        ({"length_config": (5,)}, LengthConfigError, "must have 2 entries, one a layer, got 1"),
        ({"length_config": (17, 4)}, LengthConfigError, "at most the maximum length of 16 tokens"),
        ({"length_config": (4, 5)}, LengthConfigError, "must not increase"),
        ({"profile": "fast", "length_config": (5, 4)}, InputError, "got both"),
    ],
)
def test_run_names_rule_and_value_when_there_is_no_such_graph(model, arguments, error, message):
    with pytest.raises(error, match=message):
        model.run({"input_ids": IDS}, **arguments)


def test_run_checks_the_arrays(model):
    with pytest.raises(InputError, match="input_ids must be between 0 and 34, got 99"):
        model.run({"input_ids": [[99]]})


def test_graphs_open_when_first_used_and_once(embedding_bundle, monkeypatch):
    opened = []
    open_graph = session.open_graph
    monkeypatch.setattr(
        session, "open_graph", lambda path, **options: opened.append(path.name) or open_graph(path, **options)
    )
    model = dynbert.load(embedding_bundle.folder)
    assert opened == []
    for _ in range(2):
        model.run({"input_ids": IDS}, profile="fast")
    assert opened == ["fast.int8.onnx"]
    model.encode("the book")
    assert opened == ["fast.int8.onnx", "full.int8.onnx"]


def test_model_answers_alike_when_threads_share_it(embedding_bundle):
    model = dynbert.load(embedding_bundle.folder, threads=1)
    texts = ["the book", "zoe was in paris", "the old tower of paris, running", "bad film"]
    work = [(text, profile) for text in texts for profile in ("full", "fast")]
    expected = {item: dynbert.load(embedding_bundle.folder).encode(item[0], profile=item[1]) for item in work}
    barrier = threading.Barrier(4)
    results: list[tuple[tuple[str, str], np.ndarray]] = []

    def use(order):
        barrier.wait()
        results.extend([(item, model.encode(item[0], profile=item[1])) for item in order])

    threads = [threading.Thread(target=use, args=(work[shift:] + work[:shift],)) for shift in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 32
    for item, embedding in results:
        np.testing.assert_array_equal(embedding, expected[item])


@pytest.mark.parametrize("damage", [damage_missing, damage_linked, damage_truncated, damage_changed])
@pytest.mark.parametrize("file", ["fast.int8.onnx", "tokenizer.json", "probe.npz"])
def test_load_names_the_file_when_it_is_damaged(tmp_path, damage, file):
    bundle = make_bundle(tmp_path / "bundle")
    damage(bundle.folder / file)
    with pytest.raises(BundleError, match=file):
        dynbert.load(bundle.folder)


def test_load_skips_reading_all_bytes_only_when_told_to(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    damage_changed(bundle.folder / "fast.int8.onnx")
    model = dynbert.load(bundle.folder, checksums=False)
    assert model.profiles
    damage_truncated(bundle.folder / "fast.int8.onnx")
    with pytest.raises(BundleError, match="bytes, got"):
        dynbert.load(bundle.folder, checksums=False)


@pytest.mark.parametrize("path", ["absent", "file"])
def test_load_names_the_path_when_there_is_no_bundle(tmp_path, path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(BundleError, match=f"must be a folder with a readable manifest.json, got .*{path}"):
        dynbert.load(str(tmp_path / path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int4"}, "precision must be one of int8, fp32, got 'int4'"),
        ({"threads": 0}, "threads must be a whole number of at least 1, or None, got 0"),
    ],
)
def test_load_names_rule_and_value_when_an_argument_is_wrong(embedding_bundle, arguments, message):
    with pytest.raises(InputError, match=message):
        dynbert.load(embedding_bundle.folder, **arguments)


def test_run_names_precisions_when_the_bundle_lacks_the_stated_one(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", precisions=(Precision.FP32,), has_probe=False)
    assert dynbert.load(bundle.folder).run({"input_ids": IDS})
    with pytest.raises(ProfileError, match="precision must be one of fp32 for profile 'full', got int8"):
        dynbert.load(bundle.folder, precision="int8").run({"input_ids": IDS})


def test_text_needs_a_tokenizer_and_arrays_do_not(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", has_probe=False)
    (bundle.folder / "tokenizer.json").unlink()
    bundle = rewrite_manifest(bundle)
    model = dynbert.load(bundle.folder)
    assert model.run({"input_ids": IDS})
    with pytest.raises(BundleError, match=r"must have a tokenizer.json to read text, got none"):
        model.encode("the book")


def test_text_is_never_read_with_a_tokenizer_that_the_manifest_does_not_list(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    rewrite_manifest(bundle, files=(), probe=None)
    with pytest.raises(BundleError, match=r"must have a tokenizer.json to read text, got none"):
        dynbert.load(bundle.folder).encode("the book")


def test_graph_is_refused_when_its_bytes_are_no_graph(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    (bundle.folder / "fast.int8.onnx").write_bytes(b"no graph")
    rewrite_manifest(bundle)
    model = dynbert.load(bundle.folder)
    assert model.run({"input_ids": IDS})
    with pytest.raises(BundleError, match=r"fast.int8.onnx must be a graph that onnxruntime"):
        model.run({"input_ids": IDS}, profile="fast")


def test_fp32_is_chosen_when_this_machine_would_saturate(tmp_path, monkeypatch):
    bundle = make_bundle(tmp_path / "bundle", target=Target.VNNI)
    monkeypatch.setattr(model_module, "int8_target", lambda: Target.AVX2)
    with pytest.warns(RuntimeWarning, match="INT8 graphs are for vnni; this CPU, with avx2, runs fp32 instead"):
        outputs = dynbert.load(bundle.folder).run({"input_ids": IDS})
    expected = bundle.expected("full.fp32.onnx", IDS)
    np.testing.assert_allclose(outputs["last_hidden_state"], expected["last_hidden_state"], rtol=1e-6)


def test_fp32_is_chosen_when_this_machine_has_no_int8_instructions(tmp_path, monkeypatch):
    bundle = make_bundle(tmp_path / "bundle")
    monkeypatch.setattr(model_module, "int8_target", lambda: None)
    model = dynbert.load(bundle.folder)
    with pytest.warns(RuntimeWarning, match="this CPU, without INT8 instructions, runs fp32 instead"):
        outputs = model.run({"input_ids": IDS})
    expected = bundle.expected("full.fp32.onnx", IDS)
    np.testing.assert_allclose(outputs["last_hidden_state"], expected["last_hidden_state"], rtol=1e-6)
    asked = dynbert.load(bundle.folder, precision="fp32").run({"input_ids": IDS})  # a warning would be an error here
    np.testing.assert_array_equal(asked["last_hidden_state"], outputs["last_hidden_state"])


@pytest.mark.parametrize(
    "use",
    [
        lambda model: model.run({"input_ids": IDS}),
        lambda model: model("the book"),
        lambda model: model(["the book", "paris"], length_config=(0.5, 0.5)),
        lambda model: model.encode("the book"),
        lambda model: model.encode(["the book", "paris"], profile="fast"),
    ],
    ids=["run", "text", "texts", "encode a text", "encode texts"],
)
def test_warning_blames_the_line_that_calls_the_model(tmp_path, monkeypatch, use):
    bundle = make_bundle(tmp_path / "bundle")
    monkeypatch.setattr(model_module, "int8_target", lambda: None)
    with pytest.warns(RuntimeWarning, match="without INT8 instructions, runs fp32 instead") as caught:
        use(dynbert.load(bundle.folder))
    [warning] = caught
    assert (warning.filename, warning.lineno) == (__file__, use.__code__.co_firstlineno)


def test_warning_comes_back_when_it_was_raised_as_an_error(tmp_path, monkeypatch):
    bundle = make_bundle(tmp_path / "bundle")
    monkeypatch.setattr(model_module, "int8_target", lambda: None)
    model = dynbert.load(bundle.folder)
    for _ in range(2):
        with pytest.raises(RuntimeWarning, match="runs fp32 instead"):  # warnings are errors in these tests
            model.encode("the book")


def test_call_resolves_its_request_once_for_all_batches(embedding_bundle, monkeypatch):
    asked = []
    make_request = model_module.make_request
    monkeypatch.setattr(
        model_module, "make_request", lambda *items, **options: asked.append(options) or make_request(*items, **options)
    )
    model = dynbert.load(embedding_bundle.folder)
    model.encode(["the book", "paris", "zoe was in the tower"], batch_size=1, profile="fast")
    assert asked == [{"profile": "fast", "length_config": None}]


def test_wrong_input_opens_no_graph(embedding_bundle, monkeypatch):
    monkeypatch.setattr(session, "open_graph", lambda *_, **__: pytest.fail("a graph was opened"))
    with pytest.raises(InputError, match="input_ids must be between 0 and 34, got 99"):
        dynbert.load(embedding_bundle.folder).run({"input_ids": [[99]]})


def test_model_warns_once_when_it_must_run_a_graph_that_may_saturate(tmp_path, monkeypatch):
    bundle = make_bundle(tmp_path / "bundle", target=Target.VNNI, profiles={FULL: None})
    monkeypatch.setattr(model_module, "int8_target", lambda: None)
    model = dynbert.load(bundle.folder, precision="int8")
    with pytest.warns(
        RuntimeWarning, match="full.int8.onnx was made for vnni; this CPU, without INT8 instructions, may"
    ):
        model.run({"input_ids": IDS})
    model.run({"input_ids": IDS})  # a warning would be an error here


@pytest.mark.parametrize("lengths", [(0.5, 0.25), (3, 2), None])
def test_encode_gives_a_text_the_same_embedding_in_a_list_whatever_the_length_config(
    embedding_bundle, fed_shapes, lengths
):
    # The toy graphs drop nothing: what is seen is that no row of another length runs along under fractions.
    model = dynbert.load(embedding_bundle.folder)
    texts = ["the book", "paris", "zoe wrote the book", "the film", "good"]
    together = model.encode(texts, length_config=lengths)
    apart = [((1, 6), False), ((2, 4), False), ((2, 3), False)]
    expected = apart if lengths == (0.5, 0.25) else [((5, 6), True)]
    assert fed_shapes == expected
    alone = np.stack([model.encode(text, length_config=lengths) for text in texts])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-6)
