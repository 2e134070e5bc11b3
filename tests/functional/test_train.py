"""``dynbert-train`` as a whole: every task learns, what it writes can be exported, and an interrupted training goes on.

A resumed training is compared with one that was never interrupted by what its every step computed, to the last bit: the
published weights are those of the best state, which may be an early one, and would show nothing.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

import dynbert
import dynbert_export
from dynbert.manifest import Task
from dynbert.scoring.records import DataError
from dynbert_export.checkpoint.load import load_checkpoint
from dynbert_export.errors import ExportError
from dynbert_export.training import run, save, trainer
from tests.helpers.checkpoints import edit_json, make_checkpoint
from tests.helpers.commands import run_export
from tests.helpers.training import (
    WRITERS,
    invoke_train,
    make_encoder,
    run_train,
    start_train,
    write_lines,
    write_pairs,
    write_plain,
    write_texts,
)

_ENDINGS = {Task.QUESTION_ANSWERING: "json"}


class Killed(BaseException):
    """What ends a training within the tests' process as a kill would: nothing cleans up behind it."""


@pytest.fixture(scope="module", autouse=True)
def _blank_pictures():
    """To draw one takes as long as a small training; the picture has tests of its own, and so has saving with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save, "plot_training", lambda path, *_, **__: path.write_bytes(b""))
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A checkpoint without a head, with dropout: what is resumed must draw the same."""
    return make_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl", rows=60)


@pytest.fixture(scope="module")
def options(encoder, texts):
    """A short training: 9 steps, 3 an epoch and 3 batches a step, judged and saved every second step."""
    return (
        *("--model", encoder, "--data", texts, "--task", "text-classification", "--epochs", "3", "--batch-size", "6"),
        *("--gradient-accumulation", "3", "--eval-every", "2", "--learning-rate", "1e-3", "--layer-dropout", "0.3"),
        *("--plain-epochs", "0.4"),
    )


@pytest.fixture(scope="module")
def uninterrupted(options, tmp_path_factory):
    output = tmp_path_factory.mktemp("uninterrupted") / "out"
    run_train(*options, "-o", output)
    return output


@pytest.fixture
def kill_at(monkeypatch):
    """Have a training of this process end at a batch."""

    def kill(batch, by=Killed):
        real = trainer.LengthDropTrainer.compute_loss
        done = []

        def compute_loss(self, model, *arguments, **options):
            if model.training:
                done.append(1)
                if len(done) == batch:
                    raise by
            return real(self, model, *arguments, **options)

        monkeypatch.setattr(trainer.LengthDropTrainer, "compute_loss", compute_loss)
        return lambda: monkeypatch.setattr(trainer.LengthDropTrainer, "compute_loss", real)

    return kill


def _read_log(output):
    """Return what every step computed; how long it took is no part of it."""
    entries = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [entry for entry in entries if "train_runtime" not in entry]


def _assert_same_training(output, expected):
    log = _read_log(output)
    assert log == _read_log(expected)
    norms = [entry["grad_norm"] for entry in log if "grad_norm" in entry]
    assert len(set(norms)) == len(norms) >= 9
    assert any("smallest_loss" in entry for entry in log)
    weights, other = (load_file(folder / "model.safetensors") for folder in (output, expected))
    assert weights.keys() == other.keys()
    assert all(torch.equal(weights[name], other[name]) for name in weights)


@pytest.mark.parametrize("batch", [14, 27, *(pytest.param(batch, marks=pytest.mark.slow) for batch in (2, 8, 19, 22))])
def test_a_killed_training_goes_on_as_if_nothing_had_been(options, uninterrupted, kill_at, tmp_path, batch):
    output = tmp_path / "out"
    revive = kill_at(batch)
    assert isinstance(invoke_killed(*options, "-o", output), Killed)
    revive()
    assert not output.exists()
    result = run_train(*options, "-o", output, "--resume")
    steps = (batch - 1) // 3 // 2 * 2
    assert (f"Goes on from step {steps}." in result.stderr) == (steps > 0)
    _assert_same_training(output, uninterrupted)
    assert not output.with_name("out.training").exists()


def invoke_killed(*arguments):
    """Run the command and return what ended it."""
    try:
        result = invoke_train(*arguments)
    except Killed as err:
        return err
    return result.exception


