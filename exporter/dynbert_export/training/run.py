"""The order of a training, from a checked config to a published checkpoint; each step's work is a module of its own."""

from __future__ import annotations

import contextlib
import os
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.lengths import LengthConfig
from dynbert.manifest import FULL, Task
from dynbert_export.bundle.publish import check_place, stage_folder
from dynbert_export.checkpoint.training_record import TrainingRecord, is_trained_checkpoint
from dynbert_export.errors import ExportError
from dynbert_export.options.profiles import check_lengths
from dynbert_export.progress import SilentProgress, StepProgress
from dynbert_export.threads import torch_threads
from dynbert_export.training.arguments import count_steps, make_arguments
from dynbert_export.training.checks import check_fit, check_options
from dynbert_export.training.data import read_data
from dynbert_export.training.features import make_collator, make_features
from dynbert_export.training.judge import Judge
from dynbert_export.training.length_drop import SMALLEST, make_length_drop, smallest_fractions
from dynbert_export.training.log import MetricsLog, StepReport
from dynbert_export.training.model import (
    build_model,
    find_start,
    fit_head,
    load_teacher,
    load_training_tokenizer,
)
from dynbert_export.training.objective import Distillation, EmbeddingLosses, LabelLosses, Objective
from dynbert_export.training.save import save_checkpoint
from dynbert_export.training.state import explain_disk, find_state
from dynbert_export.training.trainer import BestStateHere, LastEvaluation, LengthDropTrainer
from dynbert_export.training.workers import count_workers, is_writer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dynbert.scoring.examples import LabelledData
    from dynbert_export.options.training import TrainingConfig
    from dynbert_export.training.model import Start
    from dynbert_export.training.objective import Losses
    from dynbert_export.training.state import TrainingState

__all__ = ["TrainingResult", "check_training_output", "train_checkpoint"]

_PRECISION_VARIABLE = "ACCELERATE_MIXED_PRECISION"
"""Of the environment: transformers leaves a training's there, for the next one in the same process to find."""


@dataclass(frozen=True)
class _Plan:
    """What is trained, on what."""

    config: TrainingConfig
    start: Start
    training: LabelledData
    evaluation: LabelledData

    @property
    def smallest(self) -> LengthConfig:
        """The least lengths that a step may train."""
        return smallest_fractions(len(self.start.layers), make_length_drop(self.config))

    @property
    def dropout(self) -> float | None:
        """Probability of the model's dropouts; None for what its config says."""
        if self.config.dropout is None and self.start.task is Task.FEATURE_EXTRACTION:
            return 0.0
        return self.config.dropout

    def plain_epochs(self, steps_per_epoch: int) -> float:
        """Return how many of the first epochs drop nothing."""
        if self.config.plain_epochs is not None:
            return self.config.plain_epochs
        return 0.0 if self.start.has_head else min(1.0, self._epochs(steps_per_epoch) / 2)

    def drops(self, steps_per_epoch: int) -> bool:
        """Return whether any step teaches a model that drops tokens."""
        return self.config.distillation_weight > 0 and self.plain_epochs(steps_per_epoch) < self._epochs(
            steps_per_epoch
        )

    def _epochs(self, steps_per_epoch: int) -> float:
        return count_steps(self.config, steps_per_epoch) / steps_per_epoch


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
    progress = progress if progress is not None and is_writer() else SilentProgress()
    with progress.stage("check"):
        state = find_state(config)
        check_training_output(config.output, overwrite=state.may_overwrite)
        plan = _make_plan(config)
    for note in plan.start.notes:
        progress.note(note)
    with torch_threads(config.threads), _restored_environment():
        with state.discarded_on_failure():
            trainer, judge, steps_per_epoch = _prepare(plan, state, progress)
            before = _judge_before(trainer, judge, state, progress)
        if not plan.drops(steps_per_epoch):
            progress.note("No step drops tokens: the model is fine-tuned, and not taught to bear any loss of them.")
        _run(trainer, state, progress)
        _check_finite(trainer.model)
        with progress.stage("judge"):
            scores = judge.pick(trainer.evaluate(metric_key_prefix="final"), prefix="final")
        if is_writer():
            record = TrainingRecord(
                lengths=plan.smallest
                if plan.drops(steps_per_epoch)
                else LengthConfig.everything(len(plan.start.layers)),
                data=plan.training.name,
                evaluation=plan.evaluation.name,
                metric=judge.metric,
                scores=scores,
                before=before,
            )
            _publish(plan, state, trainer.model, record, progress)
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


def _make_plan(config: TrainingConfig) -> _Plan:
    """Read checkpoint and data, and hold them and the options to one another."""
    start = find_start(
        config.model, revision=config.revision, task=config.task, max_length=config.max_length, layers=config.layers
    )
    check_options(config, start)
    check_lengths(config.profiles, num_layers=len(start.layers), max_length=start.max_length)
    training, evaluation = read_data(config, start)
    check_fit(config, start, training)
    return _Plan(config, start, training, evaluation)


