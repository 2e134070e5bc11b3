"""How well a bundle answers labelled data, through the calls that its users make.

Texts go in, answers come out, and they are what is scored: windows over long texts and whole words are part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynbert.errors import InputError
from dynbert.lengths import LengthConfig
from dynbert.manifest import FULL, Task
from dynbert.scoring.jobs import make_job
from dynbert.scoring.metrics import Scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dynbert.model import DynamicBert
    from dynbert.scoring.examples import LabelledData
    from dynbert.scoring.jobs import Job

__all__ = ["answer_all", "evaluate", "make_answerer"]

_TOGETHER = 256
"""Inputs of a call: enough to sort by length, and their encodings fit in memory."""
_READ_IN_WINDOWS = {Task.QUESTION_ANSWERING, Task.TOKEN_CLASSIFICATION}
"""Tasks that cut nothing."""


def evaluate(
    model: DynamicBert,
    data: LabelledData,
    *,
    profile: str | None = None,
    length_config: LengthConfig | str | Iterable[int | float] | None = None,
    query_profile: str | None = None,
    truncate: bool = False,
) -> Scores:
    """Run one graph of a bundle over labelled data and score its answers.

    Args:
        model: The bundle; ``dynbert.load`` decides on precision and threads.
        data: Of the bundle's task, best loaded with ``label_names`` of the bundle's labels. For embeddings: pairs with
            scores; or pairs of query and passage, where each passage is to be found among all; or questions, which are
            to find the contexts that answer them.
        profile: Name of a profile; None for ``full``.
        length_config: In place of a profile, one number a layer.
        query_profile: For retrieval: the profile that embeds the queries; None for the one that embeds the passages.
        truncate: Whether to cut texts that are too long; else they are refused.

    Returns:
        The scores.

    Raises:
        InputError: If the data is not for the bundle's task or of other labels, a text is too long, or the bundle has
            no graph for what was asked.
        BundleError: If a file of the bundle turns out not to work.
        MissingPackageError: If a package of the extra ``eval`` is missing that a metric needs.
    """
    job = make_job(model.manifest.model, data, has_own_queries=query_profile is not None)
    config = None if length_config is None else LengthConfig.of(length_config)
    answer = make_answerer(model, job, profile=profile, length_config=config, truncate=truncate)
    asking = make_answerer(model, job, profile=query_profile, truncate=truncate)
    answers = [*answer_all(asking, job.queries, data.name), *answer_all(answer, job.inputs, data.name)]
    return Scores(
        data=data.name,
        task=model.task,
        profile=(profile or FULL) if config is None else str(config),
        examples=len(data.examples),
        metrics=job.score(answers),
    )


def make_answerer(
    model: DynamicBert,
    job: Job,
    *,
    profile: str | None = None,
    length_config: LengthConfig | None = None,
    truncate: bool = False,
) -> Callable[[Sequence[Any]], Sequence[Any]]:
    """Return a function that answers inputs of a job.

    Args:
        model: The bundle.
        job: Whose inputs.
        profile: Name of a profile; None for ``full``.
        length_config: In place of a profile.
        truncate: Whether to cut texts that are too long; else they are refused.

    Returns:
        Some inputs -> an answer each.
    """
    options: dict[str, Any] = {"profile": profile, "length_config": length_config}
    if model.task not in _READ_IN_WINDOWS:
        options["truncate"] = truncate

    def answer(some: Sequence[Any]) -> Sequence[Any]:
        return list(model(**job.arguments(some), **options))

    return answer


def answer_all(
    answer: Callable[[Sequence[Any]], Sequence[Any]],
    inputs: Sequence[Any],
    source: str,
    *,
    on_answers: Callable[[int], object] | None = None,
) -> list[Any]:
    """Answer all inputs, so many at a time that memory stays bounded.

    Args:
        answer: As ``make_answerer`` returns it.
        inputs: What to answer.
        source: What messages call the inputs' data.
        on_answers: Called with how many were answered since the last time.

    Returns:
        An answer each.

    Raises:
        InputError: If an input breaks a rule.
        BundleError: If a file of the bundle turns out not to work.
    """
    answers: list[Any] = []
    for start in range(0, len(inputs), _TOGETHER):
        some = inputs[start : start + _TOGETHER]
        try:
            answers += answer(some)
        except InputError as err:
            if len(inputs) <= _TOGETHER:
                raise
            raise InputError(f"From input {start} of {source} on: {err}") from err
        if on_answers is not None:
            on_answers(len(some))
    return answers
