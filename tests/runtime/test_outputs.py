"""Which outputs say something of each token: told from their names where shapes could be taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from dynbert.outputs import has_positions


@pytest.mark.parametrize(
    ("name", "shape", "mask", "expected"),
    [
        ("last_hidden_state", (2, 6, 8), (2, 6), True),
        ("last_hidden_state", (2, 6, 6), (2, 6), True),
        ("prediction_logits", (2, 6, 99), (2, 6), True),
        ("start_logits", (2, 6), (2, 6), True),
        ("end_logits", (2, 6), (2, 6), True),
        ("sentence_embedding", (2, 8), (2, 6), False),
        ("sentence_embedding", (2, 6), (2, 6), False),  # as wide as the input is long
        ("logits", (2, 6, 3), (2, 6), True),  # labels of tokens
        ("logits", (2, 3), (2, 3), False),  # labels of texts, as many as tokens
        ("logits", (2, 4), (2, 4, 6), False),  # choices
        ("seq_relationship_logits", (2, 2), (2, 2), False),
    ],
)
def test_an_output_with_positions_is_told_from_one_of_the_same_shape(name, shape, mask, expected):
    assert has_positions(name, np.zeros(shape), np.ones(mask)) is expected
