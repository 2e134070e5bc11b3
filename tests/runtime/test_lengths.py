"""Length configs: what is accepted, what is refused and why, and the counts they come to."""

from __future__ import annotations

from contextlib import suppress
from fractions import Fraction
from functools import partial
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert.errors import InputError, LengthConfigError
from dynbert.lengths import FRACTION_SCALE, LengthConfig, minimum_fraction_tokens, resolve_fraction

COUNTS = st.lists(st.integers(1, 10_000), min_size=1, max_size=24).map(lambda items: sorted(items, reverse=True))
FRACTIONS = st.lists(st.integers(1, FRACTION_SCALE), min_size=1, max_size=24).map(
    lambda items: [item / FRACTION_SCALE for item in sorted(items, reverse=True)]
)


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("315,251,242", (315, 251, 242)),
        (" (315, 251, 242) ", (315, 251, 242)),
        ("[315,251]", (315, 251)),
        ("(5,)", (5,)),
        ("0.9, 0.8,.5", (0.9, 0.8, 0.5)),
        ("1e0,5e-1", (1.0, 0.5)),
        ("7", (7,)),
    ],
)
def test_parse_reads_every_accepted_form(text, lengths):
    config = LengthConfig.parse(text)
    assert config.lengths == lengths
    assert [type(length) for length in config.lengths] == [type(length) for length in lengths]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Length 0 must be a number, got ''"),
        ("5,,4", "Length 1 must be a number, got ''"),
        ("5,x", "Length 1 must be a number, got 'x'"),
        ("nan", "Length 0 must be a number, got 'nan'"),
        ("inf", "Length 0 must be a number, got 'inf'"),
        ("1e999", r"fraction in \(0, 1\], got inf"),
        ("__import__('os').getcwd()", "Length 0 must be a number"),
        ("(5,4", r"Length 0 must be a number, got '\(5'"),
        ("9" * 5000, "Length 0 must be a number"),
        ("0,0", "Length 0 must be at least 1 token, got 0"),
        ("-3", "Length 0 must be at least 1 token, got -3"),
        ("0.0", r"fraction in \(0, 1\], got 0.0"),
        ("1.5", r"fraction in \(0, 1\], got 1.5"),
        ("-0.5", r"fraction in \(0, 1\], got -0.5"),
        ("4,5", "must not increase from layer to layer, got 5 after 4 at layer 1 of 4,5"),
        ("0.5,0.6", "must not increase from layer to layer, got 0.6 after 0.5 at layer 1"),
        ("5,0.5", r"must be all token counts \(ints\) or all fractions \(floats\), got 5,0.5"),
    ],
)
def test_parse_names_rule_and_value_when_text_is_wrong(text, message):
    with pytest.raises(LengthConfigError, match=message):
        LengthConfig.parse(text)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((), "must have at least one entry, got none"),
        (None, "must be a sequence of numbers, got NoneType"),
        (5, "must be a sequence of numbers, got int"),
        ([True, True], "Length 0 must be a number, got True"),
        ([None], "Length 0 must be a number, got None"),
        (["5"], "Length 0 must be a number, got '5'"),
        ([float("nan")], r"fraction in \(0, 1\], got nan"),
        (np.ones((2, 2), np.int64), "Length 0 must be a number, got array"),
        ([2j], "Length 0 must be a number"),
    ],
)
def test_of_names_rule_and_value_when_value_is_wrong(value, message):
    with pytest.raises(LengthConfigError, match=message):
        LengthConfig.of(value)


@pytest.mark.parametrize(
    "value",
    [[5, 4], (5, 4), "5,4", np.array([5, 4]), np.array([5, 4], np.uint8), iter([5, 4]), LengthConfig((5, 4))],
)
def test_of_gives_plain_ints_when_form_is_accepted(value):
    config = LengthConfig.of(value)
    assert config == LengthConfig((5, 4))
    assert {type(length) for length in config.lengths} == {int}


