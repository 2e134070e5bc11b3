"""How well embeddings find the passages that belong to a query, among all passages of the data.

Passages are put in order by the cosine to the query; of equal ones the first comes first. Every passage that belongs to
a query is as relevant as any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.scoring.metrics import ScoredMetric, mean_metric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["score_order", "score_retrieval"]

_CUT = 10
"""How far down a list of passages is looked at."""
_QUERIES_AT_ONCE = 256
"""Queries whose cosines to all passages are in memory at a time."""


def score_retrieval(
    queries: ArrayLike, passages: ArrayLike, relevant: Sequence[Sequence[int]]
) -> tuple[ScoredMetric, ...]:
    """Score embeddings of queries and passages.

    Args:
        queries: [queries, hidden].
        passages: [passages, hidden].
        relevant: For each query the passages that belong to it, by index; at least one.

    Returns:
        Means over queries: ``ndcg@10``, ``mrr@10`` (1 by the rank of the first that belongs, 0 behind the tenth),
        ``recall@1`` and ``recall@10`` (the share of those that belong among the first).
    """
    asked, known = _as_unit(queries), _as_unit(passages)
    ranks = []
    for start in range(0, len(asked), _QUERIES_AT_ONCE):
        cosines = asked[start : start + _QUERIES_AT_ONCE] @ known.T
        ranks += [_ranks(row, relevant[start + number]) for number, row in enumerate(cosines)]
    return (
        mean_metric(f"ndcg@{_CUT}", map(_ndcg, ranks), unit="queries"),
        mean_metric(f"mrr@{_CUT}", map(_reciprocal_rank, ranks), unit="queries"),
        mean_metric("recall@1", (_recall(of_query, 1) for of_query in ranks), unit="queries"),
        mean_metric(f"recall@{_CUT}", (_recall(of_query, _CUT) for of_query in ranks), unit="queries"),
    )


def score_order(queries: Sequence[str], gold: Sequence[float], predicted: Sequence[float]) -> tuple[ScoredMetric, ...]:
    """Score how a ranker orders the texts of each query.

    Args:
        queries: The query of each pair.
        gold: How well the pair fits; more than 0 is relevant.
        predicted: The ranker's score.

    Returns:
        Means over the queries with texts of both kinds: ``ndcg@10`` and ``mrr@10``; none where there is no such query.
    """
    places: dict[str, list[int]] = {}
    for place, query in enumerate(queries):
        places.setdefault(query, []).append(place)
    right, answered = np.asarray(gold, np.float64), np.asarray(predicted, np.float64)
    ranks = []
    for of_query in places.values():
        is_relevant = right[of_query] > 0
        if is_relevant.any() and not is_relevant.all():
            ranks.append(_ranks(answered[of_query], np.flatnonzero(is_relevant).tolist()))
    if not ranks:
        return ()
    return (
        mean_metric(f"ndcg@{_CUT}", map(_ndcg, ranks), unit="queries"),
        mean_metric(f"mrr@{_CUT}", map(_reciprocal_rank, ranks), unit="queries"),
    )


def _as_unit(embeddings: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(embeddings, np.float64)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float64).tiny))


def _ranks(scores: NDArray[Any], relevant: Sequence[int]) -> NDArray[np.int64]:
    """Return the ranks from 1 of those that belong, in order."""
    order = np.argsort(-scores, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    return np.sort(rank[list(relevant)])


def _ndcg(ranks: NDArray[np.int64]) -> float:
    gained = (1 / np.log2(1 + ranks[ranks <= _CUT])).sum()
    ideal = (1 / np.log2(1 + np.arange(1, min(len(ranks), _CUT) + 1))).sum()
    return float(gained / ideal)


def _reciprocal_rank(ranks: NDArray[np.int64]) -> float:
    return float(1 / ranks[0]) if ranks[0] <= _CUT else 0.0


def _recall(ranks: NDArray[np.int64], cut: int) -> float:
    return float((ranks <= cut).mean())
