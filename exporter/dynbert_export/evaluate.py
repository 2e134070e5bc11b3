"""Running graphs over texts, and what their answers say of them."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.inputs import ATTENTION_MASK, INPUT_IDS
from dynbert.manifest import Parity, Precision, Quality
from dynbert.session import open_session
from dynbert_export.agreement import compared_part, measure_agreement
from dynbert_export.errors import GateError
from dynbert_export.graph.names import LENGTH_INPUT
from dynbert_export.tasks import HEADS
from dynbert_export.variants import FP32_SET

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from dynbert.lengths import LengthConfig
    from dynbert_export.agreement import Outputs
    from dynbert_export.feeds import Feed
    from dynbert_export.job import Graphs, Job

__all__ = ["Answers", "graph_feed", "judge", "largest_difference", "run_graph"]


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


@dataclass(frozen=True)
class Answers:
    """What the answers of the graphs say of them, by file."""

    parities: dict[Path, Parity]
    """INT8 graphs against the fp32 graph of the same profile."""
    qualities: dict[Path, Quality]
    """Every profile but ``anytime`` against the fp32 graph that drops nothing."""


def judge(job: Job, graphs: Graphs) -> Answers:
    """Compare answers on the held-out texts.

    Args:
        job: The export.
        graphs: All graphs that were made.

    Returns:
        What was found.

    Raises:
        GateError: If an INT8 graph agrees less with fp32 than its gate asks for; names all that do.
    """
    parities: dict[Path, Parity] = {}
    feeds = job.texts.evaluation
    qualities: dict[Path, Quality] = {}
    full: list[Outputs] = []
    misses: list[str] = []
    task = job.checkpoint.task
    least = job.config.gates.int8_min_agreement(task)
    keep = functools.partial(compared_part, task, mask_token_id=job.mask_token_id)
    for variant in job.variants:
        own: list[Outputs] = []
        for graph_set in (FP32_SET, *(graph_set for graph_set in graphs if graph_set != FP32_SET)):
            path = graphs[graph_set][variant.name]
            outputs = run_graph(path, feeds, config=variant.input_config, threads=job.config.threads, keep=keep)
            full, own = full or outputs, own or outputs  # the first graph of all is fp32 full
            if graph_set.precision is Precision.INT8:
                agreement = _agreement(job, own, outputs)
                parities[path] = Parity(
                    inputs=job.texts.evaluation_samples,
                    near_ties=0,
                    max_abs_difference=largest_difference(own, outputs, feeds),
                    agreement=agreement,
                )
                if not agreement >= least:
                    misses.append(f"{path.name} {agreement:.4f}")
            if not variant.is_anytime:
                qualities[path] = Quality(
                    metric=HEADS[task].metric,
                    value=_agreement(job, full, outputs),
                    data=job.texts.name,
                    samples=job.texts.evaluation_samples,
                )
    if misses:
        raise GateError(
            f"INT8 graphs must agree with fp32 by at least {least:g} ({HEADS[task].metric} on "
            f"{job.texts.name}), got {', '.join(misses)}. Calibrate on texts of your own (--calibration), "
            "lower the gate in a recipe, or export fp32 (--quantize none)."
        )
    return Answers(parities, qualities)


def _agreement(job: Job, reference: list[Outputs], outputs: list[Outputs]) -> float:
    return measure_agreement(
        job.checkpoint.task,
        reference,
        outputs,
        job.texts.evaluation,
        pooling=job.checkpoint.pooling,
        problem_type=job.checkpoint.problem_type,
    )