def test_of_gives_plain_floats_when_entries_are_real_numbers():
    config = LengthConfig.of([Fraction(1, 2), np.float32(0.25)])
    assert config.lengths == (0.5, 0.25)
    assert {type(length) for length in config.lengths} == {float}


def test_length_config_error_is_a_value_error():
    assert issubclass(LengthConfigError, InputError)
    assert issubclass(LengthConfigError, ValueError)


def test_check_layers_names_both_counts_when_they_differ():
    LengthConfig((5, 4)).check_layers(2)
    with pytest.raises(LengthConfigError, match="must have 6 entries, one a layer, got 2: 5,4"):
        LengthConfig((5, 4)).check_layers(6)


def test_check_max_length_refuses_longer_counts_only():
    LengthConfig((16, 4)).check_max_length(16)
    LengthConfig((1.0,)).check_max_length(16)
    with pytest.raises(LengthConfigError, match="at most the maximum length of 16 tokens, got 17"):
        LengthConfig((17, 4)).check_max_length(16)


@pytest.mark.parametrize(
    ("fraction", "tokens", "keep_cls", "count"),
    [
        (1.0, 7, True, 7),
        (0.5, 7, True, 4),
        (0.1, 10, False, 1),
        (0.1, 10, True, 2),
        (0.1, 1, True, 1),
        (0.7, 10, True, 7),  # 0.7 * 10 is 7.000000000000001 in floats of some orders: integers decide
        (0.3, 10, False, 3),
        (1e-9, 100, False, 1),
    ],
)
def test_resolve_fraction_rounds_up_within_the_minimum(fraction, tokens, keep_cls, count):
    assert resolve_fraction(fraction, tokens, always_keep_cls_token=keep_cls) == count


@given(COUNTS, st.integers(1, 512), st.booleans())
def test_resolve_clips_counts_to_the_input(lengths, tokens, keep_cls):
    resolved = LengthConfig.of(lengths).resolve(tokens, always_keep_cls_token=keep_cls)
    assert resolved == tuple(min(length, tokens) for length in lengths)


@given(FRACTIONS, st.integers(1, 512), st.booleans())
def test_resolve_equals_exact_arithmetic_when_fractional(lengths, tokens, keep_cls):
    resolved = LengthConfig.of(lengths).resolve(tokens, always_keep_cls_token=keep_cls)
    least = minimum_fraction_tokens(tokens, always_keep_cls_token=keep_cls)
    exact = [ceil(Fraction(round(length * FRACTION_SCALE), FRACTION_SCALE) * tokens) for length in lengths]
    assert resolved == tuple(max(count, least) for count in exact)


@given(st.one_of(COUNTS, FRACTIONS), st.integers(1, 512), st.booleans())
def test_resolve_never_increases_and_stays_within_the_input(lengths, tokens, keep_cls):
    resolved = LengthConfig.of(lengths).resolve(tokens, always_keep_cls_token=keep_cls)
    assert len(resolved) == len(lengths)
    assert list(resolved) == sorted(resolved, reverse=True)
    assert 1 <= resolved[-1] <= resolved[0] <= tokens


@pytest.mark.parametrize(
    "count",
    [LengthConfig((0.5,)).resolve, partial(resolve_fraction, 0.5), minimum_fraction_tokens],
    ids=["resolve", "resolve_fraction", "minimum_fraction_tokens"],
)
def test_no_count_is_made_before_it_is_said_whether_cls_stays(count):
    with pytest.raises(TypeError, match="always_keep_cls_token"):
        count(8)


def test_everything_drops_nothing():
    config = LengthConfig.everything(3)
    for tokens in (1, 2, 512):
        assert config.resolve(tokens, always_keep_cls_token=False) == (tokens,) * 3


@given(st.one_of(COUNTS, FRACTIONS))
def test_parse_reads_back_what_str_writes(lengths):
    config = LengthConfig.of(lengths)
    assert LengthConfig.parse(str(config)) == config


@given(st.text(max_size=40))
def test_parse_raises_nothing_but_its_own_error(text):
    with suppress(LengthConfigError):
        LengthConfig.parse(text)
