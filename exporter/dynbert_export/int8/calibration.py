"""What INT8 graphs are calibrated on, and how choices between them are judged by it.

Choices are made by trying: ranges from one half of the inputs, judged on the other half, and the other way round.
Judged on the same inputs, ways that clip look better than they are: all-MiniLM-L6-v2, built-in texts, ``percentile
99.999`` then has less error than ``minmax``, and on news twice as much.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dynbert.inputs import INPUT_IDS, LENGTH_CONFIG, add_lengths
from dynbert.lengths import LengthConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dynbert_export.data.feeds import Feed
    from dynbert_export.evaluation.agreement import AnswerMeasure

__all__ = ["Calibration", "Half", "full_length_feeds"]

_JUDGED_INPUTS = 8
"""Inputs of each half that a choice is judged on, at most: 1024 tokens, under a second for a MiniLM."""
_JUDGED_FOR_PARTS = 2
"""Inputs of each half whose short parts it is judged on as well."""
_SHORT_TOKENS = (2, 6, 20)
_PARTS = 4
"""Short parts of each length that a calibration input gives to the ranges. Tried by hand on all-MiniLM-L6-v2: an export
with and one without them, mean cosine of ``encode`` at precision int8 to that at fp32: texts of 1 word 0.9957 and
0.9952, of 8 words 0.9977 and 0.9974 (worst 0.9955 and 0.9907), of 256 tokens 0.9962 both. Parts of 1 token made it
worse (0.9934 for 256 tokens): what a lone token gives is an outlier to all others. So did choosing the way to a range
on whole inputs only, which took one that clips what short texts need."""


@dataclass(frozen=True)
class Half:
    """Every other calibration input, with short parts of it: attention over few tokens gives wider ranges."""

    inputs: tuple[Feed, ...]
    """All that ranges come from."""
    judged: tuple[Feed, ...]
    """The first of them, on which choices are judged."""


@dataclass(frozen=True)
class Calibration:
    """The inputs of the anytime graph, and what judges a candidate by them."""

    feeds: tuple[Feed, ...]
    """As from ``full_length_feeds``."""
    measure: AnswerMeasure
    """How far answers are from those of fp32."""
    threads: int | None
    """Threads that compute; None for the usable cores."""

    @cached_property
    def halves(self) -> tuple[Half, Half]:
        """Every other input, and the rest; the same twice where there is only one."""
        return _with_short_parts(self.feeds[::2]), _with_short_parts(self.feeds[1::2] or self.feeds)


def full_length_feeds(inputs: Iterable[Feed], num_layers: int, *, always_keep_cls_token: bool) -> tuple[Feed, ...]:
    """Return inputs for the anytime graph that drop nothing: ranges must hold for every token.

    Args:
        inputs: int64 arrays as from ``arrange_rows``.
        num_layers: Hidden layers.
        always_keep_cls_token: As the graph was traced.

    Returns:
        The inputs, with the length config.
    """
    everything = LengthConfig.everything(num_layers)
    return tuple(add_lengths(feed, everything, always_keep_cls_token=always_keep_cls_token) for feed in inputs)


def _with_short_parts(feeds: Sequence[Feed]) -> Half:
    """Return inputs with short parts of each."""
    judged = (*feeds[:_JUDGED_INPUTS], *_short_parts(feeds[:_JUDGED_FOR_PARTS]))
    return Half((*judged, *feeds[_JUDGED_INPUTS:], *_short_parts(feeds[_JUDGED_FOR_PARTS:])), judged)


def _short_parts(feeds: Sequence[Feed]) -> list[Feed]:
    parts: list[Feed] = []
    for feed in feeds:
        last = feed[INPUT_IDS].shape[-1] - 1
        for tokens in (count for count in _SHORT_TOKENS if count < last):
            starts = np.linspace(1, last - tokens, _PARTS + 2, dtype=np.int64)[1:-1]
            parts += [_cut(feed, [0, *range(start, start + tokens), last]) for start in starts]
    return parts


def _cut(feed: Feed, positions: Sequence[int]) -> Feed:
    """Return an input of these tokens only, of which nothing is dropped."""
    rows = {name: array[..., positions] for name, array in feed.items() if name != LENGTH_CONFIG}
    return {**rows, LENGTH_CONFIG: np.full_like(feed[LENGTH_CONFIG], len(positions))}
