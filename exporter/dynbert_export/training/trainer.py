"""transformers' Trainer with LengthDrop in its loss, evaluation at every profile, and an order that resuming keeps."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainerState
from transformers.trainer_pt_utils import get_length_grouped_indices

from dynbert_export.training.arguments import BEST_METRIC
from dynbert_export.training.objective import EmbeddingLosses, LabelLosses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

    from dynbert.lengths import LengthConfig
    from dynbert_export.training.objective import Objective

__all__ = [
    "BestStateHere",
    "LastEvaluation",
    "LengthDropTrainer",
    "LengthGroupedSampler",
    "dropping",
    "place_best_state",
]

_STATE_FILE = "trainer_state.json"
_JUDGED_WHILE_TRAINING = "eval"
_OF_NO_INTEREST = ("_jit_compilation_time", "_model_preparation_time")


class LengthGroupedSampler(Sampler[int]):
    """Rows of about equal length follow one another; the order of an epoch depends on its number and the seed alone.

    Trainer's own sampler of this kind draws from the global generator, whose state is another one when a training is
    resumed within an epoch: the rows that follow are then others than those that would have followed.
    """

    def __init__(self, lengths: Sequence[int], *, batch_size: int, seed: int, find_epoch: Callable[[], int]) -> None:
        super().__init__()
        self._lengths = list(lengths)
        self._batch_size = batch_size
        self._seed = seed
        self._find_epoch = find_epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed * 1_000_003 + self._find_epoch())
        order: list[int] = get_length_grouped_indices(  # type: ignore[no-untyped-call]
            self._lengths, self._batch_size, generator=generator
        )
        return iter(order)


class LengthDropTrainer(Trainer):
    """A Trainer that trains a model at several lengths at once, and judges it at each profile's."""

    def __init__(
        self,
        *,
        objective: Objective,
        lengths: Sequence[int],
        eval_lengths: Mapping[str, LengthConfig | None],
        plain_epochs: float,
        metric: str,
        **arguments: Any,
    ) -> None:
        """Make a trainer.

        Args:
            objective: The loss of a batch.
            lengths: Tokens of each row of the training data.
            eval_lengths: Profile's name -> lengths that the model is judged at; None drops nothing.
            plain_epochs: So many of the first epochs train the full model alone.
            metric: The key, in what ``compute_metrics`` returns, of the number that decides which state is best.
            **arguments: Of ``transformers.Trainer``.
        """
        super().__init__(**arguments)
        self._objective = objective
        self._row_lengths = lengths
        self._eval_lengths = dict(eval_lengths)
        self._plain_epochs = plain_epochs
        self._metric = metric
        self._parts: defaultdict[str, list[Tensor]] = defaultdict(list)
        self._place = (-1, 0)
        teacher = objective.losses.teacher
        if teacher is not None:
            teacher.to(self.args.device)
        self.model_accepts_loss_kwargs = False  # the loss is a mean: Trainer divides it by the accumulated batches

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Mapping[str, Tensor],
        return_outputs: bool = False,  # noqa: FBT001, FBT002  (Trainer's signature)
        num_items_in_batch: Any = None,  # noqa: ARG002  (the same)
    ) -> Any:
        """Return the objective's loss while training, and the task's own at the current lengths otherwise."""
        losses = self._objective.losses
        if isinstance(losses, LabelLosses) and not model.training:
            # Whatever the config asks to have returned beside them, predictions are logits.
            loss, output = losses.answer(model, inputs, output_attentions=False, output_hidden_states=False)
            return (loss, output) if return_outputs else loss
        is_plain = (self.state.epoch or 0.0) < self._plain_epochs
        step = self._objective(model, inputs, place=self._next_place(), is_plain=is_plain)
        for name, value in step.parts.items():
            self._parts[name].append(value)
        return (step.loss, step.full_output) if return_outputs else step.loss

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,  # noqa: FBT001  (Trainer's signature)
        ignore_keys: list[str] | None = None,
    ) -> tuple[Any, Any, Any]:
        """Return loss, predictions and labels of a batch; an embedding's label is what the teacher makes of the text.

        Args:
            model: In evaluation mode.
            inputs: The batch.
            prediction_loss_only: As Trainer's.
            ignore_keys: As Trainer's.

        Returns:
            The three, without gradient.
        """
        losses = self._objective.losses
        if not isinstance(losses, EmbeddingLosses):
            step: tuple[Any, Any, Any] = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
            return step
        with torch.no_grad():
            return losses.predict(model, self._prepare_inputs(inputs))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log the means of the loss's parts beside the loss."""
        if "loss" in logs:
            logs = logs | {name: float(torch.stack(values).mean()) for name, values in self._parts.items()}
            self._parts.clear()
        super().log(logs, start_time)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Judge the model at every profile's lengths.

        Args:
            eval_dataset: As Trainer's.
            ignore_keys: As Trainer's.
            metric_key_prefix: As Trainer's. Any but its default is a judgement before or after training, which decides
                neither what state is best nor when to stop.

        Returns:
            ``PREFIX_PROFILE_METRIC`` for every profile and metric, and ``PREFIX_score``, the mean of the deciding one.
        """
        loader = self.get_eval_dataloader(eval_dataset)
        metrics: dict[str, float] = {}
        decisive = []
        for name, lengths in self._eval_lengths.items():
            prefix = f"{metric_key_prefix}_{name}"
            with dropping(self.model, lengths):
                found = self.evaluation_loop(
                    loader, description="Evaluation", ignore_keys=ignore_keys, metric_key_prefix=prefix
                ).metrics
            metrics |= {key: value for key, value in (found or {}).items() if not key.endswith(_OF_NO_INTEREST)}
            decisive.append(metrics[f"{prefix}_{self._metric}"])
        metrics[f"{metric_key_prefix}_{BEST_METRIC}"] = sum(decisive) / len(decisive)
        self.log(metrics)
        if metric_key_prefix == _JUDGED_WHILE_TRAINING:
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def finish(self, checkpoint: Path) -> bool:
        """Take the weights of a training whose last state says that all its steps were done, if it does.

        Trainer itself would train a step more: it looks whether to stop only behind one.

        Args:
            checkpoint: The newest state.

        Returns:
            Whether nothing is left to train.
        """
        state = TrainerState.load_from_json(str(checkpoint / _STATE_FILE))
        control = state.stateful_callbacks.get("TrainerControl", {})
        if not control.get("args", {}).get("should_training_stop", False):
            return False
        self.state = state
        place_best_state(state, checkpoint.parent)
        self._load_from_checkpoint(state.best_model_checkpoint or str(checkpoint))  # type: ignore[no-untyped-call]
        return True

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:  # noqa: ARG002  (Trainer's signature)
        return LengthGroupedSampler(
            self._row_lengths,
            batch_size=self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size,
            seed=self.args.seed,
            find_epoch=lambda: int(self.state.epoch or 0),
        )

    def _next_place(self) -> tuple[int, int]:
        """Return the number of the step and of the batch within it."""
        step, batch = self._place
        self._place = (step, batch + 1) if step == self.state.global_step else (self.state.global_step, 0)
        return self._place


class LastEvaluation(TrainerCallback):
    """Has the last step judged and saved, which steps between evaluations may leave out: it could not be the best."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002, D102
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True


class BestStateHere(TrainerCallback):
    """Looks for the best state beside the newest one, wherever the folder was when it was written."""

    def __init__(self, folder: Path) -> None:
        """Make a callback.

        Args:
            folder: Of the states.
        """
        self._folder = folder

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002, D102
        place_best_state(state, self._folder)


def place_best_state(state: Any, folder: Path) -> None:
    """Say where the best state is.

    Args:
        state: Trainer's; changed in place.
        folder: Where it is now; the state has the path by which it was written.
    """
    if state.best_model_checkpoint is not None:
        state.best_model_checkpoint = str(folder / PurePath(state.best_model_checkpoint).name)


@contextlib.contextmanager
def dropping(model: Any, lengths: LengthConfig | None) -> Iterator[None]:
    """Let a model drop tokens wherever its caller does not say, and no longer than the block.

    Args:
        model: Any model of this package.
        lengths: One entry a layer; None drops nothing.

    Yields:
        Nothing.
    """
    before = model.base_model.length_config
    model.set_length_config(lengths)
    try:
        yield
    finally:
        model.set_length_config(before)
