"""What long commands show: on a terminal and in a log file."""

from __future__ import annotations

import io
import re
import signal

import pytest
from rich.console import Console

from dynbert_export import terminal
from dynbert_export.options.vocabularies import MixedPrecision
from dynbert_export.terminal import TerminalProgress, choice_of, terminated_like_interrupted


def _listen(*, is_terminal):
    console = Console(file=io.StringIO(), force_terminal=is_terminal, width=200, highlight=False)
    return TerminalProgress(console), console.file


def test_stages_have_their_time_and_notes_their_brackets():
    progress, file = _listen(is_terminal=False)
    with progress.stage("a [stage]"):
        progress.note("mind [this]")
    first, second = file.getvalue().splitlines()
    assert first == "Note: mind [this]"
    assert second.startswith("a [stage]  ")
    assert re.search(r" \d\.\d s$", second)


def test_a_stage_that_fails_is_not_done():
    progress, file = _listen(is_terminal=False)
    with pytest.raises(KeyError), progress.stage("a stage"):
        raise KeyError
    assert file.getvalue() == ""


def test_a_log_file_has_a_line_each_twentieth_of_the_steps(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(terminal.time, "perf_counter", lambda: float(next(clock)))
    progress, file = _listen(is_terminal=False)
    with progress.steps("train") as update:
        for done in range(401):
            update(done, 400, "" if done < 10 else "loss [0.5]")
    lines = file.getvalue().splitlines()
    assert len(lines) == 21
    assert lines[0] == "train 20/400, 380 s left, loss [0.5]"
    assert lines[19] == "train 400/400, 0 s left, loss [0.5]"
    assert lines[20].startswith("train  ")


def test_a_resumed_training_knows_how_long_its_own_steps_take(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(terminal.time, "perf_counter", lambda: float(next(clock)))
    progress, file = _listen(is_terminal=False)
    with progress.steps("train") as update:
        for done in range(300, 401):
            update(done, 400, "")
    lines = file.getvalue().splitlines()
    assert lines[0] == "train 320/400, 80 s left"
    assert len(lines) == 6


@pytest.mark.parametrize(("done", "total"), [(0, 0), (1, 1), (3, 2)])
def test_few_steps_are_told_as_well(done, total):
    progress, file = _listen(is_terminal=False)
    with progress.steps("train") as update:
        update(0, total, "")
        update(done, total, "")
    assert file.getvalue().splitlines()[-1].startswith("train")


def test_a_terminal_has_a_bar_that_goes_away():
    progress, file = _listen(is_terminal=True)
    with progress.steps("train") as update:
        update(3, 9, "loss 0.5")
    shown = file.getvalue()
    assert "3/9" in shown
    assert "loss 0.5" in shown
    assert "s left" not in shown
    assert re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines()[-1].startswith("train  ")


def test_a_polite_kill_is_an_interrupt_and_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), terminated_like_interrupted():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_vocabularies_are_choices():
    assert list(choice_of(MixedPrecision).choices) == ["auto", "no", "bf16", "fp16"]
