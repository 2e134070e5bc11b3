"""Which of several processes this is."""

from __future__ import annotations

from dynbert_export.training.workers import count_workers, is_writer


def test_a_process_alone_writes(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (is_writer(), count_workers()) == (True, 1)


def test_the_first_of_several_writes(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "0")
    assert (is_writer(), count_workers()) == (True, 4)
    monkeypatch.setenv("RANK", "3")
    assert is_writer() is False
