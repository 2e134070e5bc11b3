"""``dynbert-export`` that cannot succeed: a clear message, an exit code, and nothing left behind."""

from __future__ import annotations

import json
import resource
import shutil
import signal
import time
import traceback

import pytest

from dynbert.manifest import Task
from tests.helpers.checkpoints import edit_json
from tests.helpers.commands import invoke_export, run_export, start_export


@pytest.fixture
def model(checkpoints, tmp_path_factory):
    """A checkpoint of the test's own."""
    return shutil.copytree(checkpoints[Task.FEATURE_EXTRACTION], tmp_path_factory.mktemp("model") / "model")


def _assert_refused(result, exit_code, *messages):
    assert result.exit_code == exit_code, (result.output, result.exception)
    assert isinstance(result.exception, SystemExit)
    text = " ".join(result.output.split())
    for message in messages:
        assert message in text
    assert "Traceback" not in result.output
    assert result.stdout == ""


def _no_folder(model):
    shutil.rmtree(model)


def _no_weights(model):
    (model / "model.safetensors").unlink()


def _truncated_weights(model):
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _no_bert(model):
    edit_json(model / "config.json", model_type="gpt2")


def _other_sizes(model):
    edit_json(model / "config.json", hidden_size=36)


def _no_config(model):
    (model / "config.json").unlink()


def _config_is_no_json(model):
    (model / "config.json").write_text("{", encoding="utf-8")


def _no_tokenizer(model):
    for name in ("tokenizer.json", "vocab.txt"):
        (model / name).unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_no_folder, "Model folder must exist"),
        (_no_weights, "must have weights, model.safetensors or pytorch_model.bin, got neither"),
        (_truncated_weights, "Weights must be readable, got a broken file"),
        (_no_bert, "Model must be a BERT, got model_type 'gpt2'"),
        (_other_sizes, "Weights must fit config.json"),
        (_no_config, "must have a readable config.json"),
        (_config_is_no_json, "must be JSON"),
        (_no_tokenizer, "must have a tokenizer, tokenizer.json or vocab.txt"),
    ],
)
def test_broken_checkpoint_is_refused(model, tmp_path, damage, message):
    damage(model)
    _assert_refused(invoke_export("--model", model, "-o", tmp_path / "out"), 1, message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("configs", "messages"),
    [
        (["fast=20,10"], ["Profile fast: A length config must have 3 entries, one a layer, got 2: 20,10"]),
        (["fast=20,10,5,5"], ["must have 3 entries, one a layer, got 4"]),
        (["fast=20,30,5"], ["must not increase from layer to layer, got 30 after 20"]),
        (["fast=20,10,0"], ["must be at least 1 token, got 0"]),
        (["fast=20,10,-5"], ["must be at least 1 token, got -5"]),
        (["fast=20,ten,5"], ["must be a number, got 'ten'"]),
        (["fast=__import__('os'),10,5"], ["must be a number"]),
        (["fast="], ["must be a number, got ''"]),
        (["fast=1.5,0.5,0.2"], ["a fraction in (0, 1], got 1.5"]),
        (["fast=20,0.5,5"], ["all token counts (ints) or all fractions (floats)"]),
        (["fast=65,10,5"], ["Profile fast: Lengths must be at most the maximum length of 64 tokens, got 65"]),
        (["fast=20,10,5", "fast=9,8,7"], ["names must differ", "'fast'"]),
        (["fast=20,10,5", "FAST=9,8,7"], ["names must differ, and not only in case"]),
        (["../fast=20,10,5"], ["must be plain file names", "'../fast'"]),
        (["a b=20,10,5"], ["must be plain file names"]),
        (["full=20,10,5"], ["must not be full or anytime"]),
        (["a=20,10", "b=3,4,5", "c=65,10,5"], ["got 4 after 3"]),
        (["a=20,10", "c=65,10,5"], ["Profile a: ", "Profile c: "]),  # all at once
    ],
)
def test_wrong_length_config_is_refused(model, tmp_path, configs, messages):
    arguments = [f"--length-config={config}" for config in configs]
    result = invoke_export("--model", model, "-o", tmp_path / "out", *arguments)
    _assert_refused(result, 2, *messages)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--task", "translation"], 2, "'translation' is not one of"),
        (["--task", "question-answering"], 1, "Architecture for question-answering must be BertForQuestionAnswering"),
        (["--max-length", "65"], 2, "max_length must be at least 3 and at most 64"),
        (["--max-length", "2"], 2, "max_length must be at least 3, got 2"),
        (["--threads", "0"], 2, "threads must be at least 1, got 0"),
        (["--seed", "x"], 2, "'x' is not a valid integer"),
        (["--calibration-samples", "0"], 2, "calibration_samples must be at least 1, got 0"),
        (["--precision", "both", "--quantize", "none"], 2, "precision must be fp32 where quantize is none"),
        (["--revision", "main"], 2, "A revision must go with a hub id"),
        (["--no-such-option"], 2, "No such option"),
    ],
)
def test_wrong_option_is_refused(model, tmp_path, monkeypatch, arguments, exit_code, message):
    from click.testing import CliRunner

    from dynbert_export.cli import main

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["--model", str(model), "-o", "out", *arguments])
    _assert_refused(result, exit_code, message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "modle: x\nprofile: {}\ngates: {cosine: 1}\nseed: 1",
            ["modle (did you mean model?)", "profile ", "gates.cosine"],
        ),
        ("seed: many\nmax_length: 1.5", ["2 faults", "seed must be a whole number, got 'many'", "max_length must be"]),
        ("!!python/object/apply:os.system ['touch owned']", ["must be plain YAML", "asks for an object"]),
        ("seed: !!python/object/apply:os.system ['touch owned']", ["must be plain YAML", "asks for an object"]),
        ("- a\n- b", ["must be a mapping of options, got a list"]),
        ("a: [", ["must be plain YAML"]),
        ("", ["must be a mapping of options, got nothing"]),
        ("quantize: twice", ["quantize must be one of static, dynamic"]),
        ("profiles: {fast: [20, 10]}", ["must have 3 entries"]),
    ],
)
def test_wrong_recipe_is_refused(model, tmp_path, monkeypatch, text, messages):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    result = invoke_export("--recipe", "recipe.yaml", "--model", model, "-o", "out")
    _assert_refused(result, 2, *messages)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize("recipe", ["missing.yaml", "."])
