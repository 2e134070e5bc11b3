"""One process's share in a study: ask for a config, judge it, tell, while trials are wanted and time is left."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import TrialState

from dynbert_export.errors import ExportError
from dynbert_export.searching.candidate import resolve_key
from dynbert_export.searching.front import find_front
from dynbert_export.searching.judging import Rivals
from dynbert_export.searching.samplers import make_sampler
from dynbert_export.searching.study import CONTRAST, FAMILY, enqueue_missing, list_records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from filelock import BaseFileLock
    from optuna import Study, Trial
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from dynbert_export.options.vocabularies import SamplerOption
    from dynbert_export.progress import StepProgress
    from dynbert_export.searching.candidate import Body, Candidate
    from dynbert_export.searching.judging import Judge, Verdict
    from dynbert_export.searching.lengths_of_data import DataLengths
    from dynbert_export.searching.space import Space
    from dynbert_export.searching.study import TrialRecord
    from dynbert_export.searching.time_model import TimeModel
    from dynbert_export.searching.workplace import Workplace

    Tell = Callable[[str], None]

__all__ = ["Assignment", "Worker"]

_WAIT_SECONDS = 1.0
_KEY = "key"
"""Attribute of a trial: what tells candidates apart."""
_NOT_OURS_ANY_MORE = "Cannot tell"
"""How Optuna begins to say that a trial was declared failed while it ran: its process slept, as laptops do."""


@dataclass(frozen=True)
class Assignment:
    """A study to work on."""

    study: Study
    sampler: SamplerOption
    seeds: Sequence[tuple[str, Candidate]]
    """Family and config of what is tried first."""
    trials: int
    """That are to come to an end, by all workers."""
    deadline: float | None
    """By ``time.monotonic``, no trial begins later; None for no bound."""
    known: Sequence[TrialRecord] = ()
    """Trials of another study whose qualities need not be found again."""
    is_contrast: bool = False
    """Whether trials are made to compare profiles with: the seeds and no others."""

    def counts(self, attributes: Mapping[str, Any]) -> bool:
        """Return whether a trial is one of those that are to be made.

        Args:
            attributes: The trial's own.

        Returns:
            Whether it is.
        """
        return bool(attributes.get(CONTRAST, False)) is self.is_contrast


@dataclass(frozen=True)
class Worker:
    """What a trial takes."""

    space: Space
    judge: Judge
    time_model: TimeModel
    lengths: DataLengths
    workplace: Workplace
    lock: BaseFileLock
    storage: RDBStorage
    keep_quality: float
    seed: int

    @property
    def body(self) -> Body:
        """What lengths act on."""
        return self.space.body

    def predict_ms(self, candidate: Candidate) -> float:
        """Return the predicted time of a candidate for an input of the data.

        Args:
            candidate: What runs, its lengths frozen.

        Returns:
            Milliseconds.
        """
        return 1e3 * self.lengths.mean_seconds(self.time_model, candidate, self.body)

    def search(self, assignment: Assignment, progress: StepProgress) -> None:
        """Make trials until the study has enough, those of all other workers included, or no time is left.

        Args:
            assignment: The study.
            progress: Told of trials.

        Raises:
            ExportError: If the disk refuses.
        """
        study, deadline = assignment.study, assignment.deadline
        what = "search for contrasts" if assignment.is_contrast else f"search ({assignment.sampler.value})"
        with progress.steps(what) as update:

            def tell(said: str) -> None:
                done = _count(assignment, (TrialState.COMPLETE, TrialState.PRUNED))
                update(min(done, assignment.trials), assignment.trials, said)

            tell("")
            while deadline is None or time.monotonic() < deadline:
                if self._make_trial(assignment, tell):
                    continue
                if not self._is_anyone_at_work(study):
                    break
                time.sleep(_WAIT_SECONDS)  # another worker's last trials: if it dies, they are ours
            while self._is_anyone_at_work(study):  # the end is about all trials
                time.sleep(_WAIT_SECONDS)

    def find_full(self, records: Sequence[TrialRecord]) -> TrialRecord:
        """Return the trial that drops nothing.

        Args:
            records: Of the study.

        Returns:
            The trial.

        Raises:
            ExportError: If it was not made: no time was left.
        """
        key = resolve_key(self.space.full(), self.lengths.distinct, self.body)
        for record in records:
            if record.key == key and record.quality is not None:
                return record
        raise ExportError(
            "A search must judge the full model before it can compare, got no time for it. Raise --minutes; the same "
            "command goes on."
        )

    def _make_trial(self, assignment: Assignment, tell: Tell) -> bool:
        """Make one trial; return False where there are enough, those that run included."""
        study = assignment.study
        self.lock.acquire()
        try:
            _fail_stale(study)
            states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)
            if _count(assignment, states) >= assignment.trials:
                return False
            enqueue_missing(study, self.space, assignment.seeds, are_contrasts=assignment.is_contrast)
            trials = len(study.get_trials(deepcopy=False))
            study.sampler = make_sampler(assignment.sampler, self.space, seed=self.seed, trial=trials)

            def objective(trial: Trial) -> tuple[float, float]:
                candidate = self._take(trial, assignment.sampler)
                self.lock.release()
                return self._try(assignment, trial, candidate, tell)

            study.optimize(objective, n_trials=1, callbacks=[lambda _, trial: tell(_describe(trial))])
        except ValueError as err:
            if not str(err).startswith(_NOT_OURS_ANY_MORE):
                raise
            tell("another worker gave this one's trial up")
        finally:
            self.lock.release(force=True)
        return True

    def _take(self, trial: Trial, sampler: SamplerOption) -> Candidate:
        """Return a trial's candidate, and note what every trial says of itself."""
        candidate = self.space.suggest(trial)
        if FAMILY not in trial.user_attrs:
            trial.set_user_attr(FAMILY, sampler.value)
        trial.set_user_attr("config", str(candidate))
        trial.set_user_attr("milliseconds", self.predict_ms(candidate))
        self.storage.record_heartbeat(trial._trial_id)  # noqa: SLF001  (the thread that does so may be late)
        trial.set_user_attr(_KEY, resolve_key(candidate, self.lengths.distinct, self.body))  # last: see _fail_stale
        return candidate

    def _try(self, assignment: Assignment, trial: Trial, candidate: Candidate, tell: Tell) -> tuple[float, float]:
        """Return a candidate's quality and time, or give it up."""
        key, milliseconds = trial.user_attrs[_KEY], trial.user_attrs["milliseconds"]
        records = list_records(assignment.study, self.space)
        finished = [each for each in assignment.known if each.quality is not None]
        same = next((each for each in (*records, *finished) if each.key == key), None)
        if same is not None:
            trial.set_user_attr("same_as", same.number)
            quality, reason = same.quality, same.reason
        else:
            verdict = self._judge(candidate, milliseconds, records, tell)
            trial.set_user_attr("examples", verdict.examples)
            trial.set_user_attr("quality_so_far", verdict.quality)
            quality, reason = verdict.quality, verdict.reason
            if reason is None:
                self.workplace.write_scores(key, verdict.resampled)
        if quality is None or reason is not None:
            trial.set_user_attr("reason", reason)
            raise optuna.TrialPruned(reason)
        return quality, milliseconds

    def _judge(self, candidate: Candidate, milliseconds: float, records: Sequence[TrialRecord], tell: Tell) -> Verdict:
        """Ask a candidate, compared with the front of what takes no more time."""
        points = [(each.quality, each.milliseconds, each) for each in records if each.quality is not None]
        faster = [point for point in points if point[1] <= milliseconds]
        front = [faster[place][2] for place in find_front([point[:2] for point in faster])]
        full = resolve_key(self.space.full(), self.lengths.distinct, self.body)
        rivals = Rivals(
            faster={f"trial {each.number}": self.workplace.read_scores(each.key) for each in front},
            floor={part: self.keep_quality * drawn for part, drawn in self.workplace.read_scores(full).items()},
        )
        said = f"{milliseconds:.2f} ms"
        return self.judge.judge(candidate, rivals, lambda done, total: tell(f"{said}, {done} of {total} answers"))

    def _is_anyone_at_work(self, study: Study) -> bool:
        """Return whether trials of other workers run; those of the dead are declared failed."""
        with self.lock:
            _fail_stale(study)
            return bool(study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)))


def _describe(trial: FrozenTrial) -> str:
    """Return what there is to say of a trial that came to an end."""
    time_ms = f"{trial.user_attrs['milliseconds']:.2f} ms"
    return f"{time_ms}, {trial.values[0]:.4f}" if trial.values else f"{time_ms}, given up"


def _count(assignment: Assignment, states: tuple[TrialState, ...]) -> int:
    """Return how many trials of an assignment are in one of some states."""
    trials = assignment.study.get_trials(deepcopy=False, states=states)
    return sum(assignment.counts(trial.user_attrs) for trial in trials)


def _fail_stale(study: Study) -> None:
    """Declare trials failed whose process is gone; the caller has the lock.

    Optuna waits for ever for a trial whose process was killed before its first heartbeat. Such a trial says nothing of
    itself yet: who lives does so before it lets go of the lock.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if _KEY not in trial.user_attrs:
            study.tell(trial.number, state=TrialState.FAIL)
