"""Profiles: the lengths that a checkpoint brings along, beside those that the caller asks for."""

from __future__ import annotations

import pytest

from dynbert.lengths import LengthConfig
from dynbert_export.options.profiles import Profile, add_configured

_FAST = Profile("fast", LengthConfig((20, 10, 5)))
_OTHERS = LengthConfig((12, 8, 4))
_FOUND = "config.json has the length_config"


def test_nothing_is_added_when_a_checkpoint_has_no_lengths():
    assert add_configured((_FAST,), None) == ((_FAST,), None)


@pytest.mark.parametrize("asked", [(), (_FAST,)])
def test_a_checkpoint_s_lengths_become_a_profile(asked):
    profiles, note = add_configured(asked, _OTHERS)
    assert profiles == (*asked, Profile("configured", _OTHERS))
    assert note == f"{_FOUND} 12,8,4: it is exported as the profile configured."


def test_a_profile_of_the_same_lengths_serves():
    profiles, note = add_configured((_FAST,), LengthConfig((20, 10, 5)))
    assert profiles == (_FAST,)
    assert note == f"{_FOUND} 20,10,5: it is the profile fast."


@pytest.mark.parametrize("name", ["configured", "Configured"])
def test_a_profile_of_that_name_wins(name):
    asked = (Profile(name, _FAST.lengths),)
    profiles, note = add_configured(asked, _OTHERS)
    assert profiles == asked
    assert note == f"{_FOUND} 12,8,4: it is left out, because the profile {name} was asked for with others."
