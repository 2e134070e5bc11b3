"""Measures what the time model is fitted to: the anytime graph under many lengths, and a handful of frozen graphs.

The anytime graph costs nothing to try another config, so it shows how time follows from lengths; frozen graphs show
what becomes faster when lengths are frozen in. All are measured at the data's own lengths.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dynbert.inputs import add_lengths, arrange_rows
from dynbert.sweep import random_rows
from dynbert_export.searching.measuring import Turn, measure_turns
from dynbert_export.searching.time_model import Measurement, fit_time_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dynbert.manifest import ModelInfo
    from dynbert_export.progress import StepProgress
    from dynbert_export.searching.asking import Respondent
    from dynbert_export.searching.candidate import Candidate
    from dynbert_export.searching.graphs import SearchGraphs
    from dynbert_export.searching.lengths_of_data import DataLengths
    from dynbert_export.searching.space import Space
    from dynbert_export.searching.time_model import TimeModel
    from dynbert_export.searching.workplace import Workplace

__all__ = ["make_turn", "measure_time_model"]

_ANYTIME_CONFIGS = 48
_DRAWN_FROZEN = 3
_FROZEN_SHARES = (0.6, 0.3)
"""Of a uniform config and of a staircase that are frozen."""
_ROUNDS = 8


def make_turn(respondent: Respondent, tokens: int, model: ModelInfo) -> Turn:
    """Return one input of a length for a graph, of random tokens without padding.

    Args:
        respondent: The graph; where it takes lengths, those are fed.
        tokens: In the input.
        model: What the graph was made from.

    Returns:
        What is to be timed.
    """
    rows = arrange_rows(random_rows(np.random.default_rng(tokens), (1, tokens), model), model.task)
    feed = add_lengths(rows, respondent.lengths, always_keep_cls_token=model.always_keep_cls_token)
    return Turn(respondent.graph, respondent.graph.select(feed))


def measure_time_model(
    graphs: SearchGraphs,
    space: Space,
    lengths: DataLengths,
    workplace: Workplace,
    progress: StepProgress,
    *,
    seed: int,
) -> TimeModel:
    """Measure, and fit the time model.

    Args:
        graphs: Of the working bundle.
        space: Whose configs are measured.
        lengths: Of the data.
        workplace: Frozen graphs are written there.
        progress: Told of rounds.
        seed: Which configs.

    Returns:
        The model.
    """
    generator = np.random.default_rng(seed)
    drawer = replace(space, most_left_out=0)  # a layer less is one term less: no graphs are made to learn that
    uniform, staircase = _FROZEN_SHARES
    frozen = [space.full(), space.uniform(uniform), space.staircase(staircase)]
    frozen += [drawer.draw(generator) for _ in range(_DRAWN_FROZEN)]
    if space.most_left_out:
        frozen.append(space.leave_out(space.uniform(uniform), [0]))
        frozen.append(space.leave_out(space.full(), range(space.most_left_out)))
    named = {f"timed-{number}": candidate for number, candidate in enumerate(frozen)}
    with progress.stage("freeze graphs to time"):
        respondents = graphs.freeze(named, workplace.frozen / "timed")
    plan: list[tuple[Candidate, int, bool]] = []
    turns: list[Turn] = []
    for number in range(_ANYTIME_CONFIGS):
        tokens = lengths.sample[number % len(lengths.sample)]
        share = float(generator.uniform(0.1, 1.0))
        shapes = (drawer.draw(generator), drawer.draw(generator), space.uniform(share), space.staircase(share))
        candidate = shapes[number // len(lengths.sample) % len(shapes)]
        plan.append((candidate, tokens, False))
        turns.append(make_turn(graphs.ask_candidate(candidate), tokens, graphs.model))
    for name, candidate in named.items():
        for tokens in sorted({*lengths.sample[::2], lengths.longest}):
            plan.append((candidate, tokens, True))
            turns.append(make_turn(respondents[name], tokens, graphs.model))
    with progress.steps("measure times") as update:
        seconds: NDArray[np.float64] = measure_turns(
            turns, rounds=_ROUNDS, seed=seed, threads=graphs.threads, on_round=lambda done: update(done, _ROUNDS, "")
        )
    measurements = [Measurement(*each, float(second)) for each, second in zip(plan, seconds, strict=True)]
    return fit_time_model(measurements, space.body)
