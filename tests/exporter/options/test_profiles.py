"""Profiles that a caller asks for: names, lengths, and every form that they come in."""

from __future__ import annotations

import re

import pytest

from dynbert.errors import InputError, LengthConfigError
from dynbert.lengths import LengthConfig
from dynbert_export.options.profiles import NamedLengths, add_configured, check_lengths, make_profiles, parse_profile


@pytest.mark.parametrize(
    ("text", "name", "lengths"),
    [
        ("fast=315,251,242", "fast", (315, 251, 242)),
        ("fast = (315, 251, 242)", "fast", (315, 251, 242)),
        ("0.9,0.8", "custom", (0.9, 0.8)),
        ("v1.2_x-y=1", "v1.2_x-y", (1,)),
    ],
)
def test_parse_profile_reads_name_and_list(text, name, lengths):
    assert parse_profile(text) == NamedLengths(name, LengthConfig(lengths))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Profile custom: Length 0 must be a number"),
        ("fast=", "Profile fast: Length 0 must be a number"),
        ("fast=3,2,zero", "Profile fast: Length 2 must be a number, got 'zero'"),
        ("fast=3,0", "must be at least 1 token, got 0"),
        ("fast=3,-1", "must be at least 1 token, got -1"),
        ("fast=2,3", "must not increase"),
        ("fast=1.5", "fraction in"),
        ("=3,2", "plain file names of at most 64 characters, got ''"),
        ("a=b=3,2", "got 'a=b'"),
        ("../x=3,2", r"got '\.\./x'"),
        (".hidden=3,2", "got '.hidden'"),
        ("a b=3,2", "got 'a b'"),
        ("é=3,2", "plain file names"),
        (f"{'x' * 65}=3,2", "at most 64 characters"),
        ("full=3,2", "must not be full or anytime, got 'full'"),
        ("Anytime=3,2", "must not be full or anytime, got 'Anytime'"),
    ],
)
def test_parse_profile_refuses(text, message):
    with pytest.raises(InputError, match=message):
        parse_profile(text)


@pytest.mark.parametrize("given", [["3,2", "2,1"], ["fast=3,2", "fast=2,1"], {"fast": "3,2", "FAST": "2,1"}])
def test_make_profiles_refuses_two_of_one_name(given):
    with pytest.raises(InputError, match=r"must differ, and not only in case, got .*NAME=LIST"):
        make_profiles(given)


def test_length_config_faults_keep_their_kind():
    with pytest.raises(LengthConfigError):
        parse_profile("fast=2,3")


_FAST = NamedLengths("fast", LengthConfig((20, 10, 5)))
_OTHERS = LengthConfig((12, 8, 4))
_FOUND = "config.json has the length_config"


def test_nothing_is_added_when_a_checkpoint_has_no_lengths():
    assert add_configured((_FAST,), None) == ((_FAST,), None)


@pytest.mark.parametrize("asked", [(), (_FAST,)])
def test_a_checkpoint_s_lengths_become_a_profile(asked):
    profiles, note = add_configured(asked, _OTHERS)
    assert profiles == (*asked, NamedLengths("configured", _OTHERS))
    assert note == f"{_FOUND} 12,8,4: it is exported as the profile configured."


def test_a_profile_of_the_same_lengths_serves():
    profiles, note = add_configured((_FAST,), LengthConfig((20, 10, 5)))
    assert profiles == (_FAST,)
    assert note == f"{_FOUND} 20,10,5: it is the profile fast."


@pytest.mark.parametrize("name", ["configured", "Configured"])
def test_a_profile_of_that_name_wins(name):
    asked = (NamedLengths(name, _FAST.lengths),)
    profiles, note = add_configured(asked, _OTHERS)
    assert profiles == asked
    assert note == f"{_FOUND} 12,8,4: it is left out, because the profile {name} was asked for with others."


def test_check_lengths_holds_all_profiles_to_the_model():
    profiles = make_profiles({"short": "3", "long": "99,2,1", "good": "3,2,1", "half": "0.5,0.4"})
    with pytest.raises(InputError) as caught:
        check_lengths(profiles, num_layers=3, max_length=64)
    faults = str(caught.value).splitlines()
    assert [re.match(r"Profile (\w+)", fault).group(1) for fault in faults] == ["short", "long", "half"]
    assert "must have 3 entries, one a layer, got 1" in faults[0]
    assert "must be at most the maximum length of 64 tokens, got 99" in faults[1]
    check_lengths(make_profiles({"good": "3,2,1"}), num_layers=3, max_length=64)
