"""Trainer with LengthDrop: the order of rows, what is trained when, and judgement at every profile's lengths."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import PrinterCallback, TrainingArguments

from dynbert.lengths import LengthConfig
from dynbert_export.training import run
from dynbert_export.training.state import find_state
from dynbert_export.training.trainer import (
    BestStateHere,
    LastEvaluation,
    LengthDropTrainer,
    LengthGroupedSampler,
    dropping,
    place_best_state,
)

pytestmark = pytest.mark.filterwarnings("ignore:mtime may not be reliable")  # as run.py has it

_LENGTHS = [length % 17 + 3 for length in range(0, 400, 7)]


def _order(epoch, seed=0, batch_size=4):
    sampler = LengthGroupedSampler(_LENGTHS, batch_size=batch_size, seed=seed, find_epoch=lambda: epoch)
    assert len(sampler) == len(_LENGTHS)
    return list(sampler)


def test_every_row_comes_once_and_among_rows_of_its_length():
    order = _order(0)
    assert sorted(order) == list(range(len(_LENGTHS)))
    batches = [[_LENGTHS[row] for row in order[first : first + 4]] for first in range(0, len(order), 4)]
    spread = sum(max(batch) - min(batch) for batch in batches)
    shuffled = [_LENGTHS[row] for row in torch.randperm(len(order), generator=torch.Generator().manual_seed(0))]
    assert spread < sum(max(shuffled[i : i + 4]) - min(shuffled[i : i + 4]) for i in range(0, len(order), 4)) / 2


def test_epoch_and_seed_alone_decide_on_the_order():
    torch.manual_seed(1)
    first = _order(1)
    torch.manual_seed(2)
    assert _order(1) == first
    assert first not in (_order(0), _order(2), _order(1, seed=1))


@pytest.fixture
def make_trainer(make_config):
    """Make a trainer of a few rows, as a training does, and the folder of its states."""

    def make(**changes):
        config = make_config(**{"batch_size": 16, "learning_rate": 1e-3, "max_steps": 6} | changes)
        from dynbert_export.progress import SilentProgress

        plan, state = run._make_plan(config), find_state(config)
        trainer, judge, _ = run._prepare(plan, state, SilentProgress())
        return trainer, judge, state

    return make


def test_the_model_is_judged_at_every_profile(make_trainer):
    trainer, judge, _ = make_trainer(profiles={"half": [0.5, 0.25], "few": [5, 2]}, max_steps=1)
    seen = []
    real = trainer.evaluation_loop

    def loop(*arguments, metric_key_prefix, **options):
        seen.append((metric_key_prefix, trainer.model.bert.length_config))
        return real(*arguments, metric_key_prefix=metric_key_prefix, **options)

    trainer.evaluation_loop = loop
    found = trainer.evaluate()
    assert seen == [
        ("eval_full", None),
        ("eval_half", LengthConfig((0.5, 0.25))),
        ("eval_few", LengthConfig((5, 2))),
    ]
    assert trainer.model.bert.length_config is None
    scores = judge.pick(found, prefix="eval")
    assert list(scores) == ["full", "half", "few"]
    assert found["eval_score"] == pytest.approx(sum(scores.values()) / 3)
    assert not any(name.endswith("_time") for name in found)


def test_judgements_before_and_after_decide_nothing(make_trainer):
    trainer, _, _ = make_trainer(early_stopping=1)
    told = []
    trainer.callback_handler.on_evaluate = lambda *_: told.append(1) or trainer.control
    assert "before_score" in trainer.evaluate(metric_key_prefix="before")
    assert told == []
    trainer.evaluate()
    assert told == [1]


def test_rows_are_judged_the_longest_first(make_trainer):
    trainer, _, _ = make_trainer()
    lengths = [len(row["input_ids"]) for row in trainer.eval_dataset]
    assert lengths == sorted(lengths, reverse=True)
    assert len(set(lengths)) > 1


def test_steps_and_batches_are_numbered(make_trainer):
    trainer, _, _ = make_trainer()
    places = []
    for step in (0, 0, 0, 1, 1, 2):
        trainer.state.global_step = step
        places.append(trainer._next_place())
    assert places == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0)]


def test_plain_epochs_come_first(make_trainer):
    trainer, _, _ = make_trainer(epochs=2.0, plain_epochs=1.0, max_steps=None)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    dropped = [entry["epoch"] > 1 for entry in logged]
    assert [("smallest_loss" in entry) for entry in logged] == dropped
    assert True in dropped
    assert False in dropped


def test_parts_are_logged_as_means_of_their_batches(make_trainer):
    trainer, _, _ = make_trainer()
    trainer._parts["full_loss"] += [torch.tensor(1.0), torch.tensor(4.0)]
    trainer.log({"loss": 0.5})
    trainer.log({"loss": 0.5})
    trainer.log({"eval_loss": 0.5})
    first, second, third = trainer.state.log_history[-3:]
    assert (first["full_loss"], "full_loss" in second, "full_loss" in third) == (2.5, False, False)


def test_batches_that_are_accumulated_count_as_one(make_trainer, tmp_path):
    """What four rows teach is what twice two rows do, if nothing is random."""
    del tmp_path
    losses = []
    options = {"max_steps": 1, "plain_epochs": 9.0, "mixed_precision": "no", "overwrite": True}
    for batch_size, accumulation in ((8, 1), (4, 2)):
        trainer, _, _ = make_trainer(batch_size=batch_size, gradient_accumulation=accumulation, **options)
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer.train()
        losses.append(next(entry["grad_norm"] for entry in trainer.state.log_history if "grad_norm" in entry))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_trainer_prints_nothing(make_trainer, capsys):
    trainer, _, _ = make_trainer(max_steps=2)
    trainer.train()
    assert not any(isinstance(callback, PrinterCallback) for callback in trainer.callback_handler.callbacks)
    assert capsys.readouterr() == ("", "")


def test_the_last_step_is_judged(make_trainer):
    trainer, _, state = make_trainer(eval_every=4, max_steps=6)
    trainer.train()
    judged = [entry["step"] for entry in trainer.state.log_history if "eval_score" in entry]
    assert judged == [4, 6]
    assert state.find_checkpoint().name == "checkpoint-6"
    control = SimpleNamespace(should_evaluate=False, should_save=False)
    LastEvaluation().on_step_end(None, SimpleNamespace(global_step=5, max_steps=6), control)
    assert (control.should_evaluate, control.should_save) == (False, False)


def test_a_training_that_is_over_is_finished_from_its_state(make_trainer):
    trainer, _, state = make_trainer(max_steps=4, eval_every=2)
    trainer.train()
    weights = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    again, _, _ = make_trainer(max_steps=4, eval_every=2, overwrite=False, resume=True)
    assert not all(torch.equal(weights[name], tensor) for name, tensor in again.model.state_dict().items())
    assert again.finish(state.folder / "checkpoint-2") is False
    assert again.finish(state.find_checkpoint()) is True
    assert all(torch.equal(weights[name], tensor) for name, tensor in again.model.state_dict().items())


def test_the_best_state_is_looked_for_beside_the_newest(tmp_path):
    state = SimpleNamespace(best_model_checkpoint="elsewhere/out.training/checkpoint-3")
    BestStateHere(tmp_path).on_train_begin(None, state, None)
    assert state.best_model_checkpoint == str(tmp_path / "checkpoint-3")
    state = SimpleNamespace(best_model_checkpoint=None)
    place_best_state(state, tmp_path)
    assert state.best_model_checkpoint is None


def test_lengths_are_put_back_even_if_the_block_fails(make_trainer):
    trainer, _, _ = make_trainer()
    trainer.model.set_length_config((9, 8))
    seen = []

    def fail():
        seen.append(trainer.model.bert.length_config)
        raise KeyError

    with pytest.raises(KeyError), dropping(trainer.model, LengthConfig((5, 2))):
        fail()
    assert [*seen, trainer.model.bert.length_config] == [LengthConfig((5, 2)), LengthConfig((9, 8))]


def test_states_hold_what_early_stopping_knows(make_trainer):
    trainer, _, state = make_trainer(early_stopping=3, eval_every=2, max_steps=4)
    trainer.train()
    written = json.loads((state.find_checkpoint() / "trainer_state.json").read_text(encoding="utf-8"))
    assert "early_stopping_patience_counter" in written["stateful_callbacks"]["EarlyStoppingCallback"]["attributes"]
    assert isinstance(trainer.args, TrainingArguments)
    assert trainer.args.restore_callback_states_from_checkpoint
    assert isinstance(trainer, LengthDropTrainer)
