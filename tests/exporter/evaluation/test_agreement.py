"""Agreement: what counts as the same answer, task by task, against sums done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.errors import InputError
from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert_export.evaluation.agreement import _MEASURES, compared_part, measure_agreement
from dynbert_export.tasks import HEADS

_MEAN = Pooling(mode=PoolingMode.MEAN, normalize=False)
_CLS = Pooling(mode=PoolingMode.CLS, normalize=True)


def _feed(*lengths, tokens=4):
    mask = (np.arange(tokens)[None] < np.array(lengths)[:, None]).astype(np.int64)
    return {"input_ids": np.ones_like(mask), "attention_mask": mask}


def _classify(wanted, got, problem_type=None):
    wanted, got = np.array(wanted, np.float32), np.array(got, np.float32)
    feeds = [_feed(*[4] * len(wanted))]
    return measure_agreement(
        Task.TEXT_CLASSIFICATION, [{"logits": wanted}], [{"logits": got}], feeds, problem_type=problem_type
    )


def test_every_metric_is_measured():
    assert set(_MEASURES) == {head.metric for head in HEADS.values()}


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
    result = measure_agreement(
        Task.FEATURE_EXTRACTION,
        [{"last_hidden_state": states} for states in wanted],
        [{"last_hidden_state": states} for states in got],
        feeds,
        pooling=pooling,
    )
    assert np.ptp(cosines) > 0.05
    np.testing.assert_allclose(result, np.mean(cosines), rtol=1e-5)


def test_cosine_is_one_when_only_padding_differs():
    states = np.random.default_rng(0).normal(size=(1, 4, 6)).astype(np.float32)
    other = states.copy()
    other[0, 2:] = 100
    outputs = [[{"last_hidden_state": array}] for array in (states, other)]
    result = measure_agreement(Task.FEATURE_EXTRACTION, *outputs, [_feed(2)], pooling=_MEAN)
    np.testing.assert_allclose(result, 1.0, rtol=1e-6)


def test_cosine_is_zero_when_an_embedding_is_zero():
    outputs = [[{"last_hidden_state": np.full((1, 4, 6), value, np.float32)}] for value in (1, 0)]
    assert measure_agreement(Task.FEATURE_EXTRACTION, *outputs, [_feed(4)], pooling=_MEAN) == 0


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


def _answer(start, end, got_start, got_end, feed):
    outputs = [
        [{"start_logits": np.array(a, np.float32), "end_logits": np.array(b, np.float32)}]
        for a, b in ((start, end), (got_start, got_end))
    ]
    return measure_agreement(Task.QUESTION_ANSWERING, *outputs, [feed])


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
    result = measure_agreement(Task.TEXT_CLASSIFICATION, wanted, got, [_feed(4, 4, 4), _feed(4)])
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
    assert measure_agreement(task, outputs[0], outputs[0], [_feed(4)], pooling=_MEAN) == pytest.approx(1)
    assert np.isnan(measure_agreement(task, *outputs, [_feed(4)], pooling=_MEAN))


def test_tokens_count_one_by_one_and_padding_not_at_all():
    wanted = np.array([[[9, 0], [0, 2], [0, 0], [50, 0]], [[3, 0], [0, 0], [0, 0], [0, 0]]], np.float32)
    got = np.array([[[1, 0], [1, 0], [1, 0], [0, 9]], [[0, 1], [0, 9], [0, 9], [0, 9]]], np.float32)
    expected = np.mean([1, np.exp(-2), 1, np.exp(-3)])
    result = measure_agreement(Task.TOKEN_CLASSIFICATION, [{"logits": wanted}], [{"logits": got}], [_feed(3, 1)])
    np.testing.assert_allclose(result, expected, rtol=1e-6)


_MASK = 3


def _masked_feed(*masks):
    ids = np.array(masks, dtype=np.int64) * _MASK
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def test_only_scores_at_masks_are_compared():
    scores = np.arange(2 * 3 * 5, dtype=np.float32).reshape(2, 3, 5)
    sentences = np.ones((2, 2), np.float32)
    outputs = {"prediction_logits": scores, "seq_relationship_logits": sentences}
    part = compared_part(Task.PRETRAINING, outputs, _masked_feed([0, 1, 0], [1, 0, 1]), mask_token_id=_MASK)
    np.testing.assert_array_equal(part["prediction_logits"], [scores[0, 1], scores[1, 0], scores[1, 2]])
    np.testing.assert_array_equal(part["seq_relationship_logits"], sentences)
    assert part["prediction_logits"].base is None, "a view would keep all scores in memory"
    for task in set(Task) - {Task.PRETRAINING, Task.FILL_MASK}:
        assert compared_part(task, outputs, _feed(3), mask_token_id=None) is outputs


def test_every_mask_counts_the_same_whatever_its_text():
    wanted = [{"logits": np.array([[9.0, 8, 0]] * count, np.float32)} for count in (3, 1)]
    got = [{"logits": np.array([[5.0, 0, 0]] * 3, np.float32)}, {"logits": np.array([[0, 5.0, 0]], np.float32)}]
    feeds = [_masked_feed([1, 1, 1]), _masked_feed([0, 1])]
    np.testing.assert_allclose(measure_agreement(Task.FILL_MASK, wanted, got, feeds), (3 + np.exp(-1)) / 4, rtol=1e-6)


def test_both_heads_of_pretraining_weigh_the_same():
    wanted = {"prediction_logits": [[9, 8], [9, 8], [9, 8]], "seq_relationship_logits": [[2, 0]]}
    got = {"prediction_logits": [[0, 1], [1, 0], [1, 0]], "seq_relationship_logits": [[0, 1]]}
    outputs = [[{name: np.array(rows, np.float32) for name, rows in item.items()}] for item in (wanted, got)]
    expected = np.mean([(np.exp(-1) + 2) / 3, np.exp(-2)])
    result = measure_agreement(Task.PRETRAINING, *outputs, [_masked_feed([1, 1, 1])])
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def _choose(wanted, got):
    outputs = [[{"logits": np.array([[score]], np.float32)} for score in scores] for scores in (wanted, got)]
    return measure_agreement(Task.MULTIPLE_CHOICE, *outputs, [_feed(2)] * len(wanted))


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


def test_embeddings_need_a_pooling():
    with pytest.raises(InputError, match="pooling must be given"):
        measure_agreement(Task.FEATURE_EXTRACTION, [{}], [{}], [_feed(2)])
