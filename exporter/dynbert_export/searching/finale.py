"""The end of a search: profiles along the front, frozen, measured again, and judged by what was kept aside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dynbert.manifest import Precision
from dynbert_export.errors import ExportError
from dynbert_export.searching.aside import REFERENCE
from dynbert_export.searching.choosing import fill_slots, list_slots, prefer_faster, refuse_again
from dynbert_export.searching.contrasts import find_best, find_contrasts
from dynbert_export.searching.front import Rival
from dynbert_export.searching.macs import count_macs
from dynbert_export.searching.results import Contrast, GraphResult, Role
from dynbert_export.searching.time_model import FitError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynbert_export.searching.aside import AsideJudge
    from dynbert_export.searching.asking import Respondent
    from dynbert_export.searching.candidate import Candidate
    from dynbert_export.searching.choosing import Choice
    from dynbert_export.searching.frozen import FrozenBench
    from dynbert_export.searching.macs import Widths
    from dynbert_export.searching.results import MetricResult, Refusal
    from dynbert_export.searching.study import TrialRecord
    from dynbert_export.searching.worker import Worker

__all__ = ["Final", "Finale"]

_REFERENCE_NAME, _FULL_NAME = "fp32 full", "full"
_CONTRASTS = (Role.UNIFORM, Role.STAIRCASE, Role.MACS)


@dataclass(frozen=True)
class Final:
    """What the end found."""

    profiles: Mapping[str, TrialRecord]
    """The slowest first."""
    refusals: tuple[Refusal, ...]
    graphs: tuple[GraphResult, ...]
    contrasts: tuple[Contrast, ...]
    error: FitError
    """Of the time model, on all frozen graphs but full."""
    error_at_one_speed: FitError
    """The same with predictions times ``speed_change``."""
    speed_change: float
    """How many times as long full took as when the time model was fitted."""


@dataclass(frozen=True)
class _Shown:
    """A graph of the report."""

    name: str
    role: Role
    record: TrialRecord | None
    """None for the reference."""

    @property
    def number(self) -> int:
        """By which its measurements are found."""
        return REFERENCE if self.record is None else self.record.number


@dataclass(frozen=True)
class Finale:
    """What the end takes."""

    worker: Worker
    bench: FrozenBench
    aside: AsideJudge
    widths: Widths
    count: int
    """Profiles that are wanted."""

    def conclude(self, records: Sequence[TrialRecord]) -> Final:
        """Choose, freeze, measure and judge.

        Args:
            records: Of the study.

        Returns:
            The profiles, and all that was measured.

        Raises:
            ExportError: If no config is faster than full and good enough.
        """
        full = self.worker.find_full(records)
        choice = self._choose(records, full)
        best = find_best(records)
        against = {each.number: best | self._find_contrasts(each, records) for each in choice.profiles.values()}
        others = [other for found in against.values() for other in found.values()]
        frozen = self.bench.open([*choice.profiles.values(), *others], full)
        graphs = {REFERENCE: self.bench.graphs.ask_full(Precision.FP32), **frozen}
        lengths = self.worker.lengths
        tokens = sorted({*lengths.sample, *lengths.marks})
        measured = self.bench.measure(graphs, tokens, "profiles")
        at_marks = {
            number: [seconds[tokens.index(mark)] for mark in lengths.marks] for number, seconds in measured.items()
        }
        choice = refuse_again(choice, at_marks, _rival(full, at_marks))
        self._check_any(choice, records)
        shown = _list_shown(choice, against, full)
        metrics = self._judge(graphs, shown)
        results = tuple(
            self._describe(each, dict(zip(tokens, measured[each.number], strict=True)), metrics[each.number])
            for each in shown
        )
        by_number = {each.number: each for each in records}
        timed = {number: by_number[number].candidate for number in frozen if number != full.number}
        change = self.worker.time_model.find_change(dict(zip(tokens, measured[full.number], strict=True)))
        return Final(
            choice.profiles,
            choice.refusals,
            results,
            _compare_times(choice, against, shown, results),
            *self._find_errors(timed, tokens, measured, change),
            change,
        )

    def _choose(self, records: Sequence[TrialRecord], full: TrialRecord) -> Choice:
        """Return profiles that hold by a first measurement, at a few lengths."""
        least = self.worker.keep_quality * (full.quality or 0.0)
        slots = list_slots(records, full, count=self.count, least_quality=least)
        if not slots.chosen:
            raise self._nothing_found(records)
        rivals = {each.number: list(self._find_contrasts(each, records).values()) for each in slots.chosen.values()}
        others = [other for found in rivals.values() for other in found]
        graphs = self.bench.open([*slots.all, *others], full)
        measured = self.bench.measure(graphs, self.worker.lengths.marks, "the front")
        choice = fill_slots(prefer_faster(slots, measured, rivals), measured, _rival(full, measured))
        self._check_any(choice, records)
        return choice

    def _find_contrasts(self, profile: TrialRecord, records: Sequence[TrialRecord]) -> dict[Role, TrialRecord]:
        return find_contrasts(profile, records, lambda record: self._count_macs(record.candidate))

    def _check_any(self, choice: Choice, records: Sequence[TrialRecord]) -> None:
        if not choice.profiles:
            raise self._nothing_found(records)

    def _nothing_found(self, records: Sequence[TrialRecord]) -> ExportError:
        return ExportError(
            f"A search must find a config that is faster than full and keeps {self.worker.keep_quality:g} of its "
            f"quality, got none in {len(records)} trials. Make more (--trials), ask for less (--keep-quality), or "
            "train the checkpoint to bear dropped tokens (dynbert-train)."
        )

    def _judge(self, graphs: Mapping[int, Respondent], shown: Sequence[_Shown]) -> dict[int, tuple[MetricResult, ...]]:
        return self.aside.judge_graphs(
            {each.number: graphs[each.number] for each in shown},
            briefly={each.number for each in shown if each.role in _CONTRASTS},
        )

    def _describe(self, shown: _Shown, seconds: Mapping[int, float], metrics: tuple[MetricResult, ...]) -> GraphResult:
        lengths, record = self.worker.lengths, shown.record
        candidate = self.worker.space.full() if record is None else record.candidate
        mean = lengths.rows_per_input * float(np.mean([seconds[length] for length in lengths.sample]))
        return GraphResult(
            name=shown.name,
            role=shown.role,
            config=None if shown.role in {Role.REFERENCE, Role.FULL} else str(candidate),
            trial=None if record is None else record.number,
            searched_quality=None if record is None else record.quality,
            predicted_ms=None if record is None else record.milliseconds,
            measured_ms=1e3 * mean,
            ms_by_tokens={length: 1e3 * second for length, second in seconds.items()},
            macs=round(self._count_macs(candidate)),
            metrics=metrics,
        )

    def _count_macs(self, candidate: Candidate) -> float:
        """Return the mean operations of an input of the data."""
        lengths = self.worker.lengths
        counts = [count_macs(candidate, tokens, self.worker.body, self.widths) for tokens in lengths.sample]
        return lengths.rows_per_input * sum(counts) / len(counts)

    def _find_errors(
        self,
        candidates: Mapping[int, Candidate],
        tokens: Sequence[int],
        measured: Mapping[int, Sequence[float]],
        change: float,
    ) -> tuple[FitError, FitError]:
        """Return how far the time model was off, and how far with its predictions at the speed of today."""
        model, body = self.worker.time_model, self.worker.body
        predicted = np.array(
            [model.predict(candidate, length, body) for candidate in candidates.values() for length in tokens]
        )
        took = np.array([second for number in candidates for second in measured[number]])
        return FitError.of(predicted, took), FitError.of(change * predicted, took)


def _rival(full: TrialRecord, seconds: Mapping[int, Sequence[float]]) -> Rival:
    return Rival(_FULL_NAME, full.quality or 0.0, tuple(seconds[full.number]))


def _list_shown(choice: Choice, against: Mapping[int, Mapping[Role, TrialRecord]], full: TrialRecord) -> list[_Shown]:
    """Return every graph of the report, each config once."""
    shown = [_Shown(_REFERENCE_NAME, Role.REFERENCE, None), _Shown(_FULL_NAME, Role.FULL, full)]
    shown += [_Shown(name, Role.PROFILE, record) for name, record in choice.profiles.items()]
    for role in _CONTRASTS:
        for profile in choice.profiles.values():
            record = against[profile.number].get(role)
            if record is not None and record.number not in {each.number for each in shown}:
                shown.append(_Shown(f"{role.value} (trial {record.number})", role, record))
    return shown


def _compare_times(
    choice: Choice,
    against: Mapping[int, Mapping[Role, TrialRecord]],
    shown: Sequence[_Shown],
    results: Sequence[GraphResult],
) -> tuple[Contrast, ...]:
    """Return how many times as fast each profile is as what it is compared with."""
    by_number = {each.number: result for each, result in zip(shown, results, strict=True)}
    contrasts = []
    for name, profile in choice.profiles.items():
        own = by_number[profile.number].measured_ms
        for role, record in against[profile.number].items():
            other = by_number[record.number]
            is_as_good = (record.quality or 0.0) >= (profile.quality or 0.0)
            contrasts.append(Contrast(name, role, other.name, other.measured_ms / own, is_as_good=is_as_good))
    return tuple(contrasts)
