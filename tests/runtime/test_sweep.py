"""The inputs that every graph is tried with: short and long, alone and padded, and within the model's ranges."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from dynbert.inputs import arrange_rows, check_inputs
from dynbert.sweep import random_rows, steep_lengths, sweep_shapes


@pytest.mark.parametrize(
    ("max_length", "lengths"),
    [(512, (1, 2, 3, 7, 64, 128, 512)), (64, (1, 2, 3, 7, 64)), (16, (1, 2, 3, 7, 16)), (3, (1, 2, 3)), (1, (1,))],
)
def test_sweep_shapes_end_with_the_maximum(max_length, lengths):
    assert sweep_shapes(max_length) == tuple((batch, tokens) for tokens in lengths for batch in (1, 4))


def make_rows(embedding_bundle, shape, seed=0, **changes):
    model = msgspec.structs.replace(embedding_bundle.manifest.model, **changes)
    return random_rows(np.random.default_rng(seed), shape, model), model


@pytest.mark.parametrize(
    ("tokens", "lengths"), [(16, [16, 12, 8, 1]), (7, [7, 5, 4, 1]), (2, [2, 2, 1, 1]), (1, [1] * 4)]
)
def test_each_row_has_more_padding_than_the_one_before(embedding_bundle, tokens, lengths):
    rows, _ = make_rows(embedding_bundle, (4, tokens), pad_token_id=3)
    mask = rows["attention_mask"]
    assert mask.sum(axis=1).tolist() == lengths
    assert (np.diff(mask, axis=1) <= 0).all()
    assert set(rows["input_ids"][mask == 0].tolist()) <= {3}
    assert not rows["token_type_ids"][mask == 0].any()


def test_a_row_alone_has_no_padding(embedding_bundle):
    rows, _ = make_rows(embedding_bundle, (1, 9))
    assert rows["attention_mask"].tolist() == [[1] * 9]


@pytest.mark.parametrize("types", [1, 2])
def test_rows_are_random_and_within_the_model_s_ranges(embedding_bundle, types):
    rows, model = make_rows(embedding_bundle, (4, 16), type_vocab_size=types)
    assert {array.dtype for array in rows.values()} == {np.dtype(np.int64)}
    checked = check_inputs(arrange_rows(rows, model.task), model)
    assert len(np.unique(checked["input_ids"])) > 10
    assert set(np.unique(checked["token_type_ids"]).tolist()) == set(range(types))
    again, _ = make_rows(embedding_bundle, (4, 16), type_vocab_size=types)
    other, _ = make_rows(embedding_bundle, (4, 16), seed=1, type_vocab_size=types)
    np.testing.assert_array_equal(rows["input_ids"], again["input_ids"])
    assert not np.array_equal(rows["input_ids"], other["input_ids"])


def test_padding_is_0_where_the_model_has_no_id_for_it():
    class Model:
        vocab_size, type_vocab_size, pad_token_id = 9, 1, None

    rows = random_rows(np.random.default_rng(0), (2, 4), Model())
    assert rows["input_ids"][1, 3] == 0


@pytest.mark.parametrize("layers", [1, 2, 6, 12])
def test_steep_lengths_drop_tokens_after_every_layer(layers):
    counts = steep_lengths(layers).resolve(512, always_keep_cls_token=True)
    assert len(counts) == layers
    assert all(after < before for before, after in zip((512, *counts), counts, strict=False))
    assert counts[-1] == 128
