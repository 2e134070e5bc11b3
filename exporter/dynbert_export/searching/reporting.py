"""From what a search found to its report, and to the other workers of the study, who need not find it again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from dynbert.cpu import cpu_name
from dynbert_export.searching.disk import write_json_whole
from dynbert_export.searching.front import hypervolume
from dynbert_export.searching.results import FoundProfile, RandomComparison, SearchReport, TrialResult
from dynbert_export.searching.splitting import is_retrieval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from dynbert_export.options.search import SearchConfig
    from dynbert_export.searching.candidate import Body, Candidate
    from dynbert_export.searching.finale import Final
    from dynbert_export.searching.splitting import Part
    from dynbert_export.searching.study import TrialRecord
    from dynbert_export.searching.worker import Worker

__all__ = ["keep_report", "make_report", "read_report"]


def make_report(
    config: SearchConfig,
    worker: Worker,
    parts: tuple[Part, Part],
    final: Final,
    records: Sequence[TrialRecord],
    random_records: Sequence[TrialRecord] | None,
) -> SearchReport:
    """Return the report of a search.

    Args:
        config: The options.
        worker: What the trials were made by.
        parts: The data, to decide by and kept aside.
        final: What the end found.
        records: Of the study.
        random_records: Of random search; None where there was none.

    Returns:
        The report.
    """
    model = worker.judge.graphs.model
    searched, aside = parts
    full = next(graph for graph in final.graphs if graph.config is None and graph.trial is not None)
    reference = (config.keep_quality * (full.searched_quality or 0.0), full.predicted_ms or 0.0)
    return SearchReport(
        model=model.id,
        task=model.task.value,
        processor=cpu_name(),
        threads=config.threads,
        precision=worker.judge.graphs.precision.value,
        sampler=config.sampler.value,
        data=searched.data.name,
        examples=len(searched.data.examples),
        aside=aside.data.name,
        aside_examples=len(aside.data.examples),
        metric=full.metrics[0].name,
        queries=config.queries.value if is_retrieval(searched.data) else None,
        lengths_of_data={name: value for name, value in vars(worker.lengths).items() if name != "distinct"},
        profiles={name: _make_profile(record.candidate, worker.body) for name, record in final.profiles.items()},
        graphs=final.graphs,
        contrasts=final.contrasts,
        refusals=final.refusals,
        trials=_results_of([each for each in records if not each.is_contrast]),
        contrast_trials=_results_of([each for each in records if each.is_contrast]),
        reference_point=reference,
        hypervolume=_hypervolume_of(records, reference),
        random=None if random_records is None else _make_random(random_records, reference),
        time_model=worker.time_model.to_json(),
        final_error=final.error,
        final_error_at_one_speed=final.error_at_one_speed,
        speed_change=final.speed_change,
    )


def keep_report(path: Path, asked: Mapping[str, Any], report: SearchReport) -> None:
    """Keep a report for the other workers of the study.

    Args:
        path: The file.
        asked: What the report is of, beside the study's fingerprint.
        report: The report.
    """
    write_json_whole(path, {"asked": dict(asked), "report": report.to_json()})


def read_report(path: Path, asked: Mapping[str, Any], *, since: float) -> SearchReport | None:
    """Return what another worker found at the end, if that was while this one worked.

    Args:
        path: The file.
        asked: What the report is to be of.
        since: Seconds since the epoch: when this worker began. An older report is of an earlier run of the command,
            which is run again to measure again.

    Returns:
        The report; None where there is none, or one of something else.
    """
    try:
        if path.stat().st_mtime < since:
            return None
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["asked"] != json.loads(json.dumps(dict(asked))):
            return None
        return TypeAdapter(SearchReport).validate_python(kept["report"])
    except (OSError, ValueError, LookupError, TypeError, ValidationError):
        return None  # it is found again


def _make_profile(candidate: Candidate, body: Body) -> FoundProfile:
    lengths = candidate.lengths.lengths if any(candidate.find_cuts(body)) or candidate.layers is None else None
    return FoundProfile(lengths, candidate.layers)


def _results_of(records: Sequence[TrialRecord]) -> tuple[TrialResult, ...]:
    return tuple(
        TrialResult(each.number, each.family, str(each.candidate), each.milliseconds, each.quality, each.reason)
        for each in records
    )


def _make_random(records: Sequence[TrialRecord], reference: tuple[float, float]) -> RandomComparison:
    return RandomComparison(_hypervolume_of(records, reference), _results_of(records))


def _hypervolume_of(records: Sequence[TrialRecord], reference: tuple[float, float]) -> float:
    found = [each for each in records if not each.is_contrast]
    points = [(each.quality, each.milliseconds) for each in found if each.quality is not None]
    return hypervolume(points, reference)
