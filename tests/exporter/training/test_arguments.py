"""The options as Trainer's own: what is passed on, what is set here, and what is refused."""

from __future__ import annotations

import pytest
import torch

from dynbert.errors import InputError
from dynbert_export.training.arguments import count_steps, make_arguments


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    """transformers writes its precision there."""
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")


@pytest.fixture
def make(make_config, tmp_path):
    def run(steps_per_epoch=100, **changes):
        return make_arguments(make_config(**changes), tmp_path / "state", steps_per_epoch=steps_per_epoch)

    return run


def test_options_become_arguments(make, tmp_path):
    arguments = make(
        epochs=2.5,
        batch_size=3,
        eval_batch_size=5,
        gradient_accumulation=7,
        learning_rate=0.25,
        scheduler="cosine",
        warmup_ratio=0.3,
        weight_decay=0.7,
        seed=9,
    )
    assert arguments.output_dir == str(tmp_path / "state")
    assert (arguments.num_train_epochs, arguments.max_steps) == (2.5, 250)
    assert (arguments.per_device_train_batch_size, arguments.per_device_eval_batch_size) == (3, 5)
    assert (arguments.gradient_accumulation_steps, arguments.learning_rate) == (7, 0.25)
    assert (arguments.lr_scheduler_type, arguments.warmup_ratio, arguments.weight_decay) == ("cosine", 0.3, 0.7)
    assert (arguments.seed, arguments.data_seed, arguments.report_to) == (9, 9, [])
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("every", "strategy", "steps"), [(None, "epoch", 500), (7, "steps", 7)])
def test_states_are_saved_when_they_are_judged(make, every, strategy, steps):
    arguments = make(eval_every=every)
    assert arguments.eval_strategy == arguments.save_strategy == strategy
    assert arguments.save_steps == steps
    assert (arguments.load_best_model_at_end, arguments.metric_for_best_model) == (True, "score")


@pytest.mark.parametrize(("steps_per_epoch", "logging_steps"), [(1, 1), (19, 1), (200, 10)])
def test_the_log_has_about_twenty_entries_an_epoch(make, steps_per_epoch, logging_steps):
    assert make(steps_per_epoch).logging_steps == logging_steps


@pytest.mark.parametrize(
    ("epochs", "max_steps", "steps"), [(3.0, None, 30), (0.25, None, 3), (3.0, 7, 7), (3.0, 1000, 30)]
)
def test_a_training_ends_after_its_epochs_or_steps(make_config, epochs, max_steps, steps):
    assert count_steps(make_config(epochs=epochs, max_steps=max_steps), 10) == steps


def test_a_recipe_passes_further_arguments_on(make):
    arguments = make(trainer={"max_grad_norm": 0.5, "optim": "adafactor", "use_cpu": True})
    assert (arguments.max_grad_norm, arguments.optim, arguments.use_cpu) == (0.5, "adafactor", True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trainer": {"seed": 3}}, r"trainer must not set seed, got 3\. dynbert-train sets it itself\."),
        ({"trainer": {"ignore_data_skip": True}}, "trainer must not set ignore_data_skip, got True"),
        ({"trainer": {"group_by_length": True}}, "trainer must not set group_by_length"),
        (
            {"trainer": {"max_gradient_norm": 3}},
            r"hold arguments of transformers.TrainingArguments, got max_gradient_norm\. Did you mean max_grad_norm\?",
        ),
        ({"trainer": {"optim": "magic"}}, "Options must be such that transformers can train by them, got: magic is"),
        ({"scheduler": "magic"}, "can train by them, got: magic is not a valid SchedulerType"),
        (
            {"report_to": ["magic"]},
            "report_to must name trackers whose packages are installed, got magic: magic is not",
        ),
        ({"report_to": ["wandb"]}, "report_to must name trackers whose packages are installed, got wandb: .*wandb"),
    ],
)
def test_what_trainer_cannot_do_is_refused(make, options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


@pytest.mark.parametrize(
    ("option", "has_gpu", "expected"),
    [
        ("auto", False, (False, False)),
        ("auto", True, (True, False)),
        ("no", True, (False, False)),
        ("bf16", False, (True, False)),
        ("fp16", True, (False, True)),
    ],
)
def test_mixed_precision_is_for_gpus_unless_asked_for(make_config, monkeypatch, tmp_path, option, has_gpu, expected):
    from dynbert_export.training import arguments

    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_gpu)
    owned = arguments._own_arguments(make_config(mixed_precision=option), tmp_path, 10)
    assert (owned["bf16"], owned["fp16"], owned["dataloader_pin_memory"]) == (*expected, has_gpu)


def test_processes_without_an_accelerator_say_so(make_config, monkeypatch, tmp_path):
    """Else each would train alone, and transformers refuses bfloat16."""
    from dynbert_export.training import arguments

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    assert arguments._choose_device() == {"use_cpu": True}
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    assert arguments._choose_device() == {}
    owned = arguments._own_arguments(make_config(), tmp_path, 10)
    assert not owned["ddp_broadcast_buffers"]
    assert not owned["ddp_find_unused_parameters"]
