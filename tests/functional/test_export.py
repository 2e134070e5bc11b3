"""``dynbert-export`` from a checkpoint to a bundle that the runtime, onnxruntime and optimum run."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest

import dynbert
from dynbert.inputs import arrange_rows
from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, FULL, Embeddings, Precision, Target, Task, read_manifest
from tests.helpers.checkpoints import edit_json, make_checkpoint
from tests.helpers.commands import BUNDLE_OPTIONS, invoke_dynbert, run_export, start_export
from tests.helpers.graphs import assert_informative, make_feed
from tests.helpers.tasks import EVERY_TASK

_TEXTS = ["the old city was great", "a good story about the bridge and the river at night", "water"]
_PROFILES = (FULL, "fast", "half", ANYTIME)


def _copy_of_the_graphs_and_weights(bundle):
    return {path.name: path.read_bytes() for path in sorted(bundle.iterdir()) if path.suffix in {".onnx", ".bin"}}


def _make_feed(task, batch, tokens):
    return arrange_rows(make_feed(batch, tokens), task)


def _int8_weights(path):
    graph = onnx.load(path).graph
    names = {node.input[1] for node in graph.node if node.op_type == "MatMulIntegerToFloat"}
    return [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name in names]


@pytest.mark.parametrize("task", EVERY_TASK)
def test_bundle_has_every_file_and_no_other(bundles, task):
    graphs = {f"{profile}.{precision}.onnx" for profile in _PROFILES for precision in ("int8", "fp32")}
    weights = {"weights.int8.bin", "weights.fp32.bin"}
    tokenizer = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    others = {"manifest.json", "config.json", "probe.npz", "README.md"}
    found = {path.relative_to(bundles[task]).as_posix() for path in bundles[task].rglob("*")}
    assert found == graphs | weights | tokenizer | others
    assert not any(path.is_symlink() for path in bundles[task].rglob("*"))


def test_bundle_of_token_states_has_the_files_of_sentence_transformers_too(bundles, token_states_bundle):
    added = {"modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"}
    added |= {"1_Pooling", "1_Pooling/config.json"}
    pooled, states = (
        {path.relative_to(bundle).as_posix() for path in bundle.rglob("*")}
        for bundle in (bundles[Task.FEATURE_EXTRACTION], token_states_bundle)
    )
    assert (states - pooled, pooled - states) == (added, set())


@pytest.mark.parametrize("task", EVERY_TASK)
def test_manifest_says_what_was_found(bundles, task):
    manifest = read_manifest(bundles[task])
    assert (manifest.model.task, manifest.model.max_length, manifest.model.num_layers) == (task, 64, 3)
    lengths = {profile.name: profile.length_config for profile in manifest.profiles}
    assert lengths == {FULL: None, "fast": (20, 10, 5), "half": (0.5, 0.3, 0.2), ANYTIME: None}
    for graph in manifest.graphs:
        assert graph.target == (Target.AVX2 if graph.precision is Precision.INT8 else None)
        assert [latency.tokens for latency in graph.latency] == [16, 32, 64]
        assert (graph.quality is None) == (graph.profile == ANYTIME)
        if graph.precision is Precision.FP32:
            assert graph.parity.near_ties == 0
            assert 0 < graph.parity.max_abs_difference < 1e-4
        else:
            assert graph.agreement.max_abs_difference > 1e-3
            assert 0.9 < graph.agreement.value <= 1.001
    assert manifest.model.embeddings == (Embeddings.POOLED if task is Task.FEATURE_EXTRACTION else None)
    full = next(g for g in manifest.graphs if g.profile == FULL and g.precision is Precision.FP32)
    assert full.quality.value == pytest.approx(1)


@pytest.mark.parametrize("task", EVERY_TASK)
def test_dynbert_verify_passes(bundles, task):
    result = invoke_dynbert("verify", bundles[task], "--threads", "1")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_runtime_answers_questions(bundles, precision):
    model = dynbert.load(bundles[Task.QUESTION_ANSWERING], threads=1, precision=precision)
    context = "the old city was great and the bridge at the river was new."
    for choice in ({"profile": "full"}, {"profile": "fast"}, {"profile": "half"}, {"length_config": (30, 20, 8)}):
        answer = model(question="what was old?", context=context, **choice)
        assert answer.text == context[answer.start : answer.end]
        assert 0 <= answer.score <= 1


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_runtime_classifies(bundles, precision):
    model = dynbert.load(bundles[Task.TEXT_CLASSIFICATION], threads=1, precision=precision)
    for choice in ({"profile": "full"}, {"profile": "fast"}, {"profile": "half"}, {"length_config": (30, 20, 8)}):
        for result in model(_TEXTS, **choice):
            assert result.label in {"negative", "neutral", "positive"}


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_runtime_embeds(bundles, precision):
    model = dynbert.load(bundles[Task.FEATURE_EXTRACTION], threads=1, precision=precision)
    for choice in ({"profile": "full"}, {"profile": "fast"}, {"profile": "half"}, {"length_config": (30, 20, 8)}):
        embeddings = model.encode(_TEXTS, **choice)
        assert embeddings.shape == (3, 32)
        assert_informative(embeddings)


@pytest.mark.parametrize("task", EVERY_TASK)
def test_fp32_full_equals_transformers(bundles_for_optimum, checkpoints, task):
    import torch
    import transformers

    architecture = json.loads((checkpoints[task] / "config.json").read_text())["architectures"][0]
    model = getattr(transformers, architecture).from_pretrained(checkpoints[task]).eval()
    bundle = dynbert.load(bundles_for_optimum[task], threads=1, precision="fp32")
    for batch, tokens in ((1, 1), (1, 64), (4, 20)):
        feed = _make_feed(task, batch, tokens)
        mask = feed["attention_mask"]
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(array) for name, array in feed.items()})
        for name, array in bundle.run(feed).items():
            wanted = expected[name].numpy()
            assert_informative(wanted)
            valid = mask == 1 if wanted.shape[: mask.ndim] == mask.shape else slice(None)
            np.testing.assert_allclose(array[valid], wanted[valid], rtol=0, atol=1e-4)


@pytest.mark.parametrize("task", EVERY_TASK)
def test_graphs_run_in_plain_onnxruntime(bundles, task):
    feed = _make_feed(task, 3, 20)
    for precision in ("int8", "fp32"):
        model = dynbert.load(bundles[task], threads=1, precision=precision)
        for profile in (FULL, "fast", "half"):
            path = bundles[task] / f"{profile}.{precision}.onnx"
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            names = [item.name for item in session.get_outputs()]
            outputs = session.run(None, {item.name: feed[item.name] for item in session.get_inputs()})
            expected = model.run(feed, profile=profile)
            assert set(names) == set(expected)
            for name, array in zip(names, outputs, strict=True):
                assert_informative(array)
                np.testing.assert_allclose(array, expected[name], rtol=0, atol=1e-5)


_OPTIMUM = {
    Task.FEATURE_EXTRACTION: "ORTModelForFeatureExtraction",
    Task.QUESTION_ANSWERING: "ORTModelForQuestionAnswering",
    Task.TEXT_CLASSIFICATION: "ORTModelForSequenceClassification",
    Task.TOKEN_CLASSIFICATION: "ORTModelForTokenClassification",
    Task.FILL_MASK: "ORTModelForMaskedLM",
    Task.MULTIPLE_CHOICE: "ORTModelForMultipleChoice",
}
"""It has none for the other two heads of pretraining."""


@pytest.mark.parametrize("file", ["full.fp32.onnx", "fast.int8.onnx", "half.fp32.onnx"])
@pytest.mark.parametrize("task", [each for each in EVERY_TASK if each.values[0] in _OPTIMUM])
def test_graphs_load_in_optimum(bundles_for_optimum, task, file):
    import torch
    from optimum import onnxruntime as optimum_ort

    model = getattr(optimum_ort, _OPTIMUM[task]).from_pretrained(bundles_for_optimum[task], file_name=file)
    feed = _make_feed(task, 3, 20)
    outputs = model(**{name: torch.from_numpy(array) for name, array in feed.items()})
    profile, precision, _ = file.split(".")
    expected = dynbert.load(bundles_for_optimum[task], threads=1, precision=precision).run(feed, profile=profile)
    for name, array in expected.items():
        assert_informative(array)
        np.testing.assert_allclose(outputs[name].numpy(), array, rtol=0, atol=1e-5)


@pytest.mark.parametrize("task", EVERY_TASK)
def test_profiles_of_one_bundle_answer_differently(bundles, task):
    model = dynbert.load(bundles[task], threads=1, precision="fp32")
    feed = _make_feed(task, 3, 40)
    name = next(iter(model.run(feed)))
    runs = [model.run(feed, profile=profile)[name] for profile in (FULL, "fast", "half")]
    runs.append(model.run(feed, length_config=(30, 4, 2))[name])
    for index, run in enumerate(runs):
        assert all(np.abs(run - other).max() > 1e-3 for other in runs[:index])


@pytest.mark.parametrize("task", EVERY_TASK)
def test_anytime_graph_equals_the_profile_of_the_same_lengths(bundles, task):
    model = dynbert.load(bundles[task], threads=1, precision="fp32")
    feed = _make_feed(task, 3, 40)
    for profile, lengths in (("fast", (20, 10, 5)), ("half", (0.5, 0.3, 0.2))):
        frozen, anytime = model.run(feed, profile=profile), model.run(feed, length_config=lengths)
        for name, array in frozen.items():
            np.testing.assert_allclose(anytime[name], array, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_two_exports_with_one_seed_give_equal_graphs(bundles, checkpoints, tmp_path):
    task = Task.TEXT_CLASSIFICATION
    run_export("--model", checkpoints[task], "-o", tmp_path / "again", *BUNDLE_OPTIONS, "--seed", "0")
    first, second = (_copy_of_the_graphs_and_weights(path) for path in (bundles[task], tmp_path / "again"))
    assert set(first) == set(second)
    assert [name for name, content in first.items() if content != second[name]] == []


def test_dynamic_quantisation_needs_no_ranges(checkpoints, tmp_path):
    arguments = ("--length-config", "fast=20,10,5", "--quantize", "dynamic", "--target", "avx2", "--precision", "both")
    run_export("--model", checkpoints[Task.QUESTION_ANSWERING], "-o", tmp_path / "out", *arguments)
    operators = {node.op_type for node in onnx.load(tmp_path / "out" / "fast.int8.onnx").graph.node}
    assert {"DynamicQuantizeLinear", "MatMulIntegerToFloat"} <= operators
    assert invoke_dynbert("verify", tmp_path / "out").exit_code == 0
    feed = make_feed(3, 20)
    int8, fp32 = (dynbert.load(tmp_path / "out", threads=1, precision=p).run(feed) for p in ("int8", "fp32"))
    differences = [np.abs(array - fp32[name]).max() for name, array in int8.items()]
    assert all(1e-4 < difference < 0.5 for difference in differences)


def test_fp32_graphs_only_when_not_quantised(checkpoints, tmp_path):
    result = run_export("--model", checkpoints[Task.FEATURE_EXTRACTION], "-o", tmp_path / "out", "--quantize", "none")
    graphs = {path.name for path in (tmp_path / "out").glob("*.onnx")}
    assert graphs == {"full.fp32.onnx", "anytime.fp32.onnx"}
    assert "quantise" not in result.stderr
    assert not (tmp_path / "out" / "weights.int8.bin").exists()


def test_int8_graphs_only_by_default(checkpoints, tmp_path):
    run_export("--model", checkpoints[Task.FEATURE_EXTRACTION], "-o", tmp_path / "out", "--target", "vnni")
    assert {path.name for path in (tmp_path / "out").glob("*.onnx")} == {"full.int8.onnx", "anytime.int8.onnx"}
    assert not (tmp_path / "out" / "weights.fp32.bin").exists()
    assert {graph.target for graph in read_manifest(tmp_path / "out").graphs} == {Target.VNNI}
    assert max(np.abs(w.astype(int)).max() for w in _int8_weights(tmp_path / "out" / "full.int8.onnx")) == 127


@pytest.mark.parametrize("task", EVERY_TASK)
def test_weights_have_seven_bits_when_the_target_is_avx2(bundles, task):
    weights = _int8_weights(bundles[task] / "fast.int8.onnx")
    assert len(weights) == 18
    assert {int(np.abs(weight.astype(int)).max()) for weight in weights} == {64}


@pytest.fixture(scope="module")
def two_targets(checkpoints, tmp_path_factory):
    output = tmp_path_factory.mktemp("targets") / "out"
    options = ("--precision", "both", "--target", "vnni", "--target", "avx2", "--length-config", "fast=20,10,5")
    run_export("--model", checkpoints[Task.TEXT_CLASSIFICATION], "-o", output, *options)
    return output


def test_bundle_of_two_targets_has_a_set_for_each_and_everything_else_once(two_targets):
    graphs = {f"{p}.{label}.onnx" for p in (FULL, "fast", ANYTIME) for label in ("int8", "int8-avx2", "fp32")}
    weights = {"weights.int8.bin", "weights.int8-avx2.bin", "weights.fp32.bin"}
    others = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    others |= {"config.json", "probe.npz", "README.md", "manifest.json"}
    assert {path.name for path in two_targets.iterdir()} == graphs | weights | others
    for label, largest in (("int8", 127), ("int8-avx2", 64)):
        path = two_targets / f"fast.{label}.onnx"
        assert {int(np.abs(weight.astype(int)).max()) for weight in _int8_weights(path)} == {largest}
        stored = onnx.load(path, load_external_data=False).graph.initializer
        assert {tensor.external_data[0].value for tensor in stored if tensor.external_data} == {f"weights.{label}.bin"}


_MACHINES = [
    (Target.VNNI, "int8", None),
    (Target.AMX, "int8", None),
    (Target.ARM64, "int8", None),
    (Target.AVX2, "int8-avx2", None),
    (None, "fp32", "without INT8 instructions, runs fp32 instead"),
]


@pytest.mark.parametrize(("machine", "label", "warning"), _MACHINES)
def test_runtime_takes_the_graphs_of_its_cpu(two_targets, monkeypatch, machine, label, warning):
    for module in ("model", "reports", "verify"):
        monkeypatch.setattr(f"dynbert.{module}.int8_target", lambda: machine)
    feed, model = make_feed(3, 40), dynbert.load(two_targets, threads=1)
    with pytest.warns(RuntimeWarning, match=warning) if warning else contextlib.nullcontext():
        answers = model.run(feed, profile="fast")
    session = onnxruntime.InferenceSession(two_targets / f"fast.{label}.onnx", providers=["CPUExecutionProvider"])
    [logits] = session.run(None, {item.name: feed[item.name] for item in session.get_inputs()})
    assert_informative(logits)
    np.testing.assert_allclose(answers["logits"], logits, rtol=0, atol=1e-5)
    others = {"int8", "int8-avx2", "fp32"} - {label}
    for other in others:  # the sets do differ, so that the comparison above can fail
        other_session = onnxruntime.InferenceSession(two_targets / f"fast.{other}.onnx")
        [found] = other_session.run(None, {item.name: feed[item.name] for item in other_session.get_inputs()})
        assert np.abs(found - logits).max() > 1e-4
    name = "fp32" if machine is None else "avx2" if machine is Target.AVX2 else "vnni"
    info = invoke_dynbert("info", two_targets).output
    assert [line.split(maxsplit=2)[2] for line in info.splitlines() if line.startswith("would use")] == [
        f"{name} graphs"
    ]
    assert invoke_dynbert("verify", two_targets, "--threads", "1").exit_code == 0


def test_recipe_gives_options_and_the_command_line_wins(checkpoints, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(_TEXTS * 3), encoding="utf-8")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {checkpoints[Task.TEXT_CLASSIFICATION]}\n"
        "output: from-recipe\nprofiles: {fast: [20, 10, 5]}\nquantize: none\ncalibration: texts.txt\nmax_length: 40\n",
        encoding="utf-8",
    )
    result = run_export("--recipe", recipe, "-o", tmp_path / "out", "--max-length", "32")
    manifest = read_manifest(tmp_path / "out")
    assert manifest.model.max_length == 32
    assert [profile.name for profile in manifest.profiles] == [FULL, "fast", ANYTIME]
    assert not (tmp_path / "from-recipe").exists()
    assert "Warning" not in result.stderr  # the texts are the caller's own
    assert {graph.quality.data.split(",")[0] for graph in manifest.graphs if graph.quality} == {"texts.txt"}


def _spy_on_lengths(monkeypatch):
    """Return a list that gets, for every config that is resolved, whether CLS was counted as kept."""
    counted, resolve = [], LengthConfig.resolve

    def spy(config, tokens, *, always_keep_cls_token):
        counted.append(always_keep_cls_token)
        return resolve(config, tokens, always_keep_cls_token=always_keep_cls_token)

    monkeypatch.setattr(LengthConfig, "resolve", spy)
    return counted


def test_cls_may_be_dropped_when_the_recipe_says_so(checkpoints, tmp_path, monkeypatch):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("always_keep_cls_token: false\nprofiles: {tiny: [0.1, 0.05, 0.01]}\n")
    model = checkpoints[Task.QUESTION_ANSWERING]
    counted = _spy_on_lengths(monkeypatch)
    run_export("--recipe", recipe, "--model", model, "-o", tmp_path / "out", "--precision", "both", "--target", "avx2")
    assert read_manifest(tmp_path / "out").model.always_keep_cls_token is False
    assert invoke_dynbert("verify", tmp_path / "out").exit_code == 0
    assert set(counted) == {False}  # no gate, and no table, is about lengths that nobody's call has
    bundle, feed = dynbert.load(tmp_path / "out", threads=1, precision="fp32"), make_feed(3, 20)
    frozen, anytime = bundle.run(feed, profile="tiny"), bundle.run(feed, length_config=(0.1, 0.05, 0.01))
    for name, array in frozen.items():
        np.testing.assert_allclose(anytime[name], array, rtol=0, atol=1e-5)
    with np.load(tmp_path / "out" / "probe.npz") as probe:  # 32 tokens; a CLS that stays would make it 4, 2, 2
        assert probe["input.length_config"].tolist() == [4, 2, 1]


@pytest.mark.slow
def test_another_opset_works(checkpoints, tmp_path):
    opset = 20
    model = checkpoints[Task.TEXT_CLASSIFICATION]
    options = ("--opset", opset, "--length-config", "20,10,5", "--quantize", "dynamic")
    run_export("--model", model, "-o", tmp_path / "out", *options)
    versions = {entry.domain: entry.version for entry in onnx.load(tmp_path / "out" / "custom.int8.onnx").opset_import}
    assert versions[""] == opset
    assert invoke_dynbert("verify", tmp_path / "out").exit_code == 0


def test_overwrite_replaces_the_whole_bundle(checkpoints, tmp_path):
    arguments = ("-o", tmp_path / "out", "--quantize", "none")
    run_export("--model", checkpoints[Task.QUESTION_ANSWERING], *arguments, "--length-config", "old=20,10,5")
    run_export("--model", checkpoints[Task.TEXT_CLASSIFICATION], *arguments, "--overwrite")
    manifest = read_manifest(tmp_path / "out")
    assert manifest.model.task is Task.TEXT_CLASSIFICATION
    assert not (tmp_path / "out" / "old.fp32.onnx").exists()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {e.file for e in manifest.entries} | {
        "manifest.json"
    }
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_six_profiles_take_hardly_more_room_than_one(tmp_path):
    model = make_checkpoint(tmp_path / "model", vocab_size=30_000, hidden_size=64, num_hidden_layers=2)
    sizes = []
    for count in (1, 6):
        configs = [f"--length-config=p{index}={50 - 5 * index},{20 - index}" for index in range(count)]
        run_export("--model", model, "-o", tmp_path / str(count), "--quantize", "none", *configs)
        sizes.append(sum(path.stat().st_size for path in (tmp_path / str(count)).iterdir()))
    assert len(list((tmp_path / "6").glob("*.onnx"))) == len(list((tmp_path / "1").glob("*.onnx"))) + 5
    assert sizes[0] < sizes[1] < 1.1 * sizes[0]


def test_bundle_works_from_another_place(bundles, tmp_path):
    import shutil

    moved = shutil.copytree(bundles[Task.FEATURE_EXTRACTION], tmp_path / "moved")
    expected = dynbert.load(bundles[Task.FEATURE_EXTRACTION], threads=1).encode(_TEXTS, profile="fast")
    np.testing.assert_array_equal(dynbert.load(moved, threads=1).encode(_TEXTS, profile="fast"), expected)


def test_export_recovers_from_a_missed_gate_and_says_so(checkpoints, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("gates: {int8_min_cosine: 0.9995, max_fp32_share: 1}\nprofiles: {fast: [20, 10, 5]}")
    model, out = checkpoints[Task.FEATURE_EXTRACTION], tmp_path / "out"
    result = run_export("--recipe", recipe, "--model", model, "-o", out, "--target", "avx2", "--precision", "both")
    manifest = read_manifest(out)
    for graph in manifest.graphs:
        measured = graph.parity.selection_agreement if graph.parity else graph.agreement.value
        assert measured >= 0.9995
        assert bool(graph.fp32_products) == (graph.precision is Precision.INT8)
    names = next(graph.fp32_products for graph in manifest.graphs if graph.fp32_products)
    assert 0 < len(names) < 18
    said = " ".join(result.output.split())
    assert "put products back to fp32" in said
    assert (
        f"These stay fp32, because with them in INT8 the answers differ more than the gate allows: {names[0]}" in said
    )
    operators = [node.op_type for node in onnx.load(out / "full.int8.onnx", load_external_data=False).graph.node]
    assert operators.count("MatMulIntegerToFloat") == 18 - len(names)
    assert invoke_dynbert("verify", out, "--threads", "1").exit_code == 0


@pytest.mark.slow
def test_model_without_token_types_exports(tmp_path):
    """Such a checkpoint has one type, and the input all the same."""
    model = make_checkpoint(tmp_path / "model", type_vocab_size=1)
    options = ("--length-config", "fast=20,10,5", "--quantize", "dynamic", "--target", "avx2")
    run_export("--model", model, "-o", tmp_path / "out", *options)
    assert_informative(dynbert.load(tmp_path / "out", threads=1).encode(_TEXTS, profile="fast"))


@pytest.mark.parametrize(
    "problem_type", ["multi_label_classification", pytest.param("regression", marks=pytest.mark.slow)]
)
def test_every_kind_of_classifier_exports(tmp_path, problem_type):
    labels = ("score",) if problem_type == "regression" else ("good", "bad", "ugly")
    model = make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION, labels=labels)
    edit_json(model / "config.json", problem_type=problem_type)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "gates: {int8_min_label_agreement: 0.5}", encoding="utf-8"
    )  # random weights are all but undecided
    options = ("--quantize", "dynamic", "--target", "avx2")
    run_export("--recipe", recipe, "--model", model, "-o", tmp_path / "out", *options)
    manifest = read_manifest(tmp_path / "out")
    assert manifest.model.problem_type == problem_type
    metric = "closeness" if problem_type == "regression" else "label_agreement"
    assert {graph.quality.metric for graph in manifest.graphs if graph.quality} == {metric}
    assert {graph.agreement.metric for graph in manifest.graphs} == {metric}
    assert len(dynbert.load(tmp_path / "out", threads=1)(_TEXTS)) == 3


@pytest.mark.slow
def test_command_prints_nothing_of_other_packages(checkpoints, tmp_path):
    """In a process of its own, where no test runner holds back what a package prints or warns of."""
    process = start_export("--model", checkpoints[Task.TEXT_CLASSIFICATION], "-o", tmp_path / "out", "--quiet")
    assert (process.communicate(timeout=120), process.returncode) == (("", ""), 0)
    assert (tmp_path / "out" / "manifest.json").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
