"""The study's file: trials in it, and what happens to those of processes that are gone."""

from __future__ import annotations

import time

import optuna
import pytest
from optuna.trial import TrialState

from dynbert.errors import InputError
from dynbert_export.errors import ExportError
from dynbert_export.options.vocabularies import LengthKind
from dynbert_export.searching import study as study_module
from dynbert_export.searching.candidate import Body
from dynbert_export.searching.space import Space
from dynbert_export.searching.study import MAIN_STUDY, enqueue_missing, list_records, open_storage, open_study
from dynbert_export.searching.worker import _fail_stale

_SPACE = Space(Body(3, 3, 64, always_keep_cls_token=True), (LengthKind.FRACTIONS,), 50)
_FINGERPRINT = {"seed": 0}


def _finish(study, quality=0.5):
    def objective(trial):
        candidate = _SPACE.suggest(trial)
        trial.set_user_attr("milliseconds", 2.0)
        trial.set_user_attr("key", str(candidate))
        if quality is None:
            trial.set_user_attr("reason", "hopeless")
            raise optuna.TrialPruned
        return quality, 2.0

    study.optimize(objective, n_trials=1)


@pytest.fixture
def study(tmp_path):
    with open_storage(tmp_path / "new" / "study.db") as storage:
        yield open_study(storage, MAIN_STUDY, tmp_path / "new" / "study.db", _FINGERPRINT)


def test_seeds_are_tried_once_and_in_order(study):
    seeds = [("full", _SPACE.full()), ("uniform", _SPACE.uniform(0.5)), ("again", _SPACE.uniform(0.5))]
    for _ in range(2):
        enqueue_missing(study, _SPACE, seeds)
    _finish(study)
    enqueue_missing(study, _SPACE, seeds)
    _finish(study, quality=None)
    full, uniform = list_records(study, _SPACE)
    assert (full.family, full.quality, full.candidate) == ("full", 0.5, _SPACE.full())
    assert (uniform.family, uniform.quality, uniform.reason) == ("uniform", None, "hopeless")
    assert len(study.trials) == 2


def test_seeds_that_failed_are_tried_again(study):
    seeds = [("full", _SPACE.full())]
    enqueue_missing(study, _SPACE, seeds)

    def fail(trial):
        _SPACE.suggest(trial)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        study.optimize(fail, n_trials=1)
    enqueue_missing(study, _SPACE, seeds)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_contrasts_are_told_apart(study):
    enqueue_missing(study, _SPACE, [("uniform", _SPACE.uniform(0.5))], are_contrasts=True)
    _finish(study)
    enqueue_missing(study, _SPACE, [("full", _SPACE.full())])
    _finish(study)
    assert [record.is_contrast for record in list_records(study, _SPACE)] == [True, False]


def test_a_study_goes_on_where_it_was_and_only_by_what_it_was_begun_with(tmp_path):
    path = tmp_path / "study.db"
    with open_storage(path) as storage:
        study = open_study(storage, MAIN_STUDY, path, _FINGERPRINT)
        enqueue_missing(study, _SPACE, [("full", _SPACE.full())])
        _finish(study)
    with open_storage(path) as storage:
        assert len(list_records(open_study(storage, MAIN_STUDY, path, _FINGERPRINT), _SPACE)) == 1
        with pytest.raises(InputError, match=rf"got another seed for {path}"):
            open_study(storage, MAIN_STUDY, path, {"seed": 1})


def test_trials_of_a_process_that_is_gone_are_declared_failed(tmp_path, monkeypatch):
    monkeypatch.setattr(study_module, "_HEARTBEAT_SECONDS", 1)
    monkeypatch.setattr(study_module, "_GRACE_SECONDS", 1)
    path = tmp_path / "study.db"
    with open_storage(path) as storage:
        study = open_study(storage, MAIN_STUDY, path, _FINGERPRINT)
        trial = storage.create_new_trial(study._study_id)
        storage.record_heartbeat(trial)
        storage.set_trial_user_attr(trial, "key", "abc")
        _fail_stale(study)
        assert study.trials[0].state is TrialState.RUNNING
        time.sleep(3)
        _fail_stale(study)
        assert study.trials[0].state is TrialState.FAIL


def test_a_trial_whose_process_was_killed_before_its_first_heartbeat_is_declared_failed(study):
    study._storage.create_new_trial(study._study_id)
    _fail_stale(study)
    assert study.trials[0].state is TrialState.FAIL


def test_optunas_own_messages_are_restored(tmp_path):
    before = optuna.logging.get_verbosity()
    with open_storage(tmp_path / "study.db"):
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    assert optuna.logging.get_verbosity() == before


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(ExportError, match="must be a file that can be read and written"),
        open_storage(tmp_path / "folder"),
    ):
        pass
