"""How well a bundle answers labelled data, through the calls that its users make.

Texts go in, answers come out, and they are what is scored: windows over long texts and whole words are part of it.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.lengths import LengthConfig
from dynbert.manifest import FULL, Task
from dynbert.scoring.jobs import make_job
from dynbert.scoring.metrics import Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dynbert.model import DynamicBert
    from dynbert.scoring.examples import LabelledData

__all__ = ["evaluate"]

_TOGETHER = 1024
"""Inputs of a call: enough to sort by length, and their encodings fit in memory."""
_READ_IN_WINDOWS = {Task.QUESTION_ANSWERING, Task.TOKEN_CLASSIFICATION}
"""Tasks that cut nothing."""


def evaluate(
    model: DynamicBert,
    data: LabelledData,
    *,
    profile: str | None = None,
    length_config: LengthConfig | str | Iterable[int | float] | None = None,
    truncate: bool = False,
    timed_inputs: int = 0,
) -> Scores:
    """Run one graph of a bundle over labelled data and score its answers.

    Args:
        model: The bundle; ``dynbert.load`` decides on precision and threads.
        data: Of the bundle's task, best loaded with ``label_names`` of the bundle's labels. For embeddings: pairs with
            scores; or pairs of query and passage, where each passage is to be found among all; or questions, which are
            to find the contexts that answer them.
        profile: Name of a profile; None for ``full``.
        length_config: In place of a profile, one number a layer.
        truncate: Whether to cut texts that are too long; else they are refused.
        timed_inputs: How many texts (pairs, questions) to time as well, one by one; 0 for none.

    Returns:
        The scores.

    Raises:
        InputError: If the data is not for the bundle's task or of other labels, a text is too long, or the bundle has
            no graph for what was asked.
        BundleError: If a file of the bundle turns out not to work.
        MissingPackageError: If a package of the extra ``eval`` is missing that a metric needs.
    """
    job = make_job(model.manifest.model, data)
    config = None if length_config is None else LengthConfig.of(length_config)
    options: dict[str, Any] = {"profile": profile, "length_config": config}
    if model.task not in _READ_IN_WINDOWS:
        options["truncate"] = truncate

    def answer(some: Sequence[Any]) -> Any:
        return model(**job.arguments(some), **options)

    answers: list[Any] = []
    for start in range(0, len(job.inputs), _TOGETHER):
        some = job.inputs[start : start + _TOGETHER]
        try:
            answers += list(answer(some))
        except InputError as err:
            if len(job.inputs) <= _TOGETHER:
                raise
            raise InputError(f"From input {start} of {data.name} on: {err}") from err
    return Scores(
        data=data.name,
        task=model.task,
        profile=(profile or FULL) if config is None else str(config),
        examples=len(data.examples),
        metrics=job.score(answers),
        median_ms=_median_ms(answer, job.inputs, timed_inputs) if timed_inputs > 0 else None,
    )


def _median_ms(answer: Callable[[Sequence[Any]], Any], inputs: Sequence[Any], count: int) -> float:
    """Return the median time of inputs alone, taken evenly from all of them."""
    places = np.unique(np.linspace(0, len(inputs) - 1, min(count, len(inputs))).round().astype(int))
    times = []
    for place in (places[0], *places):  # the first run warms up
        start = time.perf_counter()
        answer([inputs[place]])
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times[1:])