def test_unreadable_recipe_is_refused(model, tmp_path, monkeypatch, recipe):
    monkeypatch.chdir(tmp_path)
    result = invoke_export("--recipe", recipe, "--model", model, "-o", "out")
    _assert_refused(result, 2, f"must be a readable YAML file, got {recipe}")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "empty.txt"),
        ("blank.txt", b"\n \n\n", "blank.txt"),
        ("binary.txt", b"\xff\xfe\x00\x80", "binary.txt"),
        ("broken.json", b"{", "broken.json"),
        ("table.xlsx", b"PK", "table.xlsx"),
        ("missing.txt", None, "missing.txt"),
        ("invisible.txt", "\u200b\n".encode(), "Samples must have tokens, got none from the tokenizer."),
    ],
)
def test_unusable_calibration_file_is_refused(model, tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = list(tmp_path.iterdir())
    result = invoke_export("--model", model, "-o", "out", "--calibration", name)
    _assert_refused(result, 1, message, "must")
    assert list(tmp_path.iterdir()) == before


def _foreign_folder(path):
    path.mkdir()
    (path / "thesis.tex").write_text("years of work")


def _bundle(path):
    path.mkdir()
    (path / "manifest.json").write_text("{}")


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda path: path.write_text("x"), ["--overwrite"], "must be a folder that does not exist yet"),
        (_foreign_folder, ["--overwrite"], "a folder with other files"),
        (_bundle, [], "Pass --overwrite to replace it"),
    ],
)
def test_existing_output_is_refused_at_once(model, tmp_path, make, arguments, message):
    make(tmp_path / "out")
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    result = invoke_export("--model", model, "-o", tmp_path / "out", *arguments)
    _assert_refused(result, 2, message)
    assert "check" not in result.output.split()  # not after minutes of work
    assert {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("gates", "messages"),
    [
        ("fp32_max_abs_difference: 1.0e-12", ["full.fp32.onnx must differ from PyTorch by at most 1e-12, got "]),
        pytest.param(
            "int8_min_cosine: 1.0",
            [
                *("must agree with fp32 by at least 1 (cosine", "full.int8.onnx ", "fast.int8.onnx "),
                *("even with 9 of 18 products in fp32, bert.encoder.layer.", "first (max_fp32_share 0.5)."),
            ],
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("int8_min_cosine: 1.0, max_fp32_share: 1", ["even with 17 of 18 products in fp32, "]),
            marks=pytest.mark.slow,
        ),
        ("int8_min_cosine: 1.0, max_fp32_share: 0", ["got full.int8.onnx 0.9", "(max_fp32_share 0). Calibrate on"]),
    ],
)
def test_missed_gate_leaves_no_bundle(model, tmp_path, gates, messages):
    (tmp_path / "recipe.yaml").write_text(f"gates: {{{gates}}}\nprofiles: {{fast: [20, 10, 5]}}", encoding="utf-8")
    result = invoke_export("--recipe", tmp_path / "recipe.yaml", "--model", model, "-o", tmp_path / "a" / "out")
    _assert_refused(result, 1, *messages)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_error_keeps_its_traceback_when_debugging(model, tmp_path):
    """The exception leaves the command, so that Python prints it as it prints any other."""
    (model / "model.safetensors").unlink()
    result = invoke_export("--model", model, "-o", tmp_path / "out", "--debug")
    assert result.exit_code == 1
    assert "CheckpointError: A checkpoint must have weights" in "".join(traceback.format_exception(result.exception))
    assert list(tmp_path.iterdir()) == []


