"""Running graphs over feeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.inputs import ATTENTION_MASK, INPUT_IDS
from dynbert.session import open_session
from dynbert_export.graph.names import LENGTH_INPUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dynbert.lengths import LengthConfig
    from dynbert_export.data.feeds import Feed
    from dynbert_export.evaluation.agreement import Outputs

__all__ = ["graph_feed", "largest_difference", "run_graph"]


def graph_feed(session: Any, feed: Feed, config: LengthConfig | None) -> dict[str, Any]:
    """Return what a session takes of a feed, with lengths for an anytime graph.

    Args:
        session: An open graph.
        feed: int64 arrays, as from ``arrange_rows``.
        config: Length config of an anytime graph.

    Returns:
        Input name -> array.
    """
    names = {value.name for value in session.get_inputs()}
    taken: dict[str, Any] = {name: array for name, array in feed.items() if name in names}
    if config is not None and LENGTH_INPUT in names:
        taken[LENGTH_INPUT] = np.array(config.resolve(feed[INPUT_IDS].shape[-1]), dtype=np.int64)
    return taken


def run_graph(
    path: Path,
    feeds: Sequence[Feed],
    *,
    config: LengthConfig | None = None,
    threads: int | None = None,
    keep: Callable[[Outputs, Feed], Outputs] | None = None,
) -> list[Outputs]:
    """Run a graph on every feed.

    Args:
        path: The graph.
        feeds: int64 arrays, as from ``arrange_rows``.
        config: Length config of an anytime graph.
        threads: Threads that compute; None for the usable cores.
        keep: Takes a feed's outputs before the next feed runs, and returns what is kept of them; None keeps all.

    Returns:
        The outputs by name, one mapping a feed.
    """
    session = open_session(path, threads=threads)
    names = [value.name for value in session.get_outputs()]
    kept = []
    for feed in feeds:
        outputs = dict(zip(names, session.run(None, graph_feed(session, feed, config)), strict=True))
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
            valid = difference[mask] if array.shape[: mask.ndim] == mask.shape else difference
            largest = max(largest, float(valid.max(initial=0.0)))
    return largest
