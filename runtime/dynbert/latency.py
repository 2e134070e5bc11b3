"""Latency of a graph: the median of several runs on unpadded random ids.

One thread by default, because that is repeatable on a busy machine and ratios between graphs are what a reader wants.
The exporter records these numbers in a bundle; ``dynbert bench`` measures them again where the bundle runs.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

from dynbert.inputs import add_lengths, arrange_rows
from dynbert.manifest import Latency
from dynbert.session import open_graph
from dynbert.sweep import random_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dynbert.lengths import LengthConfig
    from dynbert.manifest import ModelInfo
    from dynbert.session import Graph

__all__ = ["latency_lengths", "measure_latency"]

_TOKENS = (16, 32, 64, 128)
_WARM_UP_RUNS = 2
_MIN_RUNS = 5
_MAX_RUNS = 60
_SECONDS = 0.5
"""After this long, and ``_MIN_RUNS``, one length is done."""


def latency_lengths(max_length: int) -> tuple[int, ...]:
    """Return the input lengths that latency is measured at.

    Args:
        max_length: Longest input in tokens.

    Returns:
        16, 32, 64, 128 and ``max_length``; none longer than that.
    """
    return tuple(sorted({tokens for tokens in _TOKENS if tokens < max_length} | {max_length}))


def measure_latency(
    path: Path, model: ModelInfo, lengths: Sequence[int], *, config: LengthConfig | None = None, threads: int = 1
) -> tuple[Latency, ...]:
    """Measure a graph, batch 1.

    Args:
        path: The graph.
        model: What it was made from; gives the task and the range of ids.
        lengths: Input lengths in tokens.
        config: Length config of an anytime graph.
        threads: Threads that compute.

    Returns:
        The median for each length, in milliseconds.

    Raises:
        BundleError: If the graph cannot be opened or run.
        InputError: If the process shares a pool of another size than ``threads``.
    """
    graph = open_graph(path, threads=threads)
    generator = np.random.default_rng(0)
    latencies = []
    for tokens in lengths:
        rows = arrange_rows(random_rows(generator, (1, tokens), model), model.task)
        feed = add_lengths(rows, config, always_keep_cls_token=model.always_keep_cls_token)
        seconds = _time_runs(graph, graph.select(feed))
        latencies.append(Latency(tokens=tokens, batch=1, threads=threads, median_ms=1e3 * statistics.median(seconds)))
    return tuple(latencies)


def _time_runs(graph: Graph, feed: Mapping[str, NDArray[np.int64]]) -> list[float]:
    """Return the seconds of each counted run."""
    for _ in range(_WARM_UP_RUNS):
        graph.run(feed)
    seconds: list[float] = []
    while len(seconds) < _MIN_RUNS or (sum(seconds) < _SECONDS and len(seconds) < _MAX_RUNS):
        start = time.perf_counter()
        graph.run(feed)
        seconds.append(time.perf_counter() - start)
    return seconds