def test_nothing_but_the_error_is_printed_when_quiet(model, tmp_path):
    (model / "model.safetensors").unlink()
    result = invoke_export("--model", model, "-o", tmp_path / "out", "--quiet")
    _assert_refused(result, 1)
    assert result.stderr.startswith("Error: A checkpoint must have weights")
    assert result.stderr.count("\n") == 1


@pytest.fixture
def small_files_only():
    """Let no file grow beyond 60 kB: writing more fails as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_leaves_nothing_behind(model, tmp_path, request):
    request.getfixturevalue("small_files_only")  # only now: the model itself is larger
    result = invoke_export("--model", model, "-o", tmp_path / "a" / "out", "--quantize", "none")
    _assert_refused(result, 1, "must be writable, got: not enough room (", "Nothing was written there.")
    assert list(tmp_path.iterdir()) == []


def _read_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_full_disk_keeps_the_old_bundle(model, tmp_path, request):
    run_export("--model", model, "-o", tmp_path / "out", "--quantize", "none")
    before = _read_files(tmp_path / "out")
    request.getfixturevalue("small_files_only")
    result = invoke_export("--model", model, "-o", tmp_path / "out", "--quantize", "none", "--overwrite")
    _assert_refused(result, 1, "must be writable")
    assert _read_files(tmp_path / "out") == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_signal_half_way_leaves_nothing_behind(checkpoints, tmp_path, number):
    output = tmp_path / "a" / "out"
    process = start_export("--model", checkpoints[Task.QUESTION_ANSWERING], "-o", output)
    try:
        end = time.monotonic() + 100
        while not list(tmp_path.glob("a/.out.*.partial/work/*.onnx")):  # the fp32 graphs, which INT8 is judged by
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(number)
        _, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "Aborted!" in stderr
    assert "Traceback" not in stderr
    assert list(tmp_path.iterdir()) == []


def test_interrupted_bundle_is_no_bundle(model, tmp_path, monkeypatch):
    """The manifest is written last, so that even a killed process leaves nothing that passes for a bundle."""
    from dynbert_export import pipeline

    seen = []

    def look(bundle, _manifest):
        seen.append(sorted(path.name for path in bundle.iterdir()))
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "write_manifest", look)
    result = invoke_export("--model", model, "-o", tmp_path / "out", "--quantize", "none")
    assert result.exit_code == 1
    [names] = seen
    assert "manifest.json" not in names
    assert {"full.fp32.onnx", "weights.fp32.bin", "tokenizer.json", "README.md"} <= set(names)
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_is_never_changed(checkpoints, tmp_path):
    folder = checkpoints[Task.TEXT_CLASSIFICATION]
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()}
    assert json.loads(before["config.json"][0])["model_type"] == "bert"
    run_export("--model", folder, "-o", tmp_path / "out", "--quantize", "dynamic")
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.iterdir()} == before
