"""Operations: a worked example, and what the products of the PyTorch model do."""

from __future__ import annotations

from dynbert.lengths import LengthConfig
from dynbert_export.searching.candidate import Body, Candidate
from dynbert_export.searching.macs import Widths, count_macs


def test_operations_of_a_worked_example():
    body = Body(num_layers=2, cutting_layers=2, max_length=64, always_keep_cls_token=True)
    candidate = Candidate(LengthConfig((4, 2)))
    hidden, wide = 8, 32
    first = 3 * 10 * hidden**2 + 2 * 10**2 * hidden + 4 * (hidden**2 + 2 * hidden * wide)
    second = 3 * 4 * hidden**2 + 2 * 4**2 * hidden + 2 * (hidden**2 + 2 * hidden * wide)
    assert count_macs(candidate, 10, body, Widths(hidden, wide)) == first + second


def test_a_last_layer_for_one_token_has_one_query():
    body = Body(num_layers=1, cutting_layers=0, max_length=64, always_keep_cls_token=True)
    hidden, wide = 8, 32
    expected = (1 + 2 * 10) * hidden**2 + 2 * 10 * hidden + hidden**2 + 2 * hidden * wide
    assert count_macs(Candidate(LengthConfig((1.0,))), 10, body, Widths(hidden, wide)) == expected


def test_bert_base_at_128_tokens_has_eleven_billion():
    body = Body(num_layers=12, cutting_layers=12, max_length=512, always_keep_cls_token=True)
    macs = count_macs(Candidate(LengthConfig.everything(12)), 128, body, Widths(768, 3072))
    assert 11.0e9 < macs < 11.3e9


def test_layers_that_do_not_run_count_nothing():
    body = Body(num_layers=2, cutting_layers=2, max_length=64, always_keep_cls_token=True)
    lengths, widths = LengthConfig.everything(2), Widths(8, 32)
    all_layers = count_macs(Candidate(lengths), 10, body, widths)
    assert count_macs(Candidate(lengths, layers=(1,)), 10, body, widths) * 2 == all_layers
