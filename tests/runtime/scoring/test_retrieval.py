"""Retrieval against a plain reading of its definitions, and scikit-learn's nDCG."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from dynbert.scoring.retrieval import score_order, score_retrieval


def _plain(queries, passages, relevant):
    """Return the four means, query by query and passage by passage."""
    values = []
    for query, of_query in zip(queries, relevant, strict=True):
        cosines = [float(query @ passage / np.linalg.norm(query) / np.linalg.norm(passage)) for passage in passages]
        order = sorted(range(len(passages)), key=lambda index: -cosines[index])
        first = next(rank for rank, index in enumerate(order, start=1) if index in of_query)
        gold = [[float(index in of_query) for index in range(len(passages))]]
        values.append(
            (
                ndcg_score(gold, [cosines], k=10),
                1 / first if first <= 10 else 0,
                len(set(order[:1]) & set(of_query)) / len(of_query),
                len(set(order[:10]) & set(of_query)) / len(of_query),
            )
        )
    return np.mean(values, axis=0)


@pytest.mark.parametrize("queries_at_once", [3, 256])
def test_retrieval_agrees_with_its_definitions(monkeypatch, queries_at_once):
    monkeypatch.setattr("dynbert.scoring.retrieval._QUERIES_AT_ONCE", queries_at_once)
    rng = np.random.default_rng(0)
    passages = rng.normal(size=(40, 4)) * rng.random((40, 1))
    relevant = [rng.choice(40, rng.integers(1, 15), replace=False).tolist() for _ in range(20)]
    queries = np.array([passages[of_query].mean(axis=0) + 0.3 * rng.normal(size=4) for of_query in relevant])
    metrics = score_retrieval(queries, passages, relevant)
    assert [metric.name for metric in metrics] == ["ndcg@10", "mrr@10", "recall@1", "recall@10"]
    np.testing.assert_allclose([metric.value for metric in metrics], _plain(queries, passages, relevant), atol=1e-9)
    assert all(0.01 < metric.value < 1 and metric.unit == "queries" and metric.examples == 20 for metric in metrics)


def test_of_equal_passages_the_first_comes_first():
    same = np.ones((3, 2))
    assert score_retrieval(same[:1], same, [[0]])[2].value == 1.0
    assert score_retrieval(same[:1], same, [[1]])[2].value == 0.0


def test_a_passage_behind_the_tenth_is_not_found():
    passages = np.array([[1.0, number] for number in range(12)])
    values = [metric.value for metric in score_retrieval([[1.0, 0.0]], passages, [[11]])]
    assert values == [0.0, 0.0, 0.0, 0.0]


def test_order_is_judged_within_the_queries_that_have_both_kinds():
    queries = ["a", "b", "a", "c", "b", "a"]
    gold, predicted = [1, 1, 0, 1, 1, 0], [0.5, 0.1, 0.9, 0.3, 0.2, 0.1]
    metrics = {metric.name: metric for metric in score_order(queries, gold, predicted)}
    assert metrics["mrr@10"].per_example == (0.5,)
    assert metrics["ndcg@10"].value == pytest.approx(ndcg_score([[1, 0, 0]], [[0.5, 0.9, 0.1]], k=10))
    assert score_order(["a", "b"], [1, 0], [0.1, 0.2]) == ()
