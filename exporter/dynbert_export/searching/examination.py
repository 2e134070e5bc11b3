"""What a candidate is asked to show its quality: few examples first, then more, then all.

The examples are in one random order, so that every candidate is asked the same first eighth, fourth, half. A candidate
that is hopeless after one of these parts (``resampling.py``) is not asked any further.

For retrieval the parts are of passages, since it is passages that a candidate embeds: each query whose passages are all
among the first ones looks for them there. Few passages are easier to tell apart than all, which is why quality is
compared within a part alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.scoring.jobs import Job, make_job
from dynbert.scoring.retrieval import score_retrieval
from dynbert_export.searching.splitting import FEWEST_EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from dynbert.manifest import ModelInfo
    from dynbert.scoring.examples import LabelledData
    from dynbert.scoring.metrics import ScoredMetric
    from dynbert_export.searching.splitting import Part

__all__ = ["Embed", "Examination", "find_metric", "make_examination"]

_SHARES = (0.125, 0.25, 0.5, 1.0)
_FEWEST_AT_FIRST = 2 * FEWEST_EXAMPLES
"""Examples, or passages, of a part that can tell anything."""

Embed = "Callable[[Sequence[str]], NDArray[np.float32]]"
"""Texts -> vectors, [texts, hidden]."""


@dataclass(frozen=True)
class Examination:
    """Jobs that grow: the inputs of each begin with those of the one before."""

    jobs: tuple[Job, ...]
    """At least one; the last has all examples."""

    @property
    def whole(self) -> Job:
        """The job with all examples."""
        return self.jobs[-1]


def find_metric(metrics: Sequence[ScoredMetric], name: str | None) -> ScoredMetric:
    """Return the metric that is maximised.

    Args:
        metrics: Of some answers, the main one first.
        name: Its name; None for the main one.

    Returns:
        The metric.

    Raises:
        InputError: If there is none of this name.
    """
    for metric in metrics:
        if name in {None, metric.name}:
            return metric
    raise InputError(f"metric must be one of {', '.join(each.name for each in metrics)}, got {name!r}.")


def make_examination(
    model: ModelInfo, part: Part, *, seed: int, embed_queries: Callable[[Sequence[str]], NDArray[Any]] | None
) -> Examination:
    """Plan how candidates are judged by a part of the data.

    Args:
        model: The bundle's.
        part: The examples.
        seed: Of their order.
        embed_queries: Retrieval: embeds queries, [queries, hidden]; None where the candidate itself is to.

    Returns:
        The examination.

    Raises:
        InputError: If the data does not suit the bundle.
    """
    generator = np.random.default_rng(seed)
    if part.passages:
        passages = [part.passages[place] for place in generator.permutation(len(part.passages))]
        return Examination(tuple(_make_retrievals(part.data, passages, embed_queries)))
    order = generator.permutation(len(part.data.examples))
    data = replace(part.data, examples=tuple(part.data.examples[place] for place in order))
    return Examination(
        tuple(make_job(model, replace(data, examples=data.examples[:count])) for count in _sizes(len(order)))
    )


def _sizes(count: int) -> list[int]:
    """Return how many examples each part has, the last one all."""
    sizes = [round(share * count) for share in _SHARES]
    return [size for size in sizes if size >= _FEWEST_AT_FIRST or size == count]


def _make_retrievals(
    data: LabelledData,
    passages: Sequence[str],
    embed_queries: Callable[[Sequence[str]], NDArray[Any]] | None,
) -> Iterator[Job]:
    """Yield the job of each part of the passages that has enough queries."""
    place = {passage: number for number, passage in enumerate(passages)}
    relevant: dict[str, list[int]] = {}
    pairs: Any = data.examples
    for pair in pairs:
        relevant.setdefault(pair.text, []).append(place[pair.pair])
    queries = sorted(relevant, key=lambda query: max(relevant[query]))  # in the order in which they can be asked
    vectors = None if embed_queries is None else embed_queries(queries)
    for count in _sizes(len(passages)):
        asked = [query for query in queries if max(relevant[query]) < count]
        if len(asked) >= FEWEST_EXAMPLES or count == len(passages):
            yield _make_retrieval(passages[:count], {query: relevant[query] for query in asked}, vectors)


def _make_retrieval(
    passages: Sequence[str], relevant: Mapping[str, Sequence[int]], vectors: NDArray[Any] | None
) -> Job:
    """Return the job of queries that look for their passages among some; without vectors it embeds them, too."""
    queries = list(relevant)
    if vectors is not None:
        known = vectors[: len(queries)]
        return Job(
            passages,
            lambda some: {"texts": list(some)},
            lambda answers: score_retrieval(known, np.stack(list(answers)), list(relevant.values())),
        )
    texts = [text for text, _ in sorted(_list_texts(passages, relevant), key=lambda item: item[1])]
    at = {text: number for number, text in enumerate(texts)}

    def score(answers: Sequence[Any]) -> tuple[ScoredMetric, ...]:
        embedded = np.stack(list(answers))  # [texts, hidden]
        asked = embedded[[at[query] for query in queries]]
        return score_retrieval(asked, embedded[[at[passage] for passage in passages]], list(relevant.values()))

    return Job(texts, lambda some: {"texts": list(some)}, score)


def _list_texts(
    passages: Sequence[str], relevant: Mapping[str, Sequence[int]]
) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each text once with its place: a passage, then the queries that can be asked from it on.

    So the texts of few passages are the first of those of more.
    """
    seen: set[str] = set()
    for number, passage in enumerate(passages):
        if passage not in seen:
            seen.add(passage)
            yield passage, (number, 0)
    for number, (query, places) in enumerate(relevant.items()):
        if query not in seen:
            seen.add(query)
            yield query, (max(places), 1 + number)
