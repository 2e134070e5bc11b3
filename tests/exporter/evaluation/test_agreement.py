"""Agreement: what counts as the same answer, task by task, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.errors import InputError
from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert_export.evaluation.agreement import _MEASURES, AnswerMeasure
from dynbert_export.evaluation.running import largest_difference
from dynbert_export.tasks import Metric

_MEAN = Pooling(mode=PoolingMode.MEAN, normalize=False)
_CLS = Pooling(mode=PoolingMode.CLS, normalize=True)


def _feed(*lengths, tokens=4):
    mask = (np.arange(tokens)[None] < np.array(lengths)[:, None]).astype(np.int64)
    return {"input_ids": np.ones_like(mask), "attention_mask": mask}


def _classify(wanted, got, problem_type=None):
    wanted, got = np.array(wanted, np.float32), np.array(got, np.float32)
    feeds = [_feed(*[4] * len(wanted))]
    measure = AnswerMeasure(Task.TEXT_CLASSIFICATION, problem_type)
    return measure.agreement([{"logits": wanted}], [{"logits": got}], feeds)


def test_every_metric_is_measured():
    assert set(_MEASURES) == set(Metric)


@pytest.mark.parametrize("pooling", [_MEAN, _CLS])
def test_cosine_is_the_mean_over_texts(pooling):
    generator = np.random.default_rng(0)
    feeds = [_feed(4, 2), _feed(3)]
    wanted, got = (
        [generator.normal(size=(len(feed["input_ids"]), 4, 6)).astype(np.float32) for feed in feeds] for _ in range(2)
    )
    cosines = []
    for feed, a, b in zip(feeds, wanted, got, strict=True):
        for row, count in enumerate(feed["attention_mask"].sum(axis=1)):
            kept = 1 if pooling is _CLS else count
            x, y = (states[row, :kept].astype(np.float64).mean(axis=0) for states in (a, b))
            cosines.append(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
    result = AnswerMeasure(Task.FEATURE_EXTRACTION, pooling=pooling).agreement(
        [{"last_hidden_state": states} for states in wanted], [{"last_hidden_state": states} for states in got], feeds
    )
    assert np.ptp(cosines) > 0.05
    np.testing.assert_allclose(result, np.mean(cosines), rtol=1e-5)


def test_cosine_is_one_when_only_padding_differs():
    states = np.random.default_rng(0).normal(size=(1, 4, 6)).astype(np.float32)
    other = states.copy()
    other[0, 2:] = 100
    outputs = [[{"last_hidden_state": array}] for array in (states, other)]
    result = AnswerMeasure(Task.FEATURE_EXTRACTION, pooling=_MEAN).agreement(*outputs, [_feed(2)])
    np.testing.assert_allclose(result, 1.0, rtol=1e-6)


def test_cosine_is_zero_when_an_embedding_is_zero():
    outputs = [[{"last_hidden_state": np.full((1, 4, 6), value, np.float32)}] for value in (1, 0)]
    assert AnswerMeasure(Task.FEATURE_EXTRACTION, pooling=_MEAN).agreement(*outputs, [_feed(4)]) == 0


def test_labels_agree_when_the_highest_logit_is_the_same():
    wanted = [[3, 1, 0], [0, 2, 0], [0, 0, 5], [1, 0, 0]]
    got = [[9, 1, 0], [0, 2, 1], [1, 0, 3], [3, 0, 2]]
    assert _classify(wanted, got) == 1


@pytest.mark.parametrize("share", [0.9, 0.5, 1e-4])
def test_another_label_counts_as_likely_as_the_reference_finds_it(share):
    probabilities = np.array([1.0, share, 1e-6])
    wanted = [np.log(probabilities / probabilities.sum()), [5, 0, 0]]
    np.testing.assert_allclose(_classify(wanted, [[0, 9, 0], [9, 0, 0]]), (share + 1) / 2, rtol=1e-5)


def test_another_label_counts_little_when_only_the_graph_is_undecided():
    assert _classify([[9, 0, 0]], [[0.99, 1, 0]]) < 1e-3


def test_labels_are_a_set_when_several_may_hold():
    wanted = [[1, -1, 2], [1, 1, 1], [-1, -1, -1]]
    got = [[3, -2, 1], [1, 1, -1], [-2, 9, 9]]
    expected = np.mean([1, np.exp(-1), np.exp(-2)])
    np.testing.assert_allclose(_classify(wanted, got, "multi_label_classification"), expected, rtol=1e-6)


def test_numbers_count_by_their_distance_next_to_their_spread_when_regressing():
    wanted = np.array([[0.0], [10.0], [20.0], [30.0]])
    got = wanted + wanted.std() * np.array([[0.25], [-0.5], [7.0], [0.0]])
    np.testing.assert_allclose(_classify(wanted, got, "regression"), (0.75 + 0.5 + 0 + 1) / 4, rtol=1e-5)


def test_a_single_number_is_compared_with_its_size_when_regressing():
    np.testing.assert_allclose(_classify([[8.0]], [[7.0]], "regression"), 1 - 1 / 8, rtol=1e-6)


def test_a_ranking_is_judged_by_the_order_of_its_scores():
    scores = np.arange(10.0)[:, None]
    assert _classify(scores, 3 * scores - 20, "ranking") == pytest.approx(1)
    assert _classify(scores, -scores, "ranking") == pytest.approx(-1)
    swapped = scores.copy()
    swapped[[4, 5]] = swapped[[5, 4]]
    assert _classify(scores, swapped, "ranking") == pytest.approx(1 - 6 * 2 / (10 * 99))


def test_equal_scores_share_their_rank():
    wanted, got = [[1], [2], [2], [4]], [[1], [3], [2], [4]]
    ranks = np.array([[1, 2.5, 2.5, 4], [1, 3, 2, 4]])
    assert _classify(wanted, got, "ranking") == pytest.approx(np.corrcoef(ranks)[0, 1])


def _rank_slowly(scores):
    return [
        sum(other < score for other in scores) + (sum(other == score for other in scores) + 1) / 2 for score in scores
    ]


@pytest.mark.parametrize("seed", range(5))
def test_rank_correlation_is_the_correlation_of_ranks(seed):
    generator = np.random.default_rng(seed)
    wanted = generator.integers(0, 30, (40, 1)) / 7
    got = wanted + generator.normal(size=wanted.shape)
    expected = np.corrcoef(_rank_slowly(wanted.ravel()), _rank_slowly(got.ravel()))[0, 1]
    assert 0.5 < expected < 0.999
    assert _classify(wanted, got, "ranking") == pytest.approx(expected)


def test_a_scrambled_ranking_is_no_agreement_although_all_signs_are_the_same():
    wanted = np.linspace(-9, -1, 64)[:, None]
    got = np.random.default_rng(0).permutation(wanted)
    assert _classify(wanted, got, "multi_label_classification") == 1
    assert abs(_classify(wanted, got, "ranking")) < 0.3


def test_a_graph_that_ranks_nothing_agrees_with_no_ranking():
    assert _classify([[1], [2], [3]], [[2], [2], [2]], "ranking") == 0


@pytest.mark.parametrize(
    ("wanted", "got", "expected"),
    [
        ([[8.0]], [[7.0]], 1 - 1 / 8),
        ([[8.0]], [[8.0]], 1),
        ([[4.0], [4.0]], [[3.0], [4.0]], (0.75 + 1) / 2),
        ([[4.0], [4.0000005]], [[4.0], [3.9999995]], 1),
        ([[0.0], [0.0]], [[0.0], [1.0]], 0.5),
        ([[-3.0], [-3.0]], [[30.0], [30.0]], 0),
    ],
)
def test_scores_of_which_none_is_higher_are_compared_by_their_closeness(wanted, got, expected):
    np.testing.assert_allclose(_classify(wanted, got, "ranking"), expected, rtol=0, atol=1e-6)


def _answer(start, end, got_start, got_end, feed):
    outputs = [
        [{"start_logits": np.array(a, np.float32), "end_logits": np.array(b, np.float32)}]
        for a, b in ((start, end), (got_start, got_end))
    ]
    return AnswerMeasure(Task.QUESTION_ANSWERING).agreement(*outputs, [feed])


def test_span_counts_by_both_its_ends():
    start, end = [[9, 8, 0, 0]] * 4, [[0, 0, 9, 7]] * 4
    got_start = [[5, 0, 0, 0], [0, 5, 0, 0], [5, 0, 0, 0], [0, 5, 0, 0]]
    got_end = [[0, 0, 5, 0], [0, 0, 5, 0], [0, 0, 0, 5], [0, 0, 0, 5]]
    expected = np.mean([1, np.exp(-1), np.exp(-2), np.exp(-3)])
    np.testing.assert_allclose(_answer(start, end, got_start, got_end, _feed(4, 4, 4, 4)), expected, rtol=1e-6)


def test_span_ignores_padding():
    start, end = [[9, 0, 0, 50]], [[0, 9, 50, 0]]
    assert _answer(start, end, [[5, 0, 90, 0]], [[0, 5, 0, 90]], _feed(2)) == 1
    assert _answer(start, end, [[0, 5, 0, 50]], [[0, 9, 50, 0]], _feed(2)) < 1e-3


def test_every_text_counts_the_same_whatever_its_batch():
    wanted = [{"logits": np.array([[1.0, 0]] * count, np.float32)} for count in (3, 1)]
    got = [{"logits": np.array([[1.0, 0]] * 3, np.float32)}, {"logits": np.array([[0, 9.0]], np.float32)}]
    result = AnswerMeasure(Task.TEXT_CLASSIFICATION).agreement(wanted, got, [_feed(4, 4, 4), _feed(4)])
    np.testing.assert_allclose(result, (3 + np.exp(-1)) / 4, rtol=1e-6)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", list(Task))
def test_agreement_is_no_number_when_an_output_is_none(task, wrong):
    """The gate asks ``not agreement >= least``; the highest of no numbers could pass for the right choice."""
    names = {
        Task.FEATURE_EXTRACTION: ("last_hidden_state",),
        Task.QUESTION_ANSWERING: ("start_logits", "end_logits"),
        Task.PRETRAINING: ("prediction_logits", "seq_relationship_logits"),
    }.get(task, ("logits",))
    good = np.ones((1, 4, 6) if task in {Task.FEATURE_EXTRACTION, Task.TOKEN_CLASSIFICATION} else (1, 4), np.float32)
    bad = good.copy()
    bad[0, 0] = wrong
    outputs = [[dict.fromkeys(names, array)] for array in (good, bad)]
    measure = AnswerMeasure(task, pooling=_MEAN)
    assert measure.agreement(outputs[0], outputs[0], [_feed(4)]) == pytest.approx(1)
    assert np.isnan(measure.agreement(*outputs, [_feed(4)]))


def test_tokens_count_one_by_one_and_padding_not_at_all():
    wanted = np.array([[[9, 0], [0, 2], [0, 0], [50, 0]], [[3, 0], [0, 0], [0, 0], [0, 0]]], np.float32)
    got = np.array([[[1, 0], [1, 0], [1, 0], [0, 9]], [[0, 1], [0, 9], [0, 9], [0, 9]]], np.float32)
    expected = np.mean([1, np.exp(-2), 1, np.exp(-3)])
    result = AnswerMeasure(Task.TOKEN_CLASSIFICATION).agreement([{"logits": wanted}], [{"logits": got}], [_feed(3, 1)])
    np.testing.assert_allclose(result, expected, rtol=1e-6)


_MASK = 3


def _masked_feed(*masks):
    ids = np.array(masks, dtype=np.int64) * _MASK
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def test_only_scores_at_masks_are_compared():
    scores = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
    sentences = np.ones((2, 2), np.float32)
    outputs = {"prediction_logits": scores, "seq_relationship_logits": sentences}
    measure = AnswerMeasure(Task.PRETRAINING, mask_token_id=_MASK)
    part = measure.compared_part(outputs, _masked_feed([0, 1, 0], [1, 0, 1]))
    np.testing.assert_array_equal(part["prediction_logits"], [scores[0, 1], scores[1, 0], scores[1, 2]])
    np.testing.assert_array_equal(part["seq_relationship_logits"], sentences)
    assert part["prediction_logits"].base is None, "a view would keep all scores in memory"
    for task in set(Task) - {Task.PRETRAINING, Task.FILL_MASK}:
        assert AnswerMeasure(task).compared_part(outputs, _feed(3)) is outputs


def test_every_mask_counts_the_same_whatever_its_text():
    wanted = [{"logits": np.array([[9.0, 8, 0]] * count, np.float32)} for count in (3, 1)]
    got = [{"logits": np.array([[5.0, 0, 0]] * 3, np.float32)}, {"logits": np.array([[0, 5.0, 0]], np.float32)}]
    feeds = [_masked_feed([1, 1, 1]), _masked_feed([0, 1])]
    np.testing.assert_allclose(
        AnswerMeasure(Task.FILL_MASK).agreement(wanted, got, feeds), (3 + np.exp(-1)) / 4, rtol=1e-6
    )


def test_both_heads_of_pretraining_weigh_the_same():
    wanted = {"prediction_logits": [[9, 8], [9, 8], [9, 8]], "seq_relationship_logits": [[2, 0]]}
    got = {"prediction_logits": [[0, 1], [1, 0], [1, 0]], "seq_relationship_logits": [[0, 1]]}
    outputs = [[{name: np.array(rows, np.float32) for name, rows in item.items()}] for item in (wanted, got)]
    expected = np.mean([(np.exp(-1) + 2) / 3, np.exp(-2)])
    result = AnswerMeasure(Task.PRETRAINING).agreement(*outputs, [_masked_feed([1, 1, 1])])
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def _choose(wanted, got):
    outputs = [[{"logits": np.array([[score]], np.float32)} for score in scores] for scores in (wanted, got)]
    return AnswerMeasure(Task.MULTIPLE_CHOICE).agreement(*outputs, [_feed(2)] * len(wanted))


@pytest.mark.parametrize(
    ("wanted", "got", "expected"),
    [
        ([1, 2, 3, 4], [0, 0, 0, 9], [1]),
        ([1, 2, 3, 4], [0, 0, 9, 0], [np.exp(-1)]),
        ([1, 2, 3, 4, 9, 7, 7, 7], [0, 0, 9, 0, 1, 2, 0, 0], [np.exp(-1), np.exp(-2)]),
        ([0, 0, 0, 5, 3, 0, 0, 0, 0, 0, 6], [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0], [1, np.exp(-3)]),
        ([2, 0], [0, 1], [np.exp(-2)]),
        ([7], [1], [1]),
    ],
)
def test_four_choices_after_each_other_compete(wanted, got, expected):
    np.testing.assert_allclose(_choose(wanted, got), np.mean(expected), rtol=1e-6)


def test_embeddings_that_the_graph_pooled_are_compared_as_they_are():
    wanted, got = (np.random.default_rng(seed).normal(size=(3, 4)).astype(np.float32) for seed in (0, 1))
    cosines = (wanted * got).sum(axis=1) / np.linalg.norm(wanted, axis=1) / np.linalg.norm(got, axis=1)
    outputs = [[{"sentence_embedding": array[:2]}, {"sentence_embedding": array[2:]}] for array in (wanted, got)]
    feeds = [_feed(4, 2), _feed(3)]  # a mask as wide as an embedding
    for measure in (AnswerMeasure(Task.FEATURE_EXTRACTION), AnswerMeasure(Task.FEATURE_EXTRACTION, pooling=_CLS)):
        np.testing.assert_allclose(measure.agreement(*outputs, feeds), cosines.mean(), rtol=1e-5)
        np.testing.assert_allclose(measure.error(*outputs, feeds), 1 - cosines.mean(), rtol=1e-5)
    assert largest_difference(*outputs, feeds) == np.abs(wanted.astype(np.float64) - got).max()
    broken = [{"sentence_embedding": np.full((2, 4), np.nan, np.float32)}, outputs[1][1]]
    assert np.isnan(AnswerMeasure(Task.FEATURE_EXTRACTION).agreement(outputs[0], broken, feeds))


def test_token_states_need_a_pooling():
    with pytest.raises(InputError, match="pooling must be given"):
        AnswerMeasure(Task.FEATURE_EXTRACTION).agreement([{}], [{}], [_feed(2)])


@pytest.mark.parametrize("task", [Task.TEXT_CLASSIFICATION, Task.FILL_MASK])
@pytest.mark.parametrize(("got", "expected"), [(1.0, 0.0), (0.0, 1.0), (1.5, 0.25), (np.nan, np.inf), (np.inf, np.inf)])
def test_error_is_the_squared_error_and_infinite_where_an_output_is_no_number(task, got, expected):
    wanted = {"logits": np.ones((1, 4), np.float32), "kept_positions.0": np.ones(2, np.int64)}
    answer = {"logits": np.full((1, 4), got, np.float32), "kept_positions.0": np.zeros(2, np.int64)}
    assert AnswerMeasure(task).error([wanted], [answer], [_feed(4)]) == expected


@pytest.mark.parametrize(
    ("got", "expected"), [([1.0, 0.0], 0), ([0.0, 1.0], 1), ([3.0, 4.0], 0.4), ([np.nan, 0], np.inf)]
)
def test_error_of_embeddings_is_what_their_cosine_lacks(got, expected):
    wanted, answer = ({"last_hidden_state": np.array([[vector] * 4], np.float32)} for vector in ([1.0, 0.0], got))
    error = AnswerMeasure(Task.FEATURE_EXTRACTION, pooling=_MEAN).error([wanted], [answer], [_feed(4)])
    assert error == pytest.approx(expected, abs=1e-6)
