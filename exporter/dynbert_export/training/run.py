"""The order of a training, from a checked config to a published checkpoint; each step's work is a module of its own."""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.manifest import FULL, Task
from dynbert_export.bundle.publish import check_place, stage_folder
from dynbert_export.checkpoint.json_files import read_json_object, write_json
from dynbert_export.checkpoint.tokenizer import load_tokenizer
from dynbert_export.checkpoint.training_record import TrainingRecord, is_trained_checkpoint
from dynbert_export.options.profiles import check_lengths
from dynbert_export.progress import SilentProgress, StepProgress
from dynbert_export.threads import torch_threads
from dynbert_export.training.arguments import make_arguments
from dynbert_export.training.data import read_data
from dynbert_export.training.features import make_collator, make_features
from dynbert_export.training.judge import Judge
from dynbert_export.training.length_drop import LengthDrop, smallest_fractions
from dynbert_export.training.log import MetricsLog, StepReport
from dynbert_export.training.model import build_model, find_start, fit_head, load_teacher
from dynbert_export.training.objective import Distillation, EmbeddingLosses, LabelLosses, Objective
from dynbert_export.training.save import save_checkpoint
from dynbert_export.training.state import open_state
from dynbert_export.training.trainer import LengthDropTrainer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dynbert.lengths import LengthConfig
    from dynbert.scoring.examples import LabelledData
    from dynbert_export.options.training import TrainingConfig
    from dynbert_export.training.model import Start
    from dynbert_export.training.objective import Losses
    from dynbert_export.training.state import TrainingState

__all__ = ["SMALLEST", "TrainingResult", "check_training_output", "train_checkpoint"]

_BEFORE_FILE = "before.json"

SMALLEST = "smallest"
"""Name of the profile that a model is judged by where none was asked for: the least lengths that it is trained for."""


@dataclass(frozen=True)
class TrainingResult:
    """What a training made."""

    checkpoint: Path
    """The folder: a checkpoint that ``export`` and transformers read."""
    metric: str
    """What ``scores`` are."""
    scores: Mapping[str, float]
    """Profile -> how the trained model did on the evaluation data; ``full`` drops nothing."""
    before: Mapping[str, float]
    """The same before training."""


def train_checkpoint(config: TrainingConfig, *, progress: StepProgress | None = None) -> TrainingResult:
    """Train a checkpoint to bear dropped tokens.

    Args:
        config: The options.
        progress: Told of stages, steps and notes.

    Returns:
        The published checkpoint, and how good it is.

    Raises:
        InputError: If an option does not fit the model, the data or the output's place.
        DataError: If the data cannot be used; before anything is trained.
        ExportError: If the checkpoint or the disk fails; nothing is published then.
    """
    progress = progress or SilentProgress()
    with progress.stage("check"):
        check_training_output(config.output, overwrite=config.overwrite)
        start = find_start(
            config.model, revision=config.revision, task=config.task, max_length=config.max_length, layers=config.layers
        )
        _check_lengths(config, start)
        training, evaluation = read_data(config, start)
        state = open_state(config)
    for note in start.notes:
        progress.note(note)
    with torch_threads(config.threads):
        trainer, judge = _prepare(config, start, training, evaluation, state, progress)
        before = _judge_before(trainer, judge, state, progress)
        _run(trainer, state, progress)
        with progress.stage("judge"):
            scores = judge.pick(trainer.evaluate())
        record = TrainingRecord(
            lengths=smallest_fractions(len(start.layers), config.ratio_bound),
            data=training.name,
            evaluation=evaluation.name,
            metric=judge.metric,
            scores=scores,
            before=before,
        )
        with (
            progress.stage("publish"),
            stage_folder(config.output, check_training_output, overwrite=config.overwrite) as staging,
        ):
            save_checkpoint(staging.bundle, trainer.model, start, record, config, log=state.log)
    state.remove()
    return TrainingResult(config.output, judge.metric, scores, before)


