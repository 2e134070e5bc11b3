"""The graphs of an export."""

from __future__ import annotations

import pytest

from dynbert.lengths import LengthConfig
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.variants import anytime_configs, list_variants


@pytest.mark.parametrize("num_layers", [1, 2, 6, 12])
def test_anytime_configs_drop_nothing_and_much(num_layers):
    nothing, much = anytime_configs(num_layers)
    assert nothing.resolve(64, always_keep_cls_token=True) == (64,) * num_layers
    assert len(much.lengths) == num_layers
    assert much.resolve(64, always_keep_cls_token=True)[-1] == 16


def test_every_variant_says_what_it_is_tried_with():
    fast = LengthConfig((9, 5))
    full, asked, anytime = list_variants((NamedLengths("fast", fast),), num_layers=2)
    nothing = LengthConfig.everything(2)
    assert [each.name for each in (full, asked, anytime)] == ["full", "fast", "anytime"]
    assert [each.checked_configs for each in (full, asked, anytime)] == [(None,), (fast,), (nothing, fast)]
    assert [each.judged_config for each in (full, asked, anytime)] == [None, fast, fast]
    assert [each.input_config for each in (full, asked, anytime)] == [None, None, fast]
    assert [each.latency_config for each in (full, asked, anytime)] == [None, None, nothing]


def test_variants_have_the_layers_of_their_profiles():
    lengths = LengthConfig((9, 5, 3))
    profiles = (
        NamedLengths("fast", lengths, (0, 2)),
        NamedLengths("short", None, (1,)),
        NamedLengths("whole", None, (0, 1, 2)),
    )
    variants = list_variants(profiles, num_layers=3)
    assert [(each.name, each.layers) for each in variants] == [
        ("full", None),
        ("fast", (0, 2)),
        ("short", (1,)),
        ("whole", None),  # all of them: nothing is left out
        ("anytime", None),
    ]
    assert [each.judged_config for each in variants] == [None, lengths, None, None, lengths]
    assert variants[2].checked_configs == (None,)
    assert not any(each.is_anytime for each in variants[:-1])


def test_anytime_has_lengths_of_its_own_where_profiles_have_layers_alone():
    *_, anytime = list_variants((NamedLengths("short", None, (1,)),), num_layers=2)
    assert anytime.anytime == anytime_configs(2)
