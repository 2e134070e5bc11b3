"""Running graphs over texts: what each of them is fed with."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from dynbert.lengths import LengthConfig
from dynbert_export.evaluation.running import run_graph
from tests.helpers.graphs import make_feed, parse_graph


@pytest.fixture
def echo(tmp_path):
    """Write an anytime graph that answers with the lengths it was fed with."""
    path = tmp_path / "anytime.fp32.onnx"
    text = "(int64[b, n] input_ids, int64[3] length_config) => (int64[3] lengths) {lengths = Identity (length_config)}"
    ir.save(parse_graph(text), path)
    return path


@pytest.mark.parametrize(("keep_cls", "lengths"), [(True, (4, 2, 2)), (False, (4, 1, 1))])
def test_an_anytime_graph_is_judged_on_the_lengths_that_a_user_s_call_has(echo, keep_cls, lengths):
    config = LengthConfig((0.2, 0.05, 0.01))
    [outputs] = run_graph(echo, [make_feed(2, 20)], config=config, always_keep_cls_token=keep_cls)
    np.testing.assert_array_equal(outputs["lengths"], lengths)


def test_what_is_kept_of_outputs_is_taken_before_the_next_feed_runs(echo):
    def keep(outputs, feed):
        return {"tokens": feed["input_ids"].shape[1] + 0 * outputs["lengths"]}

    feeds = [make_feed(1, 20), make_feed(1, 8)]
    config = LengthConfig.everything(3)
    kept = run_graph(echo, feeds, config=config, always_keep_cls_token=True, keep=keep)
    assert [each["tokens"].tolist() for each in kept] == [[20] * 3, [8] * 3]
