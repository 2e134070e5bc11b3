"""What a training tells: a line of JSON for each entry of Trainer's log, and steps for a listener."""

from __future__ import annotations

import json
from types import SimpleNamespace

from dynbert_export.training.log import MetricsLog, StepReport, read_log


def _state(*entries, **values):
    return SimpleNamespace(log_history=list(entries), is_world_process_zero=True, **values)


def test_entries_are_lines(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    state = _state()
    log.on_train_begin(None, state, None)
    for step in (1, 2):
        state.log_history.append({"step": step, "loss": 0.1 + 0.2})
        log.on_log(None, state, None)
    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == state.log_history == list(read_log(tmp_path / "metrics.jsonl"))


def test_a_resumed_log_begins_with_what_it_goes_on_from(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"st', encoding="utf-8")
    log, state = MetricsLog(path), _state({"step": 1}, {"step": 2})
    log.on_train_begin(None, state, None)
    assert read_log(path) == [{"step": 1}, {"step": 2}]


def test_one_of_several_processes_writes(tmp_path):
    log, state = MetricsLog(tmp_path / "metrics.jsonl"), _state({"step": 1})
    state.is_world_process_zero = False
    log.on_train_begin(None, state, None)
    log.on_log(None, state, None)
    assert not list(tmp_path.iterdir())


def test_a_listener_is_told_of_steps_and_the_loss():
    told = []
    report, state = StepReport(lambda *arguments: told.append(arguments)), _state(global_step=3, max_steps=9)
    report.on_train_begin(None, state, None)
    state.log_history.append({"loss": 0.25})
    report.on_log(None, state, None)
    state.log_history.append({"eval_loss": 1.0})
    report.on_log(None, state, None)
    state.global_step = 4
    report.on_step_end(None, state, None)
    assert told == [(3, 9, ""), (4, 9, "loss 0.2500")]
