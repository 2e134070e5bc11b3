"""Threads of PyTorch: as many as asked for, and as before afterwards."""

from __future__ import annotations

import pytest
import torch

from dynbert_export import threads
from dynbert_export.threads import torch_threads


@pytest.mark.parametrize(("asked", "expected"), [(3, 3), (None, 2)])
def test_threads_are_set_for_a_block(monkeypatch, asked, expected):
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    before = torch.get_num_threads()
    with torch_threads(asked):
        assert torch.get_num_threads() == expected
    assert torch.get_num_threads() == before


def test_threads_are_put_back_when_the_block_fails():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), torch_threads(before + 1):
        raise KeyError
    assert torch.get_num_threads() == before