def _prepare(plan: _Plan, state: TrainingState, progress: StepProgress) -> tuple[LengthDropTrainer, Judge, int]:
    """Return the trainer, with everything that it works on, the judge, and the steps of an epoch."""
    from transformers import PrinterCallback, set_seed

    config, start = plan.config, plan.start
    with progress.stage("tokenize"):
        tokenizer = load_training_tokenizer(start)
        rows, held_out = (
            make_features(data, tokenizer, max_length=start.max_length) for data in (plan.training, plan.evaluation)
        )
        judge = Judge(plan.evaluation, held_out.sorted_by_length())
    steps_per_epoch = -(-len(rows.lengths) // (config.batch_size * config.gradient_accumulation * count_workers()))
    arguments = make_arguments(config, state.folder, steps_per_epoch=steps_per_epoch)
    with progress.stage("load model"):
        set_seed(config.seed)  # decides the weights of a new head
        model = build_model(start, fit_head(start, plan.training), dropout=plan.dropout)
        objective = _make_objective(plan)
    if is_writer():
        state.begin()
    arguments.distributed_state.wait_for_everyone()
    trainer = LengthDropTrainer(
        objective=objective,
        lengths=rows.lengths,
        eval_lengths=_list_eval_lengths(plan),
        plain_epochs=plan.plain_epochs(steps_per_epoch),
        metric=judge.metric,
        model=model,
        args=arguments,
        train_dataset=rows.rows,
        eval_dataset=judge.features.rows,
        data_collator=make_collator(start.task, tokenizer),
        compute_metrics=judge,
        callbacks=_list_callbacks(config, state),
    )
    trainer.remove_callback(PrinterCallback)  # type: ignore[no-untyped-call]
    return trainer, judge, steps_per_epoch


def _list_callbacks(config: TrainingConfig, state: TrainingState) -> list[Any]:
    """Return what Trainer is to do beside training."""
    from transformers import EarlyStoppingCallback

    callbacks: list[Any] = [MetricsLog(state.log), BestStateHere(state.folder)]
    if config.eval_every is not None:
        callbacks.append(LastEvaluation())
    if config.early_stopping is not None:
        callbacks.append(EarlyStoppingCallback(config.early_stopping))
    return callbacks


def _list_eval_lengths(plan: _Plan) -> dict[str, LengthConfig | None]:
    """Return the lengths that the model is judged at, by profile."""
    asked = {profile.name: profile.lengths for profile in plan.config.profiles}
    return {FULL: None, **(asked or {SMALLEST: plan.smallest})}


def _make_objective(plan: _Plan) -> Objective:
    """Return what a batch is trained on."""
    config, start = plan.config, plan.start
    distillation = Distillation(
        temperature=config.temperature,
        hidden_weight=config.hidden_weight,
        teacher_weight=config.teacher_weight,
        similarity_weight=config.similarity_weight,
        contrastive_weight=config.contrastive_weight,
    )
    keep_cls = config.always_keep_cls_token
    teacher = load_teacher(config.teacher, start, plan.training)
    losses: Losses
    if start.task is Task.FEATURE_EXTRACTION and teacher is not None:
        losses = EmbeddingLosses(start.pooling, distillation, teacher.model, teacher.pooling, keep_cls)
    else:
        problem_type = plan.training.problem_type
        losses = LabelLosses(
            start.task, problem_type, distillation, keep_cls, None if teacher is None else teacher.model
        )
    return Objective(losses, make_length_drop(config), len(start.layers), config.seed, config.distillation_weight)


def _judge_before(
    trainer: LengthDropTrainer, judge: Judge, state: TrainingState, progress: StepProgress
) -> Mapping[str, float]:
    """Return how good the model is before it is trained; a resumed training has it on disk."""
    before = state.read_before()
    if before is None:
        with progress.stage("judge before training"):
            before = judge.pick(trainer.evaluate(metric_key_prefix="before"), prefix="before")
        if is_writer():
            state.write_before(before)
    return before


def _run(trainer: LengthDropTrainer, state: TrainingState, progress: StepProgress) -> None:
    """Train to the end, from the newest state that there is."""
    from transformers import set_seed

    checkpoint = state.find_checkpoint()
    if checkpoint is not None:
        progress.note(f"Goes on from step {checkpoint.name.removeprefix('checkpoint-')}.")
        if trainer.finish(checkpoint):
            if is_writer():
                MetricsLog(state.log).rewrite(trainer.state.log_history)
            return
    with (
        progress.steps("train") as update,
        warnings.catch_warnings(),
        explain_disk(state.folder),
        _explained_memory(),
    ):
        warnings.filterwarnings("ignore", message="mtime may not be reliable")  # states are ordered by their numbers
        trainer.add_callback(StepReport(update))  # type: ignore[no-untyped-call]
        set_seed(trainer.args.seed)  # whether the model was judged before or not
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))


def _publish(plan: _Plan, state: TrainingState, model: Any, record: TrainingRecord, progress: StepProgress) -> None:
    """Write the checkpoint, put it into its place, and forget the state."""
    with (
        progress.stage("publish"),
        stage_folder(plan.config.output, check_training_output, overwrite=state.may_overwrite) as staging,
    ):
        save_checkpoint(staging.bundle, model, plan.start, record, plan.config, log=state.log)
    state.remove()


def _check_finite(model: Any) -> None:
    """Refuse weights that no graph can be made of."""
    broken = next((name for name, weight in model.named_parameters() if not weight.isfinite().all()), None)
    if broken is not None:
        raise ExportError(
            f"Training must end with finite weights, got infinity or NaN in {broken}. Pass --overwrite and a lower "
            "--learning-rate."
        )


@contextlib.contextmanager
def _explained_memory() -> Iterator[None]:
    """Say what to do where a device's memory does not suffice."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as err:
        reason = str(err).partition("\n")[0]
        raise ExportError(
            f"A batch must fit the device's memory, got: {reason} Pass --overwrite, a smaller --batch-size and a "
            "larger --gradient-accumulation."
        ) from err


@contextlib.contextmanager
def _restored_environment() -> Iterator[None]:
    """Leave no training's mixed precision behind for the next one."""
    before = os.environ.get(_PRECISION_VARIABLE)
    try:
        yield
    finally:
        os.environ.pop(_PRECISION_VARIABLE, None)
        if before is not None:
            os.environ[_PRECISION_VARIABLE] = before
