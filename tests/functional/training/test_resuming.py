"""An interrupted ``dynbert-train`` goes on, and replaces nothing that it was not asked to.

A resumed training is compared with one that was never interrupted by what its every step computed, to the last bit: the
published weights are those of the best state, which may be an early one, and would show nothing.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dynbert_export.training import run, trainer
from tests.helpers.training import (
    invoke_train,
    read_log,
    run_train,
    start_train,
    write_texts,
)


class Killed(BaseException):
    """What ends a training within the tests' process as a kill would: nothing cleans up behind it."""


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


def _assert_same_training(output, expected):
    log = read_log(output)
    assert log == read_log(expected)
    norms = [entry["grad_norm"] for entry in log if "grad_norm" in entry]
    assert len(set(norms)) == len(norms) >= 9
    assert any("smallest_loss" in entry for entry in log)
    weights, other = (load_file(folder / "model.safetensors") for folder in (output, expected))
    assert weights.keys() == other.keys()
    assert all(torch.equal(weights[name], other[name]) for name in weights)


def invoke_killed(*arguments):
    """Run the command and return what ended it."""
    try:
        result = invoke_train(*arguments)
    except Killed as err:
        return err
    return result.exception


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


@pytest.mark.slow
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
    steps = [entry["step"] for entry in read_log(expected) if "loss" in entry]
    assert max(steps) < 9
    with monkeypatch.context() as patch:
        patch.setattr(run, "save_checkpoint", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        assert "Aborted!" in invoke_train(*stopping, "-o", output).stderr
    run_train(*stopping, "-o", output, "--resume")
    assert read_log(output) == read_log(expected)


def test_patience_is_not_forgotten(options, kill_at, tmp_path):
    expected, output = tmp_path / "expected", tmp_path / "out"
    stopping = (*options, "--early-stopping", "2", "--learning-rate", "1e-7", "--plain-epochs", "0")
    run_train(*stopping, "-o", expected)
    assert max(entry["step"] for entry in read_log(expected)) == 6  # the first is best, the second and third are not
    revive = kill_at(14)
    invoke_killed(*stopping, "-o", output)
    revive()
    run_train(*stopping, "-o", output, "--resume")
    assert read_log(output) == read_log(expected)


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
