"""What a search found, as records that tables, files and the picture are made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping  # noqa: TC003  (pydantic reads the annotations at run time)
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from dynbert_export.searching.time_model import FitError  # noqa: TC001  (the same)

__all__ = [
    "Contrast",
    "FoundProfile",
    "GraphResult",
    "MetricResult",
    "RandomComparison",
    "Refusal",
    "Role",
    "SearchReport",
    "TrialResult",
]


class Role(StrEnum):
    """What a graph is in the report for."""

    REFERENCE = "reference"
    """The fp32 graph that drops nothing."""
    FULL = "full"
    PROFILE = "profile"
    UNIFORM = "uniform"
    """The fastest config of one share in each layer that is as good as a profile."""
    STAIRCASE = "staircase"
    """The fastest config of one share of what enters each layer that is as good as a profile."""
    MACS = "macs"
    """The config of the fewest operations that is as good as a profile: what a search by counting would take."""


@dataclass(frozen=True)
class MetricResult:
    """A metric of the answers to the data that was kept aside."""

    name: str
    value: float
    low: float
    """Lower end of its 95 % interval."""
    high: float
    difference: float | None = None
    """From the reference; None for the reference itself."""
    difference_low: float | None = None
    difference_high: float | None = None
    p_value: float | None = None
    test: str | None = None


@dataclass(frozen=True)
class GraphResult:
    """One graph that was measured and judged at the end."""

    name: str
    """The profile's name, or what it is compared with."""
    role: Role
    config: str | None
    """Its lengths; None where it drops nothing."""
    trial: int | None
    searched_quality: float | None
    """Of the part that was searched by; it chose the profiles, and flatters them."""
    predicted_ms: float | None
    measured_ms: float
    """Mean of an input of the data, batch 1."""
    ms_by_tokens: Mapping[int, float]
    macs: int
    """Mean operations of an input of the data."""
    metrics: tuple[MetricResult, ...]
    """Of the data that was kept aside; the one that was maximised first."""


@dataclass(frozen=True)
class Contrast:
    """How a profile compares with what it would be without a search."""

    profile: str
    role: Role
    graph: str
    """Name of the graph that it is compared with."""
    speed_ratio: float
    """That graph's measured time by the profile's: how many times as fast the profile is."""
    is_as_good: bool
    """Whether the graph is at least as good on the part that was searched by; if not, none of its family is."""


@dataclass(frozen=True)
class Refusal:
    """A config of the front that did not become a profile."""

    name: str
    """The profile that it would have been."""
    config: str
    trial: int
    reason: str


@dataclass(frozen=True)
class TrialResult:
    """One trial."""

    number: int
    family: str
    config: str
    milliseconds: float
    """Predicted."""
    quality: float | None
    """None where it was given up."""
    reason: str | None


@dataclass(frozen=True)
class RandomComparison:
    """The search beside random search."""

    hypervolume: float
    """Of random search, as is what follows."""
    trials: tuple[TrialResult, ...]


@dataclass(frozen=True)
class FoundProfile:
    """A profile as a recipe has it."""

    length_config: tuple[int | float, ...] | None
    """One entry a layer of the model; None where nothing is dropped."""
    layer_config: tuple[int, ...] | None
    """Indices of the layers that run; None for all."""


@dataclass(frozen=True)
class SearchReport:
    """All that there is to say."""

    model: str
    task: str
    processor: str
    threads: int
    precision: str
    sampler: str
    data: str
    """Name of the part that was searched by."""
    examples: int
    aside: str
    """Name of the part that was kept aside."""
    aside_examples: int
    metric: str
    """What was maximised."""
    queries: str | None
    """Retrieval: by which graph queries were embedded."""
    lengths_of_data: Mapping[str, Any]
    """Tokens: what stands for all, the percentiles, and rows an input."""
    profiles: Mapping[str, FoundProfile]
    """By name, the slowest first."""
    graphs: tuple[GraphResult, ...]
    contrasts: tuple[Contrast, ...]
    refusals: tuple[Refusal, ...]
    trials: tuple[TrialResult, ...]
    """Those that were asked for."""
    contrast_trials: tuple[TrialResult, ...]
    """Uniform configs and staircases that were tried in addition, near the profiles. One that turns out to be faster
    than the config it was to be compared with is the profile."""
    reference_point: tuple[float, float]
    """Of hypervolumes: the least quality and the longest milliseconds that count."""
    hypervolume: float
    random: RandomComparison | None
    time_model: Mapping[str, Any]
    """Costs, and errors on measurements that were left out of the fit."""
    final_error: FitError
    """Of the time model on the frozen graphs of the end but full, which it had no part in."""
    final_error_at_one_speed: FitError
    """The same with predictions times ``speed_change``."""
    speed_change: float
    """How many times as long full took at the end as when the time model was fitted."""

    def find(self, role: Role) -> tuple[GraphResult, ...]:
        """Return the graphs of a role, in order."""
        return tuple(graph for graph in self.graphs if graph.role is role)

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dataclasses.asdict(self)
