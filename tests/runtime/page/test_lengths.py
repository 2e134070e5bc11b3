"""Tokens left by the length configs; the oracle is arithmetic done here."""

from __future__ import annotations

import math

import msgspec
import pytest

from dynbert.page.lengths import HEAT_STEPS, tabulate_lengths


def _counts(table):
    return {profile: [cells[index].tokens for _, cells in table.rows] for index, profile in enumerate(table.profiles)}


@pytest.mark.parametrize("tokens", [1, 2, 3, 7, 16])
def test_fractions_of_the_length_are_left(timed_bundle, tokens):
    [table] = tabulate_lengths(timed_bundle.manifest, [tokens], {})
    least = min(2, tokens)
    expected = [max(least, math.ceil(share * tokens)) for share in (0.5, 0.25)]
    assert _counts(table) == {"full": [tokens, tokens], "fast": expected}
    assert table.shares[0] == "100%"
    assert [cells[0].heat for _, cells in table.rows] == [HEAT_STEPS, HEAT_STEPS]
    assert not table.has_first_token_only


def test_counts_are_clamped_to_the_text(timed_bundle):
    profiles = tuple(
        msgspec.structs.replace(profile, length_config=(8, 3)) if profile.name == "fast" else profile
        for profile in timed_bundle.manifest.profiles
    )
    manifest = msgspec.structs.replace(timed_bundle.manifest, profiles=profiles)
    short, long = tabulate_lengths(manifest, [4, 16], {})
    assert (_counts(short)["fast"], _counts(long)["fast"]) == ([4, 3], [8, 3])
    assert long.shares == ("100%", "34%")


def test_a_layer_for_the_first_token_alone_has_one(timed_bundle):
    [table] = tabulate_lengths(timed_bundle.manifest, [8], {"full": 1, "fast": None})
    assert _counts(table) == {"full": [8, 1], "fast": [4, 2]}
    assert table.has_first_token_only


def test_layers_that_are_left_out_have_no_number(timed_bundle):
    profiles = tuple(
        msgspec.structs.replace(profile, layer_config=(1,)) if profile.name == "fast" else profile
        for profile in timed_bundle.manifest.profiles
    )
    [table] = tabulate_lengths(msgspec.structs.replace(timed_bundle.manifest, profiles=profiles), [8], {})
    assert _counts(table)["fast"] == [None, 2]
    assert table.shares[1] == "12%"
