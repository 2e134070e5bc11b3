"""What candidates are asked: parts that grow, the same for all; retrieval by passages."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from dynbert.errors import InputError
from dynbert.manifest import Embeddings, Pooling, PoolingMode, Task
from dynbert.scoring.examples import LabelledData, PlainExample, TextExample
from dynbert.scoring.metrics import mean_metric
from dynbert.scoring.retrieval import score_retrieval
from dynbert_export.searching.examination import find_metric, make_examination
from dynbert_export.searching.splitting import Part
from tests.helpers.searching import make_model_info

_MODEL = make_model_info(labels=("no", "yes"))
_EMBEDDER = make_model_info(
    task=Task.FEATURE_EXTRACTION,
    embeddings=Embeddings.POOLED,
    pooling=Pooling(mode=PoolingMode.MEAN, normalize=True),
)


def _texts(count):
    examples = tuple(TextExample(f"text {number}", None, number % 2) for number in range(count))
    return Part(LabelledData(Task.TEXT_CLASSIFICATION, examples, ("no", "yes"), "single_label_classification", "t"))


def _queries(*, passages=80, each=3):
    pairs = tuple(
        PlainExample(f"query {number}.{of}", f"passage {number}", None)
        for number in range(passages)
        for of in range(each)
    )
    data = LabelledData(Task.FEATURE_EXTRACTION, pairs, (), None, "q")
    return Part(data, tuple(f"passage {number}" for number in range(passages)))


def _vectors(texts):
    """Embed a query next to its passage."""
    places = [int(text.split()[1].split(".")[0]) for text in texts]
    generator = np.random.default_rng(0)
    base = generator.normal(size=(200, 8))
    noise = [np.random.default_rng(list(text.encode())).normal(size=8) for text in texts]
    return base[places] + 0.7 * np.array(noise)


@pytest.mark.parametrize(("count", "sizes"), [(20, [20]), (100, [50, 100]), (400, [50, 100, 200, 400])])
def test_parts_grow_and_begin_alike(count, sizes):
    jobs = make_examination(_MODEL, _texts(count), seed=0, embed_queries=None).jobs
    assert [len(job.inputs) for job in jobs] == sizes
    for before, after in pairwise(jobs):
        assert list(after.inputs[: len(before.inputs)]) == list(before.inputs)


def test_the_order_is_random_and_the_seeds():
    one, again, other = (
        make_examination(_MODEL, _texts(100), seed=seed, embed_queries=None).whole for seed in (0, 0, 1)
    )
    assert list(one.inputs) == list(again.inputs) != list(other.inputs)
    assert list(one.inputs) != sorted(one.inputs, key=lambda each: int(each.text.split()[1]))


@pytest.mark.parametrize("embed", [_vectors, None])
def test_retrieval_asks_more_and_more_passages(embed):
    part = _queries()
    jobs = make_examination(_EMBEDDER, part, seed=0, embed_queries=embed).jobs
    assert len(jobs) == 2
    for before, after in pairwise(jobs):
        assert list(after.inputs[: len(before.inputs)]) == list(before.inputs)
    assert len(jobs[-1].inputs) == (80 if embed else 80 + 240)
    for job, queries in zip(jobs, (120, 240), strict=True):
        [metric, *_] = job.score(_vectors(job.inputs))
        assert (metric.name, metric.examples) == ("ndcg@10", queries)


def test_retrieval_scores_are_those_of_all_queries_and_passages():
    """The same numbers as without parts and orders, whoever embeds the queries."""
    part = _queries()
    queries, passages = [pair.text for pair in part.data.examples], list(part.passages)
    relevant = [[passages.index(pair.pair)] for pair in part.data.examples]
    expected = {each.name: each.value for each in score_retrieval(_vectors(queries), _vectors(passages), relevant)}
    assert 0.2 < expected["recall@1"] < 1.0
    for embed in (_vectors, None):
        job = make_examination(_EMBEDDER, part, seed=3, embed_queries=embed).whole
        assert {each.name: each.value for each in job.score(_vectors(job.inputs))} == pytest.approx(expected)


def test_passages_that_belong_to_no_query_of_the_part_are_searched_too():
    part = _queries()
    few = Part(LabelledData(part.data.task, part.data.examples[:48], (), None, "q"), part.passages)
    job = make_examination(_EMBEDDER, few, seed=0, embed_queries=_vectors).whole
    assert len(job.inputs) == 80
    assert job.score(_vectors(job.inputs))[0].examples == 48


def test_the_metric_is_the_main_one_or_the_one_that_was_named():
    metrics = (mean_metric("accuracy", [1, 0]), mean_metric("f1", [1, 1]))
    assert find_metric(metrics, None).name == "accuracy"
    assert find_metric(metrics, "f1").name == "f1"
    with pytest.raises(InputError, match="metric must be one of accuracy, f1, got 'recall'"):
        find_metric(metrics, "recall")
