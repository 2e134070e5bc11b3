"""Which configs become profiles: evenly along the front, and none that is faster on no input than something better."""

from __future__ import annotations

from dynbert.lengths import LengthConfig
from dynbert_export.searching.candidate import Candidate
from dynbert_export.searching.choosing import Slots, fill_slots, list_slots, prefer_faster, refuse_again
from dynbert_export.searching.contrasts import find_best, find_contrasts
from dynbert_export.searching.front import Rival
from dynbert_export.searching.results import Role
from dynbert_export.searching.study import TrialRecord


def _record(number, quality, milliseconds, family="evolution"):
    share = round(0.9 - number / 100, 2)
    return TrialRecord(number, Candidate(LengthConfig((share,) * 3)), family, quality, milliseconds, f"key {number}")


_FULL = _record(0, 0.90, 8.0, "full")
_FRONT = [
    _record(1, 0.89, 6.0),
    _record(2, 0.88, 4.1),
    _record(3, 0.86, 3.0),
    _record(4, 0.85, 2.1),
    _record(5, 0.8, 1.0),
]


def _slots(records, count=3, least=0.7):
    return list_slots([_FULL, *records], _FULL, count=count, least_quality=least)


def test_slots_are_even_along_the_front_and_named():
    slots = _slots(_FRONT)
    assert {name: each.number for name, each in slots.chosen.items()} == {"accurate": 2, "balanced": 4, "fast": 5}
    assert {each.number for each in slots.alternates} == {1, 3}
    assert len(slots.all) == 5


def test_what_is_too_bad_beaten_or_no_faster_than_full_has_no_slot():
    others = [_record(6, 0.5, 0.5), _record(7, 0.7, 3.5), _record(8, 0.95, 9.0), _record(9, None, 0.7)]
    assert _slots([*_FRONT, *others]) == _slots(_FRONT)
    assert _slots([others[0]]).chosen == {}


def test_a_short_front_gives_few_profiles():
    assert list(_slots(_FRONT[:2], count=5).chosen) == ["accurate", "fast"]


def _fill(slots, seconds):
    return fill_slots(slots, seconds, Rival("full", 0.90, (4.0, 8.0, 12.0)))


def _measured(slots, **odd):
    usual = {each.number: (each.milliseconds / 2, each.milliseconds, 1.5 * each.milliseconds) for each in slots.all}
    return usual | {int(name.removeprefix("trial_")): seconds for name, seconds in odd.items()}


def test_profiles_that_hold_are_kept():
    slots = _slots(_FRONT)
    choice = _fill(slots, _measured(slots))
    assert dict(choice.profiles) == dict(slots.chosen)
    assert choice.refusals == ()


def test_a_profile_that_is_faster_on_no_input_is_refused_by_name_and_replaced():
    slots = _slots(_FRONT)
    choice = _fill(slots, _measured(slots, trial_2=(4.1, 8.0, 12.5)))
    assert {name: each.number for name, each in choice.profiles.items()} == {"accurate": 3, "balanced": 4, "fast": 5}
    [refusal] = choice.refusals
    assert (refusal.name, refusal.trial, refusal.config) == ("accurate", 2, "0.88,0.88,0.88")
    assert refusal.reason == (
        "it is faster on no input than full, which is better (0.8800 against 0.9000): 4100.00, 8000.00, 12500.00 ms "
        "against 4000.00, 8000.00, 12000.00"
    )


def test_a_profile_is_held_to_other_profiles_too_and_left_out_where_nothing_can_replace_it():
    slots = Slots(_slots(_FRONT).chosen, ())
    choice = _fill(slots, _measured(slots, trial_4=(2.1, 4.2, 6.3)))  # slower than trial 2, and worse
    assert {name: each.number for name, each in choice.profiles.items()} == {"accurate": 2, "fast": 5}
    assert [(each.name, "than accurate" in each.reason) for each in choice.refusals] == [("balanced", True)]


def test_faster_on_one_input_is_enough():
    slots = _slots(_FRONT)
    choice = _fill(slots, _measured(slots, trial_2=(4.1, 8.0, 11.0)))
    assert choice.refusals == ()


def test_all_may_be_refused():
    slots = _slots(_FRONT[:1])
    choice = _fill(slots, _measured(slots, trial_1=(9.0, 9.0, 19.0)))
    assert dict(choice.profiles) == {}
    assert len(choice.refusals) == 1


def test_the_last_measurement_may_refuse_as_well():
    slots = _slots(_FRONT)
    choice = _fill(slots, _measured(slots))
    again = refuse_again(choice, _measured(slots, trial_5=(9.0, 9.0, 19.0)), Rival("full", 0.90, (4.0, 8.0, 12.0)))
    assert list(again.profiles) == ["accurate", "balanced"]
    assert [each.name for each in again.refusals] == ["fast"]


def test_a_rival_that_turned_out_to_be_faster_gets_the_slot():
    slots = _slots(_FRONT)
    rivals = {2: [_record(10, 0.88, 4.3, "uniform"), _record(11, 0.89, 4.2, "staircase"), _FULL], 4: [_FRONT[1]]}
    seconds = _measured(slots, trial_10=(2.0, 3.9, 6.0), trial_11=(1.9, 3.8, 5.9), trial_0=(4.0, 8.0, 12.0))
    chosen = prefer_faster(slots, seconds, rivals).chosen
    assert {name: each.number for name, each in chosen.items()} == {"accurate": 11, "balanced": 4, "fast": 5}
    same = prefer_faster(slots, seconds | {11: (2.04, 4.08, 6.1), 10: (9.0, 9.0, 9.0)}, rivals).chosen
    assert same["accurate"].number == 2  # half a percent is noise


def test_contrasts_are_the_fastest_of_their_family_that_are_as_good():
    profile = _FRONT[2]  # 0.86
    records = [
        _FULL,
        *_FRONT,
        _record(10, 0.87, 5.0, "uniform"),
        _record(11, 0.86, 4.5, "uniform"),
        _record(12, 0.85, 3.0, "uniform"),
        _record(13, 0.84, 2.0, "staircase"),
    ]
    operations = {0: 9.0, 1: 6.0, 2: 2.0, 3: 3.0, 4: 1.0, 5: 1.0, 10: 5.0, 11: 4.0, 12: 3.0, 13: 1.0}
    found = find_contrasts(profile, records, lambda record: operations[record.number])
    assert {role: each.number for role, each in found.items()} == {Role.UNIFORM: 11, Role.STAIRCASE: 0, Role.MACS: 2}


def test_a_profile_that_is_better_than_all_else_is_compared_with_the_best_of_each_family():
    profile, given_up = _record(1, 0.99, 6.0), _record(4, None, 1.0, "uniform")
    records = [_FULL, profile, _record(2, 0.9, 7.0, "uniform"), _record(3, 0.95, 7.5, "staircase"), given_up]
    assert find_contrasts(profile, records, lambda _: 1.0) == {Role.MACS: profile}
    assert {role: each.number for role, each in find_best(records).items()} == {Role.UNIFORM: 2, Role.STAIRCASE: 3}
    assert find_best([_FULL, profile]) == {Role.UNIFORM: _FULL, Role.STAIRCASE: _FULL}
