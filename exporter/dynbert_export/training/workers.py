"""Which of several processes this is, where ``torchrun`` or ``accelerate launch`` started it: all train, one writes."""

from __future__ import annotations

import os

__all__ = ["count_workers", "is_writer"]


def is_writer() -> bool:
    """Return whether this process writes and reports.

    Returns:
        True for the first of all, and for one alone.
    """
    return int(os.environ.get("RANK", "0")) == 0


def count_workers() -> int:
    """Return how many processes train one model.

    Returns:
        At least 1.
    """
    return int(os.environ.get("WORLD_SIZE", "1"))
