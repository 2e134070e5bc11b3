"""What every trial needs and no trial changes: the working bundle, the data as jobs, the time model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dynbert.cpu import int8_target
from dynbert.errors import InputError
from dynbert.lengths import LengthConfig
from dynbert_export.options.profiles import CONFIGURED_NAME
from dynbert_export.options.vocabularies import QueryOption
from dynbert_export.searching.asking import Asker
from dynbert_export.searching.candidate import Candidate
from dynbert_export.searching.checks import most_left_out
from dynbert_export.searching.data import write_calibration
from dynbert_export.searching.disk import explain_disk
from dynbert_export.searching.examination import make_examination
from dynbert_export.searching.judging import Judge
from dynbert_export.searching.lengths_of_data import describe_lengths
from dynbert_export.searching.seeds import make_seeds
from dynbert_export.searching.space import Space
from dynbert_export.searching.time_model import TimeModel
from dynbert_export.searching.timing import measure_time_model
from dynbert_export.searching.worker import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from filelock import BaseFileLock
    from optuna import Study
    from optuna.storages import RDBStorage

    from dynbert_export.checkpoint.load import Checkpoint
    from dynbert_export.options.search import SearchConfig
    from dynbert_export.progress import StepProgress
    from dynbert_export.searching.graphs import SearchGraphs
    from dynbert_export.searching.splitting import Part
    from dynbert_export.searching.workplace import Workplace

__all__ = ["Preparation"]

_TIME_MODEL = "time_model"
"""Attribute of the study. Times that another model predicted must not be compared, so it is kept with the trials."""


@dataclass(frozen=True)
class Preparation:
    """What is prepared of."""

    config: SearchConfig
    checkpoint: Checkpoint
    searched: Part
    """The part of the data to decide by."""
    metric: str
    """What is maximised."""
    workplace: Workplace
    progress: StepProgress

    @property
    def calibration(self) -> Path:
        """The texts that INT8 ranges come from."""
        return self.config.calibration or self.workplace.calibration

    def export(self) -> SearchGraphs:
        """Make the working bundle, or find it.

        Returns:
            Its graphs.

        Raises:
            ExportError: If the export or the disk fails.
        """
        if self.config.calibration is None and not self.calibration.is_file():
            with explain_disk(self.calibration):
                write_calibration(self.searched, self.calibration, seed=self.config.seed)
        options = self.config.make_export(self.workplace.bundle, calibration=self.calibration, machine=int8_target())
        return self.workplace.make_bundle(options, self.progress, threads=self.config.threads)

    def make_worker(self, graphs: SearchGraphs, study: Study, storage: RDBStorage, lock: BaseFileLock) -> Worker:
        """Return what makes trials; times are measured where the study has none.

        Args:
            graphs: Of the working bundle.
            study: Keeps the time model.
            storage: The study's.
            lock: That workers take turns by.

        Returns:
            The worker.

        Raises:
            InputError: If no layer of the model drops anything, or there is no such metric.
        """
        config, body = self.config, graphs.body
        if not body.cutting_layers:
            raise InputError(
                "A search must have a layer that can drop tokens, got a model whose only layer runs for CLS alone."
            )
        asker = Asker.open(graphs.bundle, graphs.model)
        embed = partial(asker.embed, graphs.ask_full()) if config.queries is QueryOption.FULL else None
        with self.progress.stage("plan the data"):
            examination = make_examination(graphs.model, self.searched, seed=config.seed, embed_queries=embed)
            lengths = describe_lengths(asker.count_tokens(examination.whole))
        space = Space(body, config.lengths.kinds, lengths.longest, most_left_out(config, body.num_layers))
        stored = study.user_attrs.get(_TIME_MODEL)
        if stored is None:
            model = measure_time_model(graphs, space, lengths, self.workplace, self.progress, seed=config.seed)
            study.set_user_attr(_TIME_MODEL, model.to_json())
        else:
            model = TimeModel.from_json(stored)
        return Worker(
            space=space,
            judge=Judge(asker, graphs, examination, self.metric, config.seed),
            time_model=model,
            lengths=lengths,
            workplace=self.workplace,
            lock=lock,
            storage=storage,
            keep_quality=config.keep_quality,
            seed=config.seed,
        )

    def list_seeds(self, worker: Worker) -> list[tuple[str, Candidate]]:
        """Return what is tried first.

        Args:
            worker: Predicts times.

        Returns:
            Family and config of each.
        """
        everything = LengthConfig.everything(worker.body.num_layers)
        known = [
            (profile.name, Candidate(profile.lengths or everything, profile.layers)) for profile in self.config.known
        ]
        if self.checkpoint.length_config is not None:
            known.insert(0, (CONFIGURED_NAME, Candidate(self.checkpoint.length_config)))
        return make_seeds(
            worker.space, worker.predict_ms, trials=self.config.trials, known=known, seed=self.config.seed
        )
