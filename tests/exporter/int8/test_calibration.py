"""The calibration inputs: whole, with short parts, in two halves of which each judges the ranges of the other."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.manifest import Task
from dynbert_export.evaluation.agreement import AnswerMeasure
from dynbert_export.int8.calibration import Calibration, full_length_feeds
from tests.helpers.graphs import make_feed

_MEASURE = AnswerMeasure(Task.TEXT_CLASSIFICATION)


def _calibration(inputs, tokens=32):
    feeds = full_length_feeds(
        [make_feed(1, tokens, seed=seed) for seed in range(inputs)], num_layers=3, always_keep_cls_token=True
    )
    return Calibration(feeds, _MEASURE, threads=1)


def _ids(feeds):
    return [feed["input_ids"].tolist() for feed in feeds]


def test_whole_inputs_keep_every_token():
    given = make_feed(1, 32)
    [feed] = full_length_feeds([given], num_layers=3, always_keep_cls_token=True)
    np.testing.assert_array_equal(feed["length_config"], [32, 32, 32])
    assert set(given) == set(feed) - {"length_config"}


def test_halves_are_every_other_input_and_the_rest():
    calibration = _calibration(24)
    first, second = calibration.halves
    whole = [[ids for ids in _ids(half.inputs) if len(ids[0]) == 32] for half in (first, second)]
    assert whole == [_ids(calibration.feeds[::2]), _ids(calibration.feeds[1::2])]
    assert calibration.halves is calibration.halves, "cut once"


def test_one_input_is_both_halves():
    first, second = _calibration(1).halves
    assert _ids(first.inputs) == _ids(second.inputs)


def test_judged_are_the_first_inputs_with_the_short_parts_of_two():
    half, _ = _calibration(24).halves
    assert _ids(half.inputs[: len(half.judged)]) == _ids(half.judged)
    assert [len(ids[0]) for ids in _ids(half.judged)] == [32] * 8 + 2 * ([4] * 4 + [8] * 4 + [22] * 4)
    assert len(half.inputs) == 12 * (1 + 12)


@pytest.mark.parametrize(("tokens", "lengths"), [(3, []), (4, [4] * 4), (8, [4] * 4 + [8] * 4)])
def test_short_parts_are_shorter_than_the_text_and_have_its_ends(tokens, lengths):
    half, _ = _calibration(1, tokens).halves
    [whole, *parts] = half.judged
    assert [part["input_ids"].shape[-1] for part in parts] == lengths
    for part in parts:
        assert part["input_ids"][0, [0, -1]].tolist() == whole["input_ids"][0, [0, -1]].tolist()
        assert part["length_config"].tolist() == [part["input_ids"].shape[-1]] * 3
        assert {array.shape for name, array in part.items() if name != "length_config"} == {part["input_ids"].shape}
