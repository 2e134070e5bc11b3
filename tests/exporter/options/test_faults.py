"""Faults of the options in words: one sentence each, with the name's place, the rule and the value."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dynbert_export.options.faults import explain_faults


class _Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    share: Annotated[float, Field(ge=0, lt=1)] = 0.5


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    seed: Annotated[int, Field(ge=0)] = 0
    inner: _Inner = _Inner()


def _explain(values):
    with pytest.raises(ValidationError) as caught:
        _Options.model_validate(values)
    known = ("name", "seed", "inner")
    return list(explain_faults(caught.value, options=known, sections=("inner.share",), purpose="an export"))


@pytest.mark.parametrize(
    ("values", "sentences"),
    [
        ({}, ["name must be given. Pass it as an option or in the recipe."]),
        ({"name": 3}, ["name must be text, got 3."]),
        ({"name": "a", "seed": -1}, ["seed must be at least 0, got -1."]),
        ({"name": "a", "inner": {"share": 1}}, ["inner.share must be less than 1.0, got 1."]),
        ({"name": "a", "inner": 3}, ["inner must be a mapping, got 3."]),
        ({"name": "a", 1: 2}, ["Keys must be text, got 1. Put it in quotes, or take it out."]),
        (
            {"name": "a", "sead": 1, "inner": {"shares": 0}},
            [
                (
                    "Keys must be options of an export, got inner.shares (did you mean inner.share?), "
                    "sead (did you mean seed?). Known are: name, seed, inner."
                )
            ],
        ),
        (
            {"seed": -1, "name": [], "x": 0},
            [
                "Keys must be options of an export, got x. Known are: name, seed, inner.",
                "name must be text, got [].",
                "seed must be at least 0, got -1.",
            ],
        ),
    ],
)
def test_each_fault_is_one_sentence_and_unknown_keys_share_one(values, sentences):
    assert _explain(values) == sentences
