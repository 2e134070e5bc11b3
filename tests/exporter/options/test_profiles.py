"""Profiles that a caller asks for: names, lengths, and every form that they come in."""

from __future__ import annotations

import re

import pytest

from dynbert.errors import InputError, LengthConfigError
from dynbert.lengths import LengthConfig
from dynbert_export.options.profiles import (
    LayersOption,
    NamedLengths,
    add_configured,
    check_lengths,
    make_length_profiles,
    make_profiles,
    parse_profile,
)


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


_COUNTS = LengthConfig((20, 10, 5))


@pytest.mark.parametrize(
    ("given", "profile"),
    [
        ({"length_config": [20, 10, 5], "layer_config": [0, 2]}, NamedLengths("fast", _COUNTS, (0, 2))),
        ({"length_config": "20,10,5", "layer_config": "2,0"}, NamedLengths("fast", _COUNTS, (0, 2))),
        ({"length_config": _COUNTS, "layer_config": None}, NamedLengths("fast", _COUNTS)),
        ({"layer_config": (0, 2)}, NamedLengths("fast", None, (0, 2))),
        ({"length_config": None, "layer_config": [1]}, NamedLengths("fast", None, (1,))),
    ],
)
def test_a_profile_may_be_a_mapping(given, profile):
    assert make_profiles({"fast": given}) == (profile,)


def test_layers_of_the_command_line_belong_to_the_profile_of_their_name():
    given = [
        "fast=20,10,5",
        "0.9,0.8,0.7",
        LayersOption("0,1"),
        LayersOption("short = 1"),
        LayersOption("fast=2,0"),
        NamedLengths("ready", None, (2,)),
    ]
    assert make_profiles(given) == (
        NamedLengths("fast", _COUNTS, (0, 2)),
        NamedLengths("custom", LengthConfig((0.9, 0.8, 0.7)), (0, 1)),
        NamedLengths("short", None, (1,)),
        NamedLengths("ready", None, (2,)),
    )


def test_layers_of_a_named_profile_become_ascending():
    assert NamedLengths("fast", None, (2, 0)).layers == (0, 2)


_NEITHER = r"Profile fast must have a length config, a layer config or both, got neither\. Write for example fast: \{"


@pytest.mark.parametrize(
    ("given", "messages"),
    [
        ({"fast": {}}, [_NEITHER]),
        ({"fast": None}, [_NEITHER]),
        ({"fast": {"layers": [0]}}, ["Profile fast: Keys must be length_config or layer_config, got 'layers'."]),
        ({"fast": {1: [0]}}, ["Profile fast: Keys must be length_config or layer_config, got 1."]),
        (
            {"fast": {"length_config": "1,2", "layer_config": "0,0"}, "b/c": {"layer_config": [0]}},
            ["Profile fast: A length config must not increase", "Profile fast: A layer config must", "got 'b/c'"],
        ),
        (
            ["fast=20,10", LayersOption("fast=0,x"), LayersOption("y"), LayersOption("full=1")],
            ["Profile fast: Layer indices must be", "Profile custom: Layer indices must be", "got 'full'"],
        ),
        (
            [LayersOption("fast=0"), LayersOption("fast=1")],
            ["got 'fast' and 'fast'. Name each: .*--layer-config NAME="],
        ),
        (["fast=2,1", LayersOption("Fast=1")], ["must differ, and not only in case, got 'fast' and 'Fast'"]),
        (["fast=2,1", LayersOption("")], ["Profile custom: A layer config must name at least one layer, got none"]),
        ({True: {"layer_config": [0]}}, ["Profile names must be text, got True"]),
    ],
)
def test_faults_of_layers_are_told_with_all_others(given, messages):
    with pytest.raises(InputError) as caught:
        make_profiles(given)
    faults = str(caught.value).splitlines()
    assert len(faults) == len(messages)
    for fault, message in zip(faults, messages, strict=True):
        assert re.search(message, fault), fault


def test_a_named_profile_must_have_something():
    with pytest.raises(InputError, match=_NEITHER):
        NamedLengths("fast", None)


def test_check_lengths_holds_layers_to_the_model_too():
    profiles = make_profiles({"far": {"layer_config": [0, 3]}, "both": {"length_config": "3,2", "layer_config": "7"}})
    with pytest.raises(InputError) as caught:
        check_lengths(profiles, num_layers=3, max_length=64)
    assert str(caught.value).splitlines() == [
        "Profile far: Layer indices must be from 0 to 2 for a model of 3 layers, got 3.",
        "Profile both: A length config must have 3 entries, one a layer, got 2: 3,2.",
        "Profile both: Layer indices must be from 0 to 2 for a model of 3 layers, got 7.",
    ]
    check_lengths(make_profiles({"good": {"layer_config": [0, 2]}}), num_layers=3, max_length=64)


def test_a_profile_with_the_checkpoint_s_lengths_and_fewer_layers_is_another():
    asked = (NamedLengths("fast", _COUNTS, (0, 2)),)
    profiles, note = add_configured(asked, _COUNTS)
    assert profiles == (*asked, NamedLengths("configured", _COUNTS))
    assert note == f"{_FOUND} 20,10,5: it is exported as the profile configured."


def test_profiles_of_a_training_run_all_layers():
    assert make_length_profiles({"fast": "3,2"}) == (NamedLengths("fast", LengthConfig((3, 2))),)
    with pytest.raises(InputError) as caught:
        make_length_profiles({"fast": {"layer_config": [2, 0]}, "slow": {"layer_config": "1", "length_config": "3,2"}})
    first, second = str(caught.value).splitlines()
    assert first.startswith("Profile fast must have no layer_config in a training, got 0,2. A training judges the")
    assert second.startswith("Profile slow must have no layer_config in a training, got 1.")
