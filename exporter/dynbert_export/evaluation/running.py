"""Running graphs over feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynbert.inputs import ATTENTION_MASK, add_lengths
from dynbert.outputs import has_positions
from dynbert.session import open_graph

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dynbert.lengths import LengthConfig
    from dynbert_export.data.feeds import Feed
    from dynbert_export.evaluation.agreement import Outputs

__all__ = ["largest_difference", "run_graph"]


def run_graph(
    path: Path,
    feeds: Sequence[Feed],
    *,
    config: LengthConfig | None = None,
    always_keep_cls_token: bool,
    threads: int | None = None,
    keep: Callable[[Outputs, Feed], Outputs] | None = None,
) -> list[Outputs]:
    """Run a graph on every feed.

    Args:
        path: The graph.
        feeds: int64 arrays, as from ``arrange_rows``.
        config: Length config of an anytime graph.
        always_keep_cls_token: As the graph was traced.
        threads: Threads that compute; None for the usable cores.
        keep: Takes a feed's outputs before the next feed runs, and returns what is kept of them; None keeps all.

    Returns:
        The outputs by name, one mapping a feed.
    """
    graph = open_graph(path, threads=threads)
    kept = []
    for feed in feeds:
        outputs = graph.run(add_lengths(feed, config, always_keep_cls_token=always_keep_cls_token))
        kept.append(keep(outputs, feed) if keep else outputs)
    return kept


def largest_difference(reference: Sequence[Outputs], outputs: Sequence[Outputs], feeds: Sequence[Feed]) -> float:
    """Return the largest difference of two graphs' outputs, at valid positions where an output has positions.

    Args:
        reference: Outputs of one graph for each feed.
        outputs: Outputs of the other.
        feeds: What both ran on.

    Returns:
        The largest absolute difference.
    """
    largest = 0.0
    for wanted, got, feed in zip(reference, outputs, feeds, strict=True):
        mask = feed[ATTENTION_MASK].astype(bool)
        for name, array in wanted.items():
            difference = np.abs(array.astype(np.float64) - got[name])
            valid = difference[mask] if has_positions(name, array, mask) else difference
            largest = max(largest, float(valid.max(initial=0.0)))
    return largest
