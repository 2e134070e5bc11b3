"""Arrays on disk come back as they were, and outputs are compared as one vector."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert_bench.arrays import compare, read_arrays, write_arrays


def test_sets_are_read_in_the_order_in_which_they_were_written(tmp_path):
    items = [{"ids": np.full((1, size), size, np.int64), "a/b": np.float32([0.5])} for size in range(1, 13)]
    write_arrays(tmp_path / "feeds.npz", items)
    found = read_arrays(tmp_path / "feeds.npz")
    assert [item["ids"].tolist() for item in found] == [item["ids"].tolist() for item in items]
    assert {array.dtype for item in found for array in item.values()} == {np.dtype(np.int64), np.dtype(np.float32)}


def test_outputs_of_another_form_agree_with_nothing():
    wanted = [{"logits": np.array([[1.0, 2.0]])}]
    assert compare(wanted, [{"logits": np.array([[2.0, 4.0]])}]) == (pytest.approx(1.0), 2.0)
    for other in ([{"other": np.array([[1.0, 2.0]])}], [{"logits": np.array([1.0, 2.0])}], []):
        assert np.isnan(compare(wanted, other)).all()
    assert np.isnan(compare(wanted, [{"logits": np.array([[1.0, np.inf]])}])).all()
