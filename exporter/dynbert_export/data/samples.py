"""What a model is asked: texts and pairs of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Sample", "choose_samples"]


class Sample(NamedTuple):
    """One input of a model."""

    text: str
    """The text, or the question."""
    pair: str | None = None
    """The context of a question, or the second text of a pair."""


def choose_samples(samples: Sequence[Sample], count: int, *, seed: int) -> tuple[Sample, ...]:
    """Return a random part of the samples, in their order.

    Args:
        samples: To choose from.
        count: How many; all where there are no more.
        seed: Equal seeds choose equal parts.

    Returns:
        The samples chosen.
    """
    if count >= len(samples):
        return tuple(samples)
    chosen = np.random.default_rng(seed).choice(len(samples), size=count, replace=False)
    return tuple(samples[index] for index in sorted(chosen))
