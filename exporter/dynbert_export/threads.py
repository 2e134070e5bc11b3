"""How many threads PyTorch computes on."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from dynbert.cpu import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["torch_threads"]


@contextlib.contextmanager
def torch_threads(threads: int | None) -> Iterator[None]:
    """Let PyTorch compute on so many threads, and on as many as before afterwards.

    Args:
        threads: How many; None for the cores that this process may use.

    Yields:
        Nothing.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or usable_cores())
    try:
        yield
    finally:
        torch.set_num_threads(before)