def check_training_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a place that a checkpoint cannot be written to.

    Args:
        output: Folder of the checkpoint.
        overwrite: Whether a checkpoint that a training left there may be replaced.

    Raises:
        InputError: If something else is there, or such a checkpoint without ``overwrite``.
    """
    check_place(output, what="trained checkpoint", is_ours=is_trained_checkpoint, overwrite=overwrite)


def _check_lengths(config: TrainingConfig, start: Start) -> None:
    """Hold the profiles to the model that they are for."""
    check_lengths(config.profiles, num_layers=len(start.layers), max_length=start.max_length)


def _prepare(
    config: TrainingConfig,
    start: Start,
    training: LabelledData,
    evaluation: LabelledData,
    state: TrainingState,
    progress: StepProgress,
) -> tuple[LengthDropTrainer, Judge]:
    """Return the trainer, with everything that it works on."""
    from transformers import EarlyStoppingCallback, PrinterCallback, set_seed

    with progress.stage("tokenize"):
        tokenizer = load_tokenizer(start)
        rows, held_out = (
            make_features(data, tokenizer, max_length=start.max_length) for data in (training, evaluation)
        )
    with progress.stage("load model"):
        set_seed(config.seed)  # decides the weights of a new head
        model = build_model(start, fit_head(start, training))
    judge = Judge(evaluation, held_out)
    plain_epochs = config.plain_epochs if config.plain_epochs is not None else float(not start.has_head)
    callbacks: list[Any] = [MetricsLog(state.log)]
    if config.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(config.early_stopping))
    batch = config.batch_size * config.gradient_accumulation
    trainer = LengthDropTrainer(
        objective=_make_objective(config, start, training, model),
        lengths=rows.lengths,
        eval_lengths=_list_eval_lengths(config, start),
        plain_epochs=plain_epochs,
        metric=judge.metric,
        model=model,
        args=make_arguments(config, state.folder, steps_per_epoch=-(-len(rows.lengths) // batch)),
        train_dataset=rows.rows,
        eval_dataset=held_out.rows,
        data_collator=make_collator(start.task, tokenizer),
        compute_metrics=judge,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)  # type: ignore[no-untyped-call]
    return trainer, judge


def _list_eval_lengths(config: TrainingConfig, start: Start) -> dict[str, LengthConfig | None]:
    """Return the lengths that the model is judged at, by profile."""
    asked = {profile.name: profile.lengths for profile in config.profiles}
    smallest = {SMALLEST: smallest_fractions(len(start.layers), config.ratio_bound)}
    return {FULL: None, **(asked or smallest)}


def _make_objective(config: TrainingConfig, start: Start, data: LabelledData, model: Any) -> Objective:
    """Return what a batch is trained on."""
    distillation = Distillation(
        weight=config.distillation_weight,
        temperature=config.temperature,
        hidden_weight=config.hidden_weight,
        teacher_weight=config.teacher_weight,
        similarity_weight=config.similarity_weight,
        contrastive_weight=config.contrastive_weight,
    )
    drop = LengthDrop(
        ratio_bound=config.ratio_bound,
        random_models=config.random_models,
        layer_dropout=config.layer_dropout,
        always_keep_cls_token=config.always_keep_cls_token,
    )
    teacher = None if config.teacher is None else load_teacher(config.teacher, start, data)
    losses: Losses
    if start.task is Task.FEATURE_EXTRACTION:
        losses = EmbeddingLosses(
            start.pooling, distillation, teacher or copy.deepcopy(model).eval(), config.always_keep_cls_token
        )
    else:
        losses = LabelLosses(start.task, data.problem_type, distillation, config.always_keep_cls_token, teacher)
    return Objective(losses, drop, len(start.layers), config.seed, config.distillation_weight)


def _judge_before(
    trainer: LengthDropTrainer, judge: Judge, state: TrainingState, progress: StepProgress
) -> dict[str, float]:
    """Return how good the model is before it is trained; a resumed training has it on disk."""
    path = state.folder / _BEFORE_FILE
    if not path.is_file():
        with progress.stage("judge before training"):
            write_json(path, judge.pick(trainer.evaluate()))
    before: dict[str, float] = read_json_object(path)
    return before


def _run(trainer: LengthDropTrainer, state: TrainingState, progress: StepProgress) -> None:
    """Train to the end, from the newest state that there is."""
    from transformers import set_seed

    checkpoint = state.find_checkpoint()
    if checkpoint is not None:
        progress.note(f"Goes on from step {checkpoint.name.removeprefix('checkpoint-')}.")
    with progress.steps("train") as update, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="mtime may not be reliable")  # states are ordered by their numbers
        trainer.add_callback(StepReport(update))  # type: ignore[no-untyped-call]
        set_seed(trainer.args.seed)  # whether the model was judged before or not
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
