"""From what a caller asks for to what is measured: another model, other lengths, fewer competitors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dynbert.errors import InputError, LengthConfigError
from dynbert.lengths import LengthConfig
from dynbert.manifest import Task
from dynbert_bench.options import FULL_PLAN, QUICK_PLAN, Group
from dynbert_bench.request import Request, apply_request
from tests.helpers.checkpoints import make_checkpoint


def test_without_wishes_the_plan_stays(tmp_path):
    plan, choices = apply_request(Request(tmp_path))
    assert plan == FULL_PLAN
    assert (choices.calibration, choices.model, choices.without) == (None, None, frozenset())


def test_files_and_groups_reach_the_choices(tmp_path):
    request = Request(tmp_path, calibration=Path("texts.txt"), without=frozenset({Group.TORCH}))
    _, choices = apply_request(request)
    assert choices.calibration == str(Path("texts.txt").absolute())
    assert choices.without == {Group.TORCH}


def test_lengths_must_fit_the_model(tmp_path):
    with pytest.raises(LengthConfigError, match="must have 6 entries"):
        apply_request(Request(tmp_path, lengths=LengthConfig((9, 5))))


def test_counts_above_the_longest_input_are_that_input(tmp_path):
    long = (10_000, 9_000, 300, 200, 100, 5)
    plan, _ = apply_request(Request(tmp_path, lengths=LengthConfig(long)))
    longest = FULL_PLAN.max_length
    assert plan.fast.lengths == tuple(min(length, longest) for length in long)


@pytest.fixture
def checkpoint(tmp_path):
    return make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION)


def test_a_model_brings_its_shape_its_task_and_lengths_for_its_layers(tmp_path, checkpoint):
    lengths = LengthConfig((0.9, 0.5, 0.2))
    plan, choices = apply_request(Request(tmp_path, plan=QUICK_PLAN, model=str(checkpoint), lengths=lengths))
    assert (plan.shape.layers, plan.fast) == (3, lengths)
    assert {cell.task for cell in plan.cells} == {Task.TEXT_CLASSIFICATION}
    assert max(cell.tokens for cell in plan.cells) <= 64
    assert len(plan.balanced.lengths) == 3
    assert choices.model == str(checkpoint.resolve())
    _, again = apply_request(Request(tmp_path, plan=QUICK_PLAN, model=str(checkpoint), lengths=lengths))
    assert again.model_digest == choices.model_digest
    (checkpoint / "vocab.txt").write_text("changed")
    _, changed = apply_request(Request(tmp_path, plan=QUICK_PLAN, model=str(checkpoint), lengths=lengths))
    assert changed.model_digest != choices.model_digest


def test_a_model_that_reads_less_than_the_shortest_input_is_refused(tmp_path, checkpoint):
    cells = tuple(cell for cell in FULL_PLAN.cells if cell.tokens > 64)
    request = Request(tmp_path, plan=replace(FULL_PLAN, cells=cells), model=str(checkpoint))
    with pytest.raises(InputError, match=r"must read at least \d+ tokens, got a maximum length of 64"):
        apply_request(request)
