"""The order of a training: what is told of it, what plain epochs are, and what is left when it fails."""

from __future__ import annotations

import contextlib
import os

import pytest
import torch

from dynbert.errors import InputError
from dynbert_export.errors import ExportError
from dynbert_export.training import run
from dynbert_export.training.run import check_training_output, train_checkpoint


class Listener:
    """Notes what it is told."""

    def __init__(self):
        self.stages, self.notes, self.steps_told = [], [], []

    @contextlib.contextmanager
    def stage(self, name):
        self.stages.append(name)
        yield

    @contextlib.contextmanager
    def steps(self, name):
        self.stages.append(name)
        yield lambda done, total, said: self.steps_told.append((done, total, said))

    def note(self, message):
        self.notes.append(message)


def test_a_listener_is_told_of_stages_and_steps(make_config, tmp_path):
    listener = Listener()
    result = train_checkpoint(make_config(max_steps=2), progress=listener)
    assert listener.stages == [
        *("check", "tokenize", "load model", "judge before training", "train", "judge", "publish"),
    ]
    assert listener.notes == ["The checkpoint has no head for text-classification: it gets a new one."]
    assert [each[:2] for each in listener.steps_told] == [(0, 2), (1, 2), (2, 2)]
    assert listener.steps_told[-1][2].startswith("loss ")
    assert (result.checkpoint, result.metric) == (tmp_path / "out", "accuracy")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("has_head", "options", "plain", "drops"),
    [
        (False, {}, 1.0, True),
        (True, {}, 0.0, True),
        (False, {"epochs": 1.0}, 0.5, True),
        (False, {"max_steps": 5}, 0.25, True),
        (True, {"plain_epochs": 2.0}, 2.0, True),
        (True, {"plain_epochs": 3.0}, 3.0, False),
        (True, {"plain_epochs": 1.0, "max_steps": 10}, 1.0, False),
        (True, {"distillation_weight": 0.0}, 0.0, False),
    ],
)
def test_a_new_head_is_trained_plainly_first(make_config, has_head, options, plain, drops):
    from dataclasses import replace

    config = make_config(**options)
    made = run._make_plan(config)
    plan = replace(made, start=replace(made.start, has_head=has_head))
    assert plan.plain_epochs(10) == pytest.approx(plain)
    assert plan.drops(10) is drops


@pytest.mark.parametrize(
    ("task", "given", "expected"),
    [
        ("text-classification", None, None),
        ("text-classification", 0.2, 0.2),
        ("feature-extraction", None, 0.0),
        ("feature-extraction", 0.1, 0.1),
    ],
)
def test_embeddings_are_trained_without_dropout(make_config, task, given, expected):
    assert run._make_plan(make_config(task=task, dropout=given)).dropout == expected


@pytest.mark.parametrize(
    "stage", ["make_features", "build_model", "make_arguments", "LengthDropTrainer", "_judge_before"]
)
def test_a_training_that_fails_before_it_trains_leaves_nothing(make_config, monkeypatch, tmp_path, stage):
    def fail(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run, stage, fail)
    with pytest.raises(KeyboardInterrupt):
        train_checkpoint(make_config())
    assert not list(tmp_path.iterdir())


def test_a_full_device_is_told_with_a_remedy(make_config, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nSee the manual.")

    monkeypatch.setattr(run.LengthDropTrainer, "training_step", fail)
    with pytest.raises(
        ExportError, match=r"got: CUDA out of memory\. Tried to allocate 2 GiB\. Pass --overwrite, a smaller"
    ):
        train_checkpoint(make_config())
    assert [path.name for path in tmp_path.iterdir()] == ["out.training"]


def test_a_full_disk_is_told(make_config, monkeypatch, tmp_path):
    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run.LengthDropTrainer, "_save_checkpoint", fail)
    with pytest.raises(ExportError, match=r"out.training must be writable, got: No space left on device"):
        train_checkpoint(make_config(max_steps=1))
    assert [path.name for path in tmp_path.iterdir()] == ["out.training"]


def test_the_environment_is_put_back(make_config, monkeypatch):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    train_checkpoint(make_config(max_steps=1))
    assert os.environ["ACCELERATE_MIXED_PRECISION"] == "no"
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION")
    train_checkpoint(make_config(max_steps=1, overwrite=True))
    assert "ACCELERATE_MIXED_PRECISION" not in os.environ


def test_another_of_several_processes_writes_nothing(make_config, monkeypatch, tmp_path):
    monkeypatch.setattr(run, "is_writer", lambda: False)
    (tmp_path / "out.training").mkdir()  # the first one's
    listener = Listener()
    train_checkpoint(make_config(max_steps=1, overwrite=True), progress=listener)
    assert (listener.stages, listener.notes) == ([], [])
    assert not (tmp_path / "out").exists()


def test_a_place_must_be_free_or_a_checkpoint_to_replace(tmp_path):
    check_training_output(tmp_path / "new", overwrite=False)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(
        InputError, match="must be a new folder or a trained checkpoint to replace, got a folder with other"
    ):
        check_training_output(tmp_path / "old", overwrite=True)
    (tmp_path / "old" / "config.json").write_text('{"length_training": {}}', encoding="utf-8")
    check_training_output(tmp_path / "old", overwrite=True)
    with pytest.raises(InputError, match=r"got the trained checkpoint .*old\. Pass --overwrite to replace it\."):
        check_training_output(tmp_path / "old", overwrite=False)
