from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynbert.errors import InputError, LengthConfigError
from dynbert.lengths import LengthConfig
from dynbert_export.modeling import expand_gather
from dynbert_export.modeling.dropping import (
    TokenTracker,
    check_length_config,
    find_voting_queries,
    gather_mask,
    measure_significance,
    select_layers,
    select_tokens,
    select_tokens_by_rank,
)

MASKED = torch.finfo(torch.float32).min


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 20).flatmap(
        lambda tokens: st.lists(
            st.lists(st.integers(0, 4), min_size=tokens, max_size=tokens),  # few values: many ties
            min_size=1,
            max_size=3,
        )
    ),
    length=st.integers(1, 25),
    keep_cls=st.booleans(),
)
def test_select_tokens_equals_a_sort_by_significance_then_position(rows, length, keep_cls):
    kept = select_tokens(torch.tensor(rows, dtype=torch.float32), length, always_keep_cls_token=keep_cls)
    for row, chosen in zip(rows, kept.tolist(), strict=True):
        ranking = sorted(range(len(row)), key=lambda token: (not (keep_cls and token == 0), -row[token], token))
        assert chosen == sorted(ranking[:length])


@settings(deadline=None, max_examples=60)
@given(
    tokens=st.permutations(range(9)).flatmap(
        lambda order: st.tuples(st.just(order), st.lists(st.integers(0, 4), min_size=9, max_size=9))
    ),
    length=st.integers(1, 12),
    keep_cls=st.booleans(),
)
def test_select_tokens_by_rank_equals_a_sort_by_significance_then_position(tokens, length, keep_cls):
    order, significance = tokens
    if keep_cls:  # it then is the first in any order
        order = [0, *(position for position in order if position)]
    kept = select_tokens_by_rank(
        torch.tensor([significance], dtype=torch.float32), length, torch.tensor([order]), always_keep_cls_token=keep_cls
    )
    ranking = sorted(range(9), key=lambda i: (not (keep_cls and order[i] == 0), -significance[i], order[i]))
    assert kept.tolist() == [ranking[:length]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_significance_of_half_precision_is_summed_in_float32(dtype):
    probs = torch.rand(2, 12, 300, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    significance = measure_significance(probs, None)
    assert significance.dtype == torch.float32
    torch.testing.assert_close(significance, probs.double().sum(dim=(1, 2)).float(), rtol=1e-5, atol=0)


def test_select_tokens_keeps_only_cls_when_one_is_kept():
    significance = torch.tensor([[0.0, 3.0, 1.0], [0.5, 0.1, 9.0]])
    assert select_tokens(significance, 1, always_keep_cls_token=True).tolist() == [[0], [0]]
    assert select_tokens(significance, 1, always_keep_cls_token=False).tolist() == [[1], [2]]


def test_measure_significance_sums_over_heads_and_voting_queries():
    probs = torch.rand(2, 3, 4, 4, requires_grad=True)
    votes = torch.tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
    significance = measure_significance(probs, votes)
    torch.testing.assert_close(significance[0], probs[0, :, :2].sum(dim=(0, 1)).detach())
    torch.testing.assert_close(significance[1], probs[1].sum(dim=(0, 1)).detach())
    torch.testing.assert_close(measure_significance(probs, None), probs.sum(dim=(1, 2)).detach())
    assert not significance.requires_grad


@pytest.mark.parametrize("masked", [MASKED, -10_000.0, -torch.inf])
def test_find_voting_queries_reads_every_convention_of_additive_masks(masked):
    mask = torch.tensor([[0.0, 0.0, masked], [0.0, masked, masked]])[:, None, None]
    votes = find_voting_queries(mask, count_padded_queries=False)
    assert votes.tolist() == [[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert find_voting_queries(mask, count_padded_queries=True) is None
    assert find_voting_queries(None, count_padded_queries=False) is None


def test_find_voting_queries_silences_what_no_query_may_attend_to_in_a_mask_per_query():
    mask = torch.tensor([[0.0, MASKED, MASKED], [0.0, 0.0, MASKED], [MASKED, 0.0, MASKED]])[None, None]
    assert find_voting_queries(mask, count_padded_queries=False).tolist() == [[1.0, 1.0, 0.0]]


def test_gather_mask_cuts_columns_and_where_there_are_rows_rows():
    kept = torch.tensor([[0, 2], [1, 2]])
    padding = torch.arange(6.0).reshape(2, 1, 1, 3)
    assert gather_mask(padding, kept).tolist() == [[[[0.0, 2.0]]], [[[4.0, 5.0]]]]
    per_query = torch.arange(18.0).reshape(2, 1, 3, 3)
    expected = torch.stack([per_query[row, :, kept[row]][:, :, kept[row]] for row in range(2)])
    assert gather_mask(per_query, kept).tolist() == expected.tolist()


def test_expand_gather_broadcasts_the_index_over_the_other_dimensions():
    values = torch.arange(24).reshape(2, 3, 4)
    gathered = expand_gather(values, 1, torch.tensor([[[2], [0]], [[1], [1]]]))
    assert gathered.tolist() == torch.stack([values[0, [2, 0]], values[1, [1, 1]]]).tolist()


def test_token_tracker_restores_the_state_that_entered_the_dropping_layer():
    tracker = TokenTracker(None, None)
    first, second = torch.full((1, 4, 2), 1.0), torch.full((1, 3, 2), 2.0)
    assert tracker.restore(first) is first
    assert tracker.list_positions(first).tolist() == [[0, 1, 2, 3]]
    tracker.drop(torch.tensor([[0, 2, 3]]), first)
    tracker.drop(torch.tensor([[0, 2]]), second)
    assert tracker.positions.tolist() == [[0, 3]]
    assert tracker.restore(torch.full((1, 2, 2), 3.0))[0, :, 0].tolist() == [3.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("value", [None, (), [], torch.tensor([], dtype=torch.long)])
def test_check_length_config_reads_nothing_as_no_dropping(value):
    assert check_length_config(value, 3) is None


def test_check_length_config_ignores_entries_beyond_the_last_layer():
    assert check_length_config("(9, 5, 1)", 2) == LengthConfig((9, 5))


def test_check_length_config_names_both_counts_when_too_short():
    with pytest.raises(LengthConfigError, match=r"at least 3 entries, one a layer, got 2: 9,5"):
        check_length_config((9, 5), 3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((5, 9), "must not increase"),
        ((5, 0), "at least 1 token, got 0"),
        ((5, None), "must be a number, got None"),
        ((1.0, 1.5), r"fraction in \(0, 1\], got 1.5"),
        ("__import__('os')", "must be a number"),
        (7, "must be a sequence of numbers, got int"),
    ],
)
def test_check_length_config_refuses_what_breaks_a_rule(value, message):
    with pytest.raises(LengthConfigError, match=message):
        check_length_config(value, 2)


def test_select_layers_runs_them_in_the_order_of_the_model():
    assert select_layers(None, 3) == [0, 1, 2]
    assert select_layers([], 3) == []
    assert select_layers(iter([2, 0]), 3) == [0, 2]
    assert select_layers(torch.tensor([1]), 3) == [1]
    with pytest.raises(InputError, match=r"from 0 to 2, got \[-1, 3\]"):
        select_layers([0, 3, -1], 3)
