"""The order of a search: read, export once, measure once, try configs, conclude.

What is made once is made under the study's lock, so that a further process of the same study finds it there. What
decides what a trial says is part of the study's fingerprint; what does not (how many trials, which sampler, where to
write) may be another at each run.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.session import check_threads
from dynbert_export.checkpoint.load import load_checkpoint
from dynbert_export.options.vocabularies import QueryOption, SamplerOption, TaskOption
from dynbert_export.progress import SilentProgress
from dynbert_export.searching.aside import AsideJudge
from dynbert_export.searching.checks import check_fit, check_known
from dynbert_export.searching.choosing import list_slots
from dynbert_export.searching.contrasts import propose_contrasts
from dynbert_export.searching.data import read_parts
from dynbert_export.searching.disk import explain_disk
from dynbert_export.searching.finale import Finale
from dynbert_export.searching.fingerprint import make_fingerprint
from dynbert_export.searching.frozen import FrozenBench
from dynbert_export.searching.macs import Widths
from dynbert_export.searching.outputs import check_outputs, write_outputs
from dynbert_export.searching.preparation import Preparation
from dynbert_export.searching.reporting import keep_report, make_report, read_report
from dynbert_export.searching.study import MAIN_STUDY, RANDOM_STUDY, list_records, open_storage, open_study
from dynbert_export.searching.worker import Assignment
from dynbert_export.searching.workplace import Workplace

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from filelock import BaseFileLock
    from optuna import Study
    from optuna.storages import RDBStorage

    from dynbert_export.options.search import SearchConfig
    from dynbert_export.progress import StepProgress
    from dynbert_export.searching.results import SearchReport
    from dynbert_export.searching.splitting import Part
    from dynbert_export.searching.study import TrialRecord
    from dynbert_export.searching.worker import Worker

__all__ = ["SearchResult", "search_lengths"]

_BISECTIONS = 3
"""Steps to the uniform config and the staircase that are just as good as a profile."""


@dataclass(frozen=True)
class SearchResult:
    """What a search made."""

    recipe: Path
    """For ``dynbert-export``; a .json and a .png of the same name stand beside it."""
    report: SearchReport


def search_lengths(config: SearchConfig, *, progress: StepProgress | None = None) -> SearchResult:
    """Search for the best length configs of a checkpoint.

    Args:
        config: The options.
        progress: Told of stages, trials and notes.

    Returns:
        The recipe, and what was found.

    Raises:
        InputError: If options, data and checkpoint do not fit together, or the study is of another search.
        DataError: If the data cannot be used.
        ExportError: If the export or the disk fails, or no config is worth a profile.
    """
    progress = progress or SilentProgress()
    since = time.time()
    check_outputs(config.output, overwrite=config.overwrite)
    check_threads(config.threads)
    with progress.stage("check"):
        checkpoint = load_checkpoint(
            config.model, revision=config.revision, task=TaskOption(config.task.value), max_length=config.max_length
        )
        check_known(config, num_layers=checkpoint.config.num_hidden_layers, max_length=checkpoint.max_length)
        parts = read_parts(config, checkpoint)
        metric = check_fit(parts[0], checkpoint, config.metric)
        check_fit(parts[1], checkpoint, metric)
        fingerprint = make_fingerprint(config, checkpoint, parts)
    workplace = Workplace.of(config.study)
    lock = workplace.lock()
    preparation = Preparation(config, checkpoint, parts[0], metric, workplace, progress)
    widths = Widths(checkpoint.config.hidden_size, checkpoint.config.intermediate_size)
    with contextlib.ExitStack() as stack:
        with _turn(lock, progress):
            storage = stack.enter_context(open_storage(config.study))
            study = open_study(storage, MAIN_STUDY, config.study, fingerprint)
            workplace.check(fingerprint)
            worker = preparation.make_worker(preparation.export(), study, storage, lock)
        search = _Search(config, worker, parts, widths, progress)
        records = search.try_configs(study, config.sampler, preparation)
        at_random = search.try_at_random(storage, fingerprint, preparation, records)
        with _turn(workplace.lock_end(), progress):
            report = search.conclude(study, records, at_random, since=since)
            write_outputs(report, config, preparation.calibration)
    return SearchResult(config.output, report)


@contextlib.contextmanager
def _turn(lock: BaseFileLock, progress: StepProgress) -> Iterator[None]:
    """Hold the study's lock; say so where another process has it."""
    from filelock import Timeout

    try:
        lock.acquire(timeout=0)
    except Timeout:
        with progress.stage("wait for another worker of the study"):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class _Search:
    """What is done with all prepared."""

    config: SearchConfig
    worker: Worker
    parts: tuple[Part, Part]
    widths: Widths
    progress: StepProgress

    def try_configs(
        self, study: Study, sampler: SamplerOption, preparation: Preparation, known: tuple[TrialRecord, ...] = ()
    ) -> tuple[TrialRecord, ...]:
        """Make the trials of a study; return all that came to an end."""
        minutes = self.config.minutes
        found = sum(not each.is_contrast for each in known)
        assignment = Assignment(
            study=study,
            sampler=sampler,
            seeds=preparation.list_seeds(self.worker),
            trials=found or self.config.trials,
            deadline=None if minutes is None else time.monotonic() + 60 * minutes,
            known=known,
        )
        self.worker.search(assignment, self.progress)
        return tuple(list_records(study, self.worker.space))

    def try_at_random(
        self,
        storage: RDBStorage,
        fingerprint: Mapping[str, Any],
        preparation: Preparation,
        records: tuple[TrialRecord, ...],
    ) -> tuple[TrialRecord, ...] | None:
        """Make as many trials of random search, from the same first ones on, if that was asked for."""
        if not self.config.compare_random:
            return None
        with self.worker.lock:
            study = open_study(storage, RANDOM_STUDY, self.config.study, fingerprint)
        return self.try_configs(study, SamplerOption.RANDOM, preparation, records)

    def conclude(
        self,
        study: Study,
        records: tuple[TrialRecord, ...],
        at_random: tuple[TrialRecord, ...] | None,
        *,
        since: float,
    ) -> SearchReport:
        """Return the report, another worker's if it has just made it; the caller has the lock of the end."""
        workplace = self.worker.workplace
        asked = {
            "trials": sum(not each.is_contrast for each in records),
            "random trials": None if at_random is None else len(at_random),
            "profiles": self.config.profiles,
        }
        report = read_report(workplace.report, asked, since=since)
        if report is not None:
            return report
        records = self._try_contrasts(study, records)
        with self.worker.lock:  # who else works waits, so that times are those of this process alone
            bench = FrozenBench(self.worker.judge.graphs, workplace.frozen / "final", self.config.seed, self.progress)
            aside = AsideJudge(self.worker.judge, self.parts[1], self.config.queries is QueryOption.FULL, self.progress)
            final = Finale(self.worker, bench, aside, self.widths, self.config.profiles).conclude(records)
        report = make_report(self.config, self.worker, self.parts, final, records, at_random)
        with explain_disk(workplace.report):
            keep_report(workplace.report, asked, report)
        return report

    def _try_contrasts(self, study: Study, records: tuple[TrialRecord, ...]) -> tuple[TrialRecord, ...]:
        """Try uniform configs and staircases near the profiles to be; return all trials that came to an end.

        One worker at a time: what is near depends on what was tried, so that two would go on making each other work.
        """
        space = self.worker.space
        for _ in range(_BISECTIONS):
            full = self.worker.find_full(records)
            least = self.config.keep_quality * (full.quality or 0.0)
            slots = list_slots(records, full, count=self.config.profiles, least_quality=least)
            seeds = propose_contrasts(slots.chosen.values(), records, space)
            if not seeds:
                break
            made = sum(each.is_contrast for each in records)
            self.worker.search(
                Assignment(study, self.config.sampler, seeds, made + len(seeds), None, is_contrast=True), self.progress
            )
            records = tuple(list_records(study, space))
        return records
