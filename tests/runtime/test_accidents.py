"""600 accidents to a bundle's files: each is refused, or changes nothing; and 300 that the checksums hide.

The 600 leave the checksums as they were, as on a bad disk; a wrong answer is impossible then. For the 300 the
checksums fit what the files became, as after a fault where they were written: the answer may be wrong then, but
nothing but our own errors may be raised.
"""

from __future__ import annotations

import shutil
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import dynbert
from dynbert.errors import BundleError, InputError
from dynbert.manifest import read_manifest, write_manifest
from dynbert.verify import verify_bundle
from tests.helpers.accidents import KINDS, Accident, cause_accident

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUNDLE = Path(__file__).parents[1] / "golden" / "bundle-v1"
_ACCIDENTS = 600
_HIDDEN = 300
_VERIFIED = 5
"""Every so many a bundle is verified too."""
_CALLS: tuple[dict[str, Any], ...] = ({}, {"profile": "fast"}, {"length_config": (0.3,)})


@dataclass(frozen=True)
class _Outcome:
    seed: int
    accident: Accident
    fits: bool
    result: str
    """``refused``, ``right``, ``wrong``, or what was raised instead."""


def _answers(folder: Path) -> list[Any]:
    model = dynbert.load(folder, threads=1)
    return [model("the film was bad", **call) for call in _CALLS]


def _result(folder: Path, expected: list[Any], *, verifies: bool) -> str:
    try:
        if verifies:
            verify_bundle(folder, threads=1)
        answers = _answers(folder)
    except (BundleError, InputError):
        return "refused"
    except Exception as err:  # noqa: BLE001 - the test reports it
        return repr(err)
    return "right" if answers == expected else "wrong"


def _cause_accidents(folder: Path) -> Iterator[_Outcome]:
    sound = shutil.copytree(_BUNDLE, folder / "sound")
    write_manifest(sound, read_manifest(sound))  # of today's schema
    expected = _answers(sound)
    for seed in range(_ACCIDENTS + _HIDDEN):
        bundle = shutil.copytree(sound, folder / "bundle")
        fits = seed >= _ACCIDENTS
        accident = cause_accident(bundle, np.random.default_rng(seed), fits=fits)
        yield _Outcome(seed, accident, fits, _result(bundle, expected, verifies=seed % _VERIFIED == 0))
        shutil.rmtree(bundle)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a graph that was not made for this CPU, where the accident says so
        return list(_cause_accidents(tmp_path_factory.mktemp("accidents")))


def test_nothing_but_our_own_errors_is_raised(outcomes):
    assert [each for each in outcomes if each.result not in {"refused", "right", "wrong"}] == []


def test_no_answer_is_wrong_where_the_checksums_are_those_of_the_export(outcomes):
    assert [each for each in outcomes if each.result == "wrong" and not each.fits] == []


def test_the_accidents_are_of_every_kind_and_in_every_file(outcomes):
    assert Counter(each.fits for each in outcomes) == {False: _ACCIDENTS, True: _HIDDEN}
    assert {each.accident.kind for each in outcomes} == set(KINDS)
    assert {each.accident.file for each in outcomes} == {path.name for path in _BUNDLE.iterdir()}
    results = Counter((each.fits, each.result) for each in outcomes)
    assert results[False, "refused"] > 0.9 * _ACCIDENTS
    assert min(results[True, "refused"], results[True, "right"], results[True, "wrong"]) > 3
