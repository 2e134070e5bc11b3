"""The study's file: Optuna's storage in SQLite, which several processes may work on at once.

Optuna warns of SQLite under several processes, because two of them may take the same waiting trial. Here they take
turns by a lock when they ask for one (``worker.py``), and wait for each other's writes.

A process that was killed leaves a trial that runs for ever. Each trial's process therefore writes a heartbeat, and the
next one that asks declares those failed whose heartbeat stopped.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.errors import InputError
from dynbert_export.errors import ExportError
from dynbert_export.searching.fingerprint import check_same

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial

    from dynbert_export.searching.candidate import Candidate
    from dynbert_export.searching.space import Space

__all__ = [
    "CONTRAST",
    "FAMILY",
    "MAIN_STUDY",
    "RANDOM_STUDY",
    "TrialRecord",
    "enqueue_missing",
    "list_records",
    "open_storage",
    "open_study",
]

MAIN_STUDY = "dynbert-search"
RANDOM_STUDY = "dynbert-search-random"
"""Of as many trials with the random sampler."""
FAMILY = "family"
"""A trial's attribute: where its config came from."""
CONTRAST = "contrast"
"""Attribute of a trial that was made to compare profiles with."""
_FINGERPRINT = "fingerprint"
_HEARTBEAT_SECONDS = 5
_GRACE_SECONDS = 30
"""A heartbeat that is older belongs to a process that is gone."""
_LOCK_TIMEOUT_SECONDS = 60


@dataclass(frozen=True)
class TrialRecord:
    """One trial that came to an end."""

    number: int
    candidate: Candidate
    family: str
    """Where its config came from: ``uniform``, ``evolution``, ..."""
    quality: float | None
    """None where it was given up before the end."""
    milliseconds: float
    """Predicted for an input of the data."""
    key: str
    reason: str | None = None
    """Why it was given up."""
    is_contrast: bool = False
    """Whether it was made to compare profiles with, and not to find any."""


@contextlib.contextmanager
def open_storage(path: Path) -> Iterator[RDBStorage]:
    """Open a study's file, made if it is absent.

    Args:
        path: The file.

    Yields:
        The storage.

    Raises:
        InputError: If the file is no study's.
        ExportError: If it cannot be written.
    """
    import optuna
    from sqlalchemy.exc import OperationalError

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = None
    try:
        storage = _open(path)
        yield storage
    except (OperationalError, optuna.exceptions.StorageInternalError) as err:
        raise _unusable(path, err) from err
    finally:
        if storage is not None:
            storage.remove_session()
            storage.engine.dispose()
        optuna.logging.set_verbosity(verbosity)


def _open(path: Path) -> RDBStorage:
    import optuna
    from sqlalchemy.exc import DatabaseError, OperationalError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # the heartbeat
            return optuna.storages.RDBStorage(
                f"sqlite:///{path.absolute()}",
                engine_kwargs={"connect_args": {"timeout": _LOCK_TIMEOUT_SECONDS}},
                heartbeat_interval=_HEARTBEAT_SECONDS,
                grace_period=_GRACE_SECONDS,
            )
    except (OperationalError, OSError) as err:
        raise _unusable(path, err) from err
    except (DatabaseError, RuntimeError) as err:  # the latter is Optuna's for tables of another version of its own
        raise InputError(
            f"Study must be a new file or one that dynbert-search wrote, got {path} ({_first_line(err)}). "
            "Choose another."
        ) from err


def _unusable(path: Path, err: Exception) -> ExportError:
    return ExportError(
        f"Study {path} must be a file that can be read and written, got: {_first_line(err)}. Finished trials stay; the "
        "same command goes on."
    )


def open_study(storage: RDBStorage, name: str, path: Path, fingerprint: Mapping[str, Any]) -> Study:
    """Open one of a file's studies, made if it is absent.

    Args:
        storage: The file's.
        name: Of the study.
        path: The file, for messages.
        fingerprint: Of the search.

    Returns:
        The study: quality is maximised, time minimised.

    Raises:
        InputError: If the file is of another search, or of another program.
    """
    import optuna

    names = set(optuna.get_all_study_names(storage))
    if names and MAIN_STUDY not in names:
        raise InputError(
            f"Study must be a new file or one that dynbert-search wrote, got {path} with the studies "
            f"{', '.join(sorted(names))}. Choose another."
        )
    study = optuna.create_study(
        storage=storage, study_name=name, directions=["maximize", "minimize"], load_if_exists=True
    )
    begun = study.user_attrs.get(_FINGERPRINT)
    if begun is None:
        study.set_user_attr(_FINGERPRINT, dict(fingerprint))
    else:
        check_same(begun, fingerprint, path)
    return study


def enqueue_missing(
    study: Study, space: Space, seeds: Sequence[tuple[str, Candidate]], *, are_contrasts: bool = False
) -> None:
    """Let configs be tried that are to be tried whatever the sampler proposes, unless they are or were.

    Args:
        study: The study.
        space: What is searched.
        seeds: Family and config of each, in order; equal ones are tried once.
        are_contrasts: Whether they are only to be compared with.
    """
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)
    there = {
        str(space.decode(each.system_attrs["fixed_params"]))
        for each in study.get_trials(deepcopy=False, states=states)
        if "fixed_params" in each.system_attrs
    }
    for family, candidate in seeds:
        parameters = space.encode(candidate)
        config = str(space.decode(parameters))
        if config not in there:
            there.add(config)
            study.enqueue_trial(parameters, user_attrs={FAMILY: family} | ({CONTRAST: True} if are_contrasts else {}))


def list_records(study: Study, space: Space) -> list[TrialRecord]:
    """Return the trials that came to an end, the oldest first.

    Args:
        study: The study.
        space: What is searched.

    Returns:
        One record a trial.
    """
    from optuna.trial import TrialState

    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    return [_make_record(trial, space) for trial in finished]


def _make_record(trial: FrozenTrial, space: Space) -> TrialRecord:
    said = trial.user_attrs
    return TrialRecord(
        number=trial.number,
        candidate=space.decode(trial.params),
        family=str(said[FAMILY]),
        quality=trial.values[0] if trial.values else None,
        milliseconds=float(said["milliseconds"]),
        key=str(said["key"]),
        reason=said.get("reason"),
        is_contrast=said.get(CONTRAST, False),
    )


def _first_line(err: BaseException) -> str:
    return str(err.__cause__ or err).strip().partition("\n")[0]