def test_a_training_killed_by_the_system_goes_on(options, uninterrupted, tmp_path):
    output = tmp_path / "out"
    before = (
        "import os, signal\n"
        "from dynbert_export.training import trainer\n"
        "real = trainer.LengthDropTrainer.compute_loss\n"
        "def compute_loss(self, model, *arguments, **options):\n"
        "    if model.training and self.state.global_step == 5:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(self, model, *arguments, **options)\n"
        "trainer.LengthDropTrainer.compute_loss = compute_loss\n"
    )
    process = start_train(*options, "-o", output, before=before)
    told = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, told
    assert "Goes on from step 4." in run_train(*options, "-o", output, "--resume").stderr
    _assert_same_training(output, uninterrupted)


def test_a_half_written_state_is_passed_over(options, uninterrupted, kill_at, tmp_path):
    output = tmp_path / "out"
    revive = kill_at(14)
    invoke_killed(*options, "-o", output)
    revive()
    newest = output.with_name("out.training") / "checkpoint-4"
    path = newest / "trainer_state.json"
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")
    (newest / "model.safetensors").write_bytes(b"")
    assert "Goes on from step 2." in run_train(*options, "-o", output, "--resume").stderr
    _assert_same_training(output, uninterrupted)


def test_a_training_that_was_over_is_only_published(options, uninterrupted, monkeypatch, tmp_path):
    output = tmp_path / "out"

    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run, "save_checkpoint", full_disk)
        result = invoke_train(*options, "-o", output)
    assert (result.exit_code, output.exists()) == (1, False)
    assert result.stderr.splitlines()[-1].endswith("No space left on device. Nothing was written there.")
    monkeypatch.setattr(trainer.LengthDropTrainer, "training_step", None)  # not a step more
    log = output.with_name("out.training") / "metrics.jsonl"
    log.write_text(log.read_text(encoding="utf-8")[:-9], encoding="utf-8")
    assert "Goes on from step 9." in run_train(*options, "-o", output, "--resume").stderr
    _assert_same_training(output, uninterrupted)


def test_a_training_stopped_early_is_not_taken_up_again(options, monkeypatch, tmp_path):
    expected, output = tmp_path / "expected", tmp_path / "out"
    stopping = (*options, "--early-stopping", "1", "--learning-rate", "1e-7", "--plain-epochs", "0")
    run_train(*stopping, "-o", expected)
    steps = [entry["step"] for entry in _read_log(expected) if "loss" in entry]
    assert max(steps) < 9
    with monkeypatch.context() as patch:
        patch.setattr(run, "save_checkpoint", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert "Aborted!" in invoke_train(*stopping, "-o", output).stderr
    run_train(*stopping, "-o", output, "--resume")
    assert _read_log(output) == _read_log(expected)


def test_patience_is_not_forgotten(options, kill_at, tmp_path):
    expected, output = tmp_path / "expected", tmp_path / "out"
    stopping = (*options, "--early-stopping", "2", "--learning-rate", "1e-7", "--plain-epochs", "0")
    run_train(*stopping, "-o", expected)
    assert max(entry["step"] for entry in _read_log(expected)) == 6  # the first is best, the second and third are not
    revive = kill_at(14)
    invoke_killed(*stopping, "-o", output)
    revive()
    run_train(*stopping, "-o", output, "--resume")
    assert _read_log(output) == _read_log(expected)


def test_a_moved_training_finds_its_best_state(options, uninterrupted, kill_at, tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    revive = kill_at(20)
    invoke_killed(*options, "-o", "out")
    revive()
    monkeypatch.chdir(tmp_path)
    Path("a/out.training").rename("other.training")
    run_train(*options, "-o", "other", "--resume")
    _assert_same_training(tmp_path / "other", uninterrupted)


def test_an_interrupted_training_leaves_a_state_to_go_on_from(options, kill_at, tmp_path):
    output = tmp_path / "out"
    kill_at(14, KeyboardInterrupt)
    result = invoke_train(*options, "-o", output)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, "Aborted!")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.training"]
    result = invoke_train(*options, "-o", output)
    assert result.exit_code == 2
    assert "Pass --resume to go on with it, or --overwrite to begin anew." in result.stderr
    result = invoke_train(*options, "-o", output, "--resume", "--epochs", "4", "--seed", "1")
    assert result.exit_code == 2
    assert "begun with, got others: epochs, seed. Pass --overwrite to begin anew." in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.training"]


@pytest.mark.slow
def test_ctrl_c_and_a_polite_kill_end_a_training(options, tmp_path):
    output = tmp_path / "out"
    process = start_train(*options, "-o", output, "--max-steps", "500", "--epochs", "500")
    state = output.with_name("out.training")
    for _ in range(600):
        if list(state.glob("checkpoint-*/trainer_state.json")) or process.poll() is not None:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.splitlines()[-1]) == (1, "Aborted!")
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.training"]
    process = start_train(*options, "-o", output, "--max-steps", "500", "--epochs", "500", "--resume")
    assert any("train " in line for line in process.stderr)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.splitlines()[-1]) == (1, "Aborted!")
    run_train(*options, "-o", output, "--overwrite", "--max-steps", "2")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_changed_data_is_not_gone_on_with(options, kill_at, tmp_path):
    data = write_texts(tmp_path / "texts.jsonl", rows=60)
    revive = kill_at(8)
    invoke_killed(*options, "--data", data, "-o", tmp_path / "out")
    revive()
    write_texts(data, rows=60, seed=1)
    result = invoke_train(*options, "--data", data, "-o", tmp_path / "out", "--resume")
    assert result.exit_code == 2
    assert "got others: contents of data. Pass --overwrite" in result.stderr


