"""Trial runs: a graph that was never published runs from a folder that is gone afterwards."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.errors import BundleError
from dynbert_export.evaluation.trial import opened
from tests.helpers.graphs import make_feed, parse_graph, serialize

_TEXT = "(int64[b, n] input_ids, float[1] range) => (float[b, n] y) {x = Cast <to = 1> (input_ids) y = Mul (x, range)}"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_graph_runs_with_inputs_of_its_own_and_leaves_out_what_it_does_not_take(folder):
    model, feed = parse_graph(_TEXT), make_feed(1, 4)
    before = serialize(model)
    with opened(model, threads=1) as run:
        outputs = run({**feed, "range": np.float32([0.5])})
    np.testing.assert_array_equal(outputs["y"], feed["input_ids"] / 2)
    assert serialize(model) == before
    assert list(folder.iterdir()) == []


def test_folder_is_gone_when_the_graph_does_not_open(folder):
    broken = parse_graph(_TEXT.replace("Mul", "NoSuchOperator"))
    with pytest.raises(BundleError, match="NoSuchOperator"), opened(broken, threads=1):
        pass
    assert list(folder.iterdir()) == []
