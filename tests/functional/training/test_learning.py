"""``dynbert-train`` as a whole: every task learns to bear dropped tokens, and what it writes can be exported."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file

import dynbert
import dynbert_export
from dynbert.manifest import Task
from dynbert_export.checkpoint.load import load_checkpoint
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.commands import run_export
from tests.helpers.training import (
    WRITERS,
    invoke_train,
    make_encoder,
    read_log,
    run_train,
    write_lines,
    write_pairs,
    write_plain,
    write_texts,
)

_ENDINGS = {Task.QUESTION_ANSWERING: "json"}


@pytest.mark.parametrize("task", list(WRITERS))
def test_every_task_learns_to_bear_dropped_tokens(task, encoder, tmp_path):
    data = WRITERS[task](tmp_path / f"data.{_ENDINGS.get(task, 'jsonl')}", rows=120)
    model = encoder
    if (
        task is Task.FEATURE_EXTRACTION
    ):  # the teacher of embeddings is what they were: only large weights mean something
        model = make_checkpoint(tmp_path / "embedder", sentence_transformers=True)
        options = {"learning_rate": 1e-3, "epochs": 8, "ratio_bound": 0.6}
    else:
        options = {"learning_rate": 3e-3, "epochs": 5, "ratio_bound": 0.3}
    options |= {"random_models": 1, "batch_size": 8, "eval_share": 0.2, "threads": 1}
    result = dynbert_export.train(model=model, data=data, output=tmp_path / "out", task=task.value, **options)
    log = read_log(tmp_path / "out")
    losses = [entry["loss"] for entry in log if "loss" in entry]
    third = len(losses) // 3
    assert sum(losses[-third:]) < 0.7 * sum(losses[:third])
    assert set(result.scores) == set(result.before) == {"full", "smallest"}
    gain = 0.02 if task is Task.FEATURE_EXTRACTION else 0.3
    assert result.scores["smallest"] > result.before["smallest"] + gain
    if task is not Task.FEATURE_EXTRACTION:
        assert result.scores["full"] > result.before["full"] + gain
    checkpoint = load_checkpoint(str(tmp_path / "out"))
    assert checkpoint.task is task
    assert checkpoint.training.data == data.name
    assert checkpoint.training.lengths.lengths[0] == pytest.approx(1 - options["ratio_bound"])


def test_a_trained_checkpoint_is_exported_and_answers(uninterrupted, tmp_path):
    bundle = tmp_path / "bundle"
    profiles = ("--length-config", "half=0.8,0.64", "--length-config", "little=0.5,0.1", "--length-config", "few=60,5")
    result = run_export("--model", uninterrupted, "-o", bundle, "--quantize", "none", *profiles)
    told = " ".join(result.stderr.split())  # as wide as the terminal
    notes = [note.partition(" Note: ")[0] for note in told.split("Note: ") if note.startswith("The profile")]
    remedy = (
        "of the input there, and no less. Measure its quality, or train with a higher --ratio-bound or lower "
        "--least-lengths."
    )
    assert len(notes) == 2
    first = f"The profile little keeps 0.5 after layer 1; the checkpoint was trained to bear 0.8 {remedy}"
    assert notes[0].startswith(first)
    assert notes[1].startswith(
        f"The profile few keeps 5 after layer 2; the checkpoint was trained to bear 0.64 {remedy}"
    )
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    assert config["length_training"]["lengths"] == [0.8, 0.64]
    model = dynbert.load(bundle)
    for profile in ("full", "half"):
        assert model("the food was great", profile=profile).label in {"bad", "good"}


def test_the_card_s_own_command_drops_no_more_than_was_trained(uninterrupted, tmp_path):
    card = (uninterrupted / "README.md").read_text(encoding="utf-8")
    [command] = [line for line in card.splitlines() if line.startswith("dynbert-export ")]
    lengths = command.split()[4]
    result = run_export(
        "--model", uninterrupted, "-o", tmp_path / "b", "--quantize", "none", "--length-config", lengths
    )
    assert "The profile" not in result.stderr
    assert "| full |" in card
    assert "| smallest |" in card
    assert "it bears a layer dropping up to 20% of the tokens" in card.replace("\n", " ")


def test_a_recipe_trains(encoder, texts, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    options = {
        "model": str(encoder),
        "data": str(texts),
        "task": "text-classification",
        "output": "out",
        "max_steps": 2,
        "threads": 1,
        "profiles": {"half": [0.5, 0.25]},
        "trainer": {"max_grad_norm": 0.5, "lr_scheduler_kwargs": {"num_cycles": 1}},
        "scheduler": "cosine_with_restarts",
    }
    recipe.write_text(yaml.safe_dump(options), encoding="utf-8")
    result = run_train("--recipe", recipe, "--batch-size", "8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "recipe.yaml"]
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["full", "half"]
    again = invoke_train("--recipe", recipe, "--overwrite")
    assert again.exit_code == 0
    options["trainer"] = {"learning_rate": 1.0}
    recipe.write_text(yaml.safe_dump(options), encoding="utf-8")
    result = invoke_train("--recipe", recipe, "--overwrite")
    assert result.exit_code == 2
    assert "trainer must not set learning_rate, got 1.0. dynbert-train sets it itself." in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "recipe.yaml"]


@pytest.mark.parametrize(
    ("labels", "config", "problem_type"),
    [
        ((0.1, 0.9), {"num_labels": 1}, "ranking"),
        pytest.param(
            *((-1.5, 2.5), {"num_labels": 1, "problem_type": "regression"}, "regression"), marks=pytest.mark.slow
        ),
        ((["a"], ["b", "c"]), None, "multi_label_classification"),
        ((-0.5, 0.5), None, "regression"),
    ],
)
def test_other_problems_of_texts_are_learned(encoder, tmp_path, labels, config, problem_type):
    model = encoder
    if config is not None:
        model = make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION, labels=("LABEL_0",), **config)
    data = write_texts(tmp_path / "data.jsonl", rows=120, labels=labels)
    result = dynbert_export.train(
        model=model,
        data=data,
        output=tmp_path / "out",
        task="text-classification",
        epochs=5,
        batch_size=8,
        learning_rate=3e-3,
        ratio_bound=0.3,
        random_models=1,
        eval_share=0.2,
        threads=1,
    )
    losses = [entry["loss"] for entry in read_log(tmp_path / "out") if "loss" in entry]
    assert losses[-1] < losses[0]
    assert result.metric == ("micro_f1" if "multi" in problem_type else "spearman")
    assert result.scores["smallest"] > 0.5
    checkpoint = load_checkpoint(str(tmp_path / "out"))
    assert checkpoint.problem_type == problem_type
    assert json.loads((tmp_path / "out" / "config.json").read_text())["length_training"]["metric"] == result.metric


def test_a_teacher_teaches(uninterrupted, encoder, texts, tmp_path):
    options = ("--model", encoder, "--data", texts, "--task", "text-classification", "--max-steps", "2")
    alone, taught = tmp_path / "alone", tmp_path / "taught"
    run_train(*options, "-o", alone)
    run_train(*options, "-o", taught, "--teacher", uninterrupted)
    assert read_log(alone)[0]["loss"] != read_log(taught)[0]["loss"]
    other = make_checkpoint(tmp_path / "other", Task.TEXT_CLASSIFICATION)
    result = invoke_train(*options, "-o", tmp_path / "out", "--teacher", other)
    assert result.exit_code == 2
    assert "Teacher must have the same labels as what it teaches, ('bad', 'good'), got ('negative'" in result.stderr
    result = invoke_train(*options, "-o", tmp_path / "out", "--teacher", encoder)
    assert "Teacher must be trained for text-classification, got" in result.stderr
    assert not list(tmp_path.glob("out*"))


def test_layers_are_left_out(tmp_path):
    """The smaller model is taught by the whole checkpoint, and has its layers."""
    model = make_checkpoint(tmp_path / "model", sentence_transformers=True)
    data = write_plain(tmp_path / "data.txt.jsonl", rows=60)
    options = ("--model", model, "--data", data, "--layer", "0", "--layer", "2", "--learning-rate", "1e-6")
    run_train(*options, "-o", tmp_path / "out", "--max-steps", "1")
    assert load_checkpoint(str(tmp_path / "out")).config.num_hidden_layers == 2
    weights, before = (load_file(tmp_path / name / "model.safetensors") for name in ("out", "model"))
    for name, weight in weights.items():
        original = before[name.replace("layer.1.", "layer.2.")]
        torch.testing.assert_close(weight, original, rtol=0, atol=1e-4)
    log = read_log(tmp_path / "out")
    assert log[-1]["final_full_cosine"] < 0.999  # of the whole model's embeddings


def test_pairs_are_found_by_their_embeddings(tmp_path):
    model = make_encoder(tmp_path / "model", sentence_transformers=True)
    data = write_pairs(tmp_path / "pairs.jsonl")
    options = ("--model", model, "--data", data, "--max-steps", "20", "--epochs", "9", "--learning-rate", "3e-3")
    result = run_train(*options, "-o", tmp_path / "out", "--contrastive-weight", "1")
    assert "cosine" in result.stdout
    log = read_log(tmp_path / "out")
    assert "final_full_recall_at_1" in log[-1]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses[-1] < losses[0]
    scored = write_lines(tmp_path / "scored.jsonl", [{"text": "a", "text_pair": "b", "score": 0.5}] * 4)
    result = invoke_train(*options, "--data", scored, "-o", tmp_path / "x", "--contrastive-weight", "1")
    assert (result.exit_code, "got pairs with scores, which may be strangers" in result.stderr) == (2, True)
    plain = write_plain(tmp_path / "plain.jsonl")
    result = invoke_train(*options, "--data", plain, "-o", tmp_path / "x", "--contrastive-weight", "1")
    assert (result.exit_code, "contrastive_weight, got texts alone in plain.jsonl" in result.stderr) == (2, True)


@pytest.mark.parametrize("task", [Task.MULTIPLE_CHOICE, pytest.param(Task.QUESTION_ANSWERING, marks=pytest.mark.slow)])
def test_token_states_are_distilled(task, encoder, tmp_path):
    data = WRITERS[task](tmp_path / f"data.{_ENDINGS.get(task, 'jsonl')}", rows=20)
    options = ("--model", encoder, "--data", data, "--task", task.value, "--max-steps", "2", "--plain-epochs", "0")
    run_train(*options, "-o", tmp_path / "without")
    run_train(*options, "-o", tmp_path / "out", "--hidden-weight", "1")
    with_states, without = (read_log(tmp_path / name)[0] for name in ("out", "without"))
    assert with_states["smallest_loss"] > without["smallest_loss"]
    assert with_states["full_loss"] == without["full_loss"]


def test_a_training_that_never_drops_claims_nothing(options, tmp_path):
    result = run_train(*options, "-o", tmp_path / "out", "--plain-epochs", "3")
    assert "No step drops tokens" in result.stderr
    assert load_checkpoint(str(tmp_path / "out")).training.lengths.lengths == (1.0, 1.0)
    assert "it bears" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert not any("smallest_loss" in entry for entry in read_log(tmp_path / "out"))


@pytest.mark.parametrize(
    ("options", "least"),
    [({"ratio_bound": 0.99}, "0.01,0.001"), ({"least_lengths": [0.4, 0.4]}, "0.4,0.4")],
)
def test_the_least_lengths_are_on_the_card(encoder, texts, tmp_path, options, least):
    dynbert_export.train(
        model=encoder,
        data=texts,
        output=tmp_path / "out",
        task="text-classification",
        max_steps=1,
        threads=1,
        **options,
    )
    assert f"small={least}" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_mixed_precision_stays_with_its_training(options, tmp_path, monkeypatch):
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)  # of other tests' TrainingArguments
    run_train(*options, "-o", tmp_path / "bf16", "--mixed-precision", "bf16", "--max-steps", "3")
    assert "ACCELERATE_MIXED_PRECISION" not in os.environ
    run_train(*options, "-o", tmp_path / "fp32", "--mixed-precision", "no", "--max-steps", "3")
    half, full = (read_log(tmp_path / name)[0]["grad_norm"] for name in ("bf16", "fp32"))
    assert half == pytest.approx(full, rel=0.05)
    assert half != full
    weights = load_file(tmp_path / "bf16" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


@pytest.mark.slow
def test_two_calls_with_one_seed_train_the_same(options, tmp_path):
    outputs = [tmp_path / name for name in ("one", "two", "other")]
    for output, seed in zip(outputs, (1, 1, 2), strict=True):
        run_train(*options, "--max-steps", "2", "-o", output, "--seed", seed)
    one, two, other = (load_file(output / "model.safetensors") for output in outputs)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


@pytest.mark.slow
def test_two_processes_train_one_model(encoder, texts, tmp_path):
    launch = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    command = (
        *(*launch, "-m", "dynbert_export.train_cli", "--model", encoder, "--data", texts),
        *(
            "--task",
            "text-classification",
            "-o",
            tmp_path / "out",
            "--batch-size",
            "4",
            "--epochs",
            "1",
            "--threads",
            "1",
        ),
        *("--layer-dropout", "0.3", "--plain-epochs", "0", "--eval-every", "3"),
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("accuracy") == 1  # one of them reports
    log = read_log(tmp_path / "out")
    steps = [entry["step"] for entry in log if "loss" in entry]
    assert steps == list(range(1, 8))  # 54 rows in batches of twice 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert load_checkpoint(str(tmp_path / "out")).task is Task.TEXT_CLASSIFICATION