def test_nothing_of_a_state_is_unpickled(options, kill_at, tmp_path):
    """Trainer leaves its arguments as a pickle; who resumes must not run what somebody put there."""

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "caught"),)

    revive = kill_at(8)
    invoke_killed(*options, "-o", tmp_path / "out")
    revive()
    [path] = (tmp_path / "out.training").glob("checkpoint-*/training_args.bin")
    torch.save(Trap(), path)
    run_train(*options, "-o", tmp_path / "out", "--resume")
    torch.save(Trap(), tmp_path / "trap.bin")
    assert not (tmp_path / "caught").exists()
    torch.load(tmp_path / "trap.bin", weights_only=False)
    assert (tmp_path / "caught").exists()  # it is a trap
    published = {path.suffix for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert published == {".json", ".jsonl", ".md", ".png", ".safetensors"}


def test_what_is_there_is_replaced_only_when_asked(options, uninterrupted, kill_at, tmp_path):
    output = tmp_path / "out"
    short = (*options, "--max-steps", "2", "-o", output)
    run_train(*short)
    result = invoke_train(*short)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines()[-1] == (
        f"Error: Output must not exist yet, got the trained checkpoint {output}. Pass --overwrite to replace it."
    )
    revive = kill_at(8)
    invoke_killed(*options, "-o", output, "--overwrite")
    revive()
    assert (output / "config.json").is_file()  # until there is another
    run_train(*options, "-o", output, "--resume")
    _assert_same_training(output, uninterrupted)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", encoding="utf-8")
    result = invoke_train(*options, "-o", tmp_path / "mine", "--overwrite")
    assert (result.exit_code, "dynbert only removes what it made" in result.stderr) == (2, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out"]


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
    log = _read_log(tmp_path / "out")
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


def _write(folder, name, content):
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


_ROWS = [{"text": "good food", "label": "good"}, {"text": "bad food", "label": "bad"}] * 6


@pytest.mark.parametrize(
    ("task", "name", "rows", "options", "message"),
    [
        ("text-classification", "a.jsonl", [*_ROWS, {"text": " ", "label": "bad"}], (), "at line 13 of {file}"),
        ("text-classification", "a.jsonl", [*_ROWS, {"label": "bad"}], (), "at line 13 of {file}"),
        ("text-classification", "a.jsonl", _ROWS[::2], (), "at least two different labels, got 'good' alone in {file}"),
        ("text-classification", "a.jsonl", [{"words": "a", "label": 1}], (), "text"),
        ("token-classification", "a.jsonl", [{"words": ["a"], "labels": ["O", "O"]}], (), "at line 1 of {file}"),
        ("multiple-choice", "a.jsonl", [{"text": "a", "choices": ["b"], "label": 0}], (), "at line 1 of {file}"),
        ("feature-extraction", "a.txt", [], (), "at least one example, got none in {file}"),
        (
            "text-classification",
            "a.jsonl",
            [{"text": "a", "label": 0.5}, {"text": "b", "label": 3}],
            ("--problem-type", "ranking"),
            "labels from 0 to 1 to train a ranking on, got 3 at line 2 of {file}",
        ),
    ],
)
def test_faults_in_data_are_told_before_anything_is_trained(encoder, tmp_path, task, name, rows, options, message):
    data = write_lines(tmp_path / name, rows)
    arguments = ("--model", encoder, "--data", data, "--task", task, "-o", tmp_path / "out", *options)
    result = invoke_train(*arguments)
    assert result.exit_code == 1, result.output
    [line] = [each for each in result.stderr.splitlines() if each.startswith("Error: ")]
    assert message.format(file=data) in line
    assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_labels_that_only_the_evaluation_has_are_faults(encoder, tmp_path):
    data = write_lines(tmp_path / "a.jsonl", _ROWS)
    other = write_lines(tmp_path / "b.jsonl", [*_ROWS, {"text": "so so", "label": "fair"}])
    arguments = ("--model", encoder, "--data", data, "--eval-data", other, "--task", "text-classification")
    result = invoke_train(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"known labels only, got 'fair' at line 13 of {other}. Known are bad, good." in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("architecture", "options", "exit_code", "message"),
    [
        (
            Task.FILL_MASK,
            (),
            2,
            "Task must be given for a checkpoint of BertForMaskedLM, got auto. Pass --task, one of",
        ),
        (Task.NEXT_SENTENCE_PREDICTION, (), 2, "Task must be given for a checkpoint of BertForNextSentencePrediction"),
        (Task.PRETRAINING, (), 2, "Task must be given for a checkpoint of BertForPreTraining, got auto."),
        (Task.FILL_MASK, ("--task", "fill-mask"), 2, "'fill-mask' is not one of 'auto', 'question-answering'"),
        (Task.TEXT_CLASSIFICATION, (), 1, "Known are negative, neutral, positive."),
        (
            Task.TEXT_CLASSIFICATION,
            ("--layer", "9"),
            2,
            "layers must be indices of the checkpoint's layers, 0 to 2, got 9",
        ),
        (
            Task.FEATURE_EXTRACTION,
            ("--hidden-weight", "1"),
            2,
            "hidden_weight must be given for tasks with labels alone",
        ),
        (Task.FILL_MASK, ("--task", "text-classification", "--report-to", "x"), 2, "report_to must name trackers"),
        (Task.FILL_MASK, ("--task", "text-classification", "--length-config", "0.5"), 2, "must have 3 entries"),
        (
            Task.FILL_MASK,
            ("--task", "text-classification", "--resume"),
            2,
            "A training to resume must be there, got none",
        ),
        (
            Task.FILL_MASK,
            ("--task", "text-classification", "--teacher", "nowhere/at/all"),
            1,
            "Model folder must exist",
        ),
        (
            Task.FILL_MASK,
            ("--task", "text-classification", "--data", "gone.csv"),
            1,
            "existing file, got none at gone.csv",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(texts, tmp_path, architecture, options, exit_code, message):
    model = make_checkpoint(tmp_path / "model", architecture)
    result = invoke_train("--model", model, "--data", texts, "-o", tmp_path / "out", *options)
    assert (result.exit_code, message in result.stderr) == (exit_code, True), result.stderr
    assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


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
    losses = [entry["loss"] for entry in _read_log(tmp_path / "out") if "loss" in entry]
    assert losses[-1] < losses[0]
    assert result.metric == ("micro_f1" if "multi" in problem_type else "spearman")
    assert result.scores["smallest"] > 0.5
    checkpoint = load_checkpoint(str(tmp_path / "out"))
    assert checkpoint.problem_type == problem_type
    assert json.loads((tmp_path / "out" / "config.json").read_text())["length_training"]["metric"] == result.metric


def test_a_head_of_another_kind_is_refused(tmp_path):
    model = make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION)
    data = write_texts(tmp_path / "data.jsonl", labels=(0.5, 1.5))
    arguments = ("--model", model, "--data", data, "-o", tmp_path / "out")
    result = invoke_train(*arguments, "--problem-type", "regression")
    assert result.exit_code == 2
    assert (
        "The checkpoint's head must have one logit for regression, got 3 (single_label_classification)" in result.stderr
    )
    result = invoke_train(*arguments)
    assert result.exit_code == 1
    assert "have texts or whole numbers as labels, got 1.5 at line 1 of" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl", "model"]


def test_a_teacher_teaches(uninterrupted, encoder, texts, tmp_path):
    options = ("--model", encoder, "--data", texts, "--task", "text-classification", "--max-steps", "2")
    alone, taught = tmp_path / "alone", tmp_path / "taught"
    run_train(*options, "-o", alone)
    run_train(*options, "-o", taught, "--teacher", uninterrupted)
    assert _read_log(alone)[0]["loss"] != _read_log(taught)[0]["loss"]
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
    log = _read_log(tmp_path / "out")
    assert log[-1]["final_full_cosine"] < 0.999  # of the whole model's embeddings


def test_pairs_are_found_by_their_embeddings(tmp_path):
    model = make_encoder(tmp_path / "model", sentence_transformers=True)
    data = write_pairs(tmp_path / "pairs.jsonl")
    options = ("--model", model, "--data", data, "--max-steps", "20", "--epochs", "9", "--learning-rate", "3e-3")
    result = run_train(*options, "-o", tmp_path / "out", "--contrastive-weight", "1")
    assert "cosine" in result.stdout
    log = _read_log(tmp_path / "out")
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
    with_states, without = (_read_log(tmp_path / name)[0] for name in ("out", "without"))
    assert with_states["smallest_loss"] > without["smallest_loss"]
    assert with_states["full_loss"] == without["full_loss"]


def test_a_training_that_never_drops_claims_nothing(options, tmp_path):
    result = run_train(*options, "-o", tmp_path / "out", "--plain-epochs", "3")
    assert "No step drops tokens" in result.stderr
    assert load_checkpoint(str(tmp_path / "out")).training.lengths.lengths == (1.0, 1.0)
    assert "it bears" not in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert not any("smallest_loss" in entry for entry in _read_log(tmp_path / "out"))


def test_weights_that_are_not_finite_are_not_published(options, tmp_path):
    wild = ("--learning-rate", "1e35", "--plain-epochs", "0", "--eval-every", "100")
    result = invoke_train(*options, "-o", tmp_path / "out", *wild)
    assert result.exit_code == 1
    assert "Training must end with finite weights, got infinity or NaN in" in result.stderr
    assert not (tmp_path / "out").exists()


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
    half, full = (_read_log(tmp_path / name)[0]["grad_norm"] for name in ("bf16", "fp32"))
    assert half == pytest.approx(full, rel=0.05)
    assert half != full
    weights = load_file(tmp_path / "bf16" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_a_place_that_cannot_be_written_is_one_line(options, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = invoke_train(*options, "-o", tmp_path / "file" / "out")
    assert result.exit_code == 1, result.output
    assert "out.training must be writable, got: Not a directory." in result.stderr


@pytest.mark.slow
def test_two_calls_with_one_seed_train_the_same(options, tmp_path):
    outputs = [tmp_path / name for name in ("one", "two", "other")]
    for output, seed in zip(outputs, (1, 1, 2), strict=True):
        run_train(*options, "--max-steps", "2", "-o", output, "--seed", seed)
    one, two, other = (load_file(output / "model.safetensors") for output in outputs)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


def test_errors_of_the_function_are_those_of_the_command(encoder, tmp_path):
    data = write_lines(tmp_path / "a.jsonl", [{"text": "", "label": "x"}])
    with pytest.raises(DataError):
        dynbert_export.train(model=encoder, data=data, output=tmp_path / "out", task="text-classification")
    edit_json(make_encoder(tmp_path / "broken") / "config.json", hidden_size=48)
    good = write_texts(tmp_path / "b.jsonl")
    with pytest.raises(ExportError, match=r"Weights must fit config.json"):
        dynbert_export.train(model=tmp_path / "broken", data=good, output=tmp_path / "out", task="text-classification")
    assert not list(tmp_path.glob("out*"))


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
    log = _read_log(tmp_path / "out")
    steps = [entry["step"] for entry in log if "loss" in entry]
    assert steps == list(range(1, 8))  # 54 rows in batches of twice 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert load_checkpoint(str(tmp_path / "out")).task is Task.TEXT_CLASSIFICATION
