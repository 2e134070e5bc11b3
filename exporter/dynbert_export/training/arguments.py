"""The options of a training as transformers' ``TrainingArguments``: what Trainer does is left to Trainer."""

from __future__ import annotations

import math
from dataclasses import fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dynbert.errors import InputError
from dynbert_export.options.vocabularies import MixedPrecision

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from transformers import TrainingArguments

    from dynbert_export.options.training import TrainingConfig

__all__ = ["BEST_METRIC", "count_steps", "make_arguments"]

BEST_METRIC = "score"
"""What the best state is chosen by: the mean of the metric over the full model and the profiles."""

_LOGS_PER_EPOCH = 20
_STATES_KEPT = 2
"""The newest one, and the best."""
_FIXED: Mapping[str, Any] = {
    # A resumed training goes on where it was, with all that it was doing.
    "save_only_model": False,
    "ignore_data_skip": False,
    # The judge takes the logits and labels of all rows at once.
    "prediction_loss_only": False,
    "batch_eval_metrics": False,
    "eval_do_concat_batches": True,
    "label_names": None,
    # The sampler here groups rows by length, and in an order that resuming keeps.
    "group_by_length": False,
    # A step runs a wrapped model several times before it goes backwards: buffers must stay as they were for the first
    # run, and no run may decide which weights the others leave out.
    "ddp_broadcast_buffers": False,
    "ddp_find_unused_parameters": False,
}
"""What must not be otherwise."""


def make_arguments(config: TrainingConfig, folder: Path, *, steps_per_epoch: int) -> TrainingArguments:
    """Return the arguments of a training.

    Args:
        config: The options.
        folder: For states to resume from.
        steps_per_epoch: Updates of the weights an epoch; sets how often to log.

    Returns:
        The arguments.

    Raises:
        InputError: If the recipe's section ``trainer`` has an argument that Trainer has not or that an option here
            sets, Trainer refuses one, or there is no such tracker.
    """
    from transformers import TrainingArguments

    _check_trackers(config.report_to)
    owned = _own_arguments(config, folder, steps_per_epoch)
    _check_further(config.trainer, owned, [each.name for each in fields(TrainingArguments)])
    try:
        return TrainingArguments(**{**_choose_device(), **config.trainer, **owned})
    except (TypeError, ValueError, ImportError) as err:  # such as bf16 on a device without it, or a missing tracker
        raise InputError(f"Options must be such that transformers can train by them, got: {err}") from err


def count_steps(config: TrainingConfig, steps_per_epoch: int) -> int:
    """Return how many steps a training has.

    Args:
        config: The options.
        steps_per_epoch: Updates of the weights an epoch.

    Returns:
        Those of its epochs, or ``max_steps`` where they are more.
    """
    steps = math.ceil(config.epochs * steps_per_epoch)
    return steps if config.max_steps is None else min(steps, config.max_steps)


def _check_trackers(names: tuple[str, ...]) -> None:
    """Refuse a tracker that transformers does not know, or whose package is missing."""
    from transformers.integrations.integration_utils import get_reporting_integration_callbacks

    try:
        for callback in get_reporting_integration_callbacks(list(names)):  # type: ignore[no-untyped-call]
            callback()
    except (ValueError, RuntimeError, ImportError) as err:
        raise InputError(
            f"report_to must name trackers whose packages are installed, got {', '.join(names)}: {err}"
        ) from err


def _own_arguments(config: TrainingConfig, folder: Path, steps_per_epoch: int) -> dict[str, Any]:
    """Return what the options say, and what everything here relies on."""
    import torch

    when: dict[str, Any] = (
        {"eval_strategy": "epoch", "save_strategy": "epoch"}
        if config.eval_every is None
        else {
            "eval_strategy": "steps",
            "eval_steps": config.eval_every,
            "save_strategy": "steps",
            "save_steps": config.eval_every,
        }
    )
    return {
        **when,
        **_choose_precision(config.mixed_precision),
        "output_dir": str(folder),
        "num_train_epochs": config.epochs,
        "max_steps": count_steps(config, steps_per_epoch),
        "per_device_train_batch_size": config.batch_size,
        "per_device_eval_batch_size": config.eval_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.scheduler,
        "warmup_ratio": config.warmup_ratio,
        "weight_decay": config.weight_decay,
        "logging_strategy": "steps",
        "logging_steps": max(steps_per_epoch // _LOGS_PER_EPOCH, 1),
        "save_total_limit": _STATES_KEPT,
        "load_best_model_at_end": True,
        "metric_for_best_model": BEST_METRIC,
        "greater_is_better": True,
        "remove_unused_columns": False,  # the objective reads them; the model's signature does not tell which
        "report_to": list(config.report_to),
        "seed": config.seed,
        "data_seed": config.seed,
        "disable_tqdm": True,
        "restore_callback_states_from_checkpoint": True,  # how often no evaluation was better, for early stopping
        **_FIXED,
        "dataloader_pin_memory": torch.cuda.is_available(),  # else torch warns of it at every loader
    }


def _choose_device() -> dict[str, bool]:
    """Return what a process without an accelerator must say, to work with others and for bfloat16."""
    import torch

    return {} if torch.accelerator.is_available() else {"use_cpu": True}


def _choose_precision(option: MixedPrecision) -> dict[str, bool]:
    """Return Trainer's switches.

    ``auto`` asks for a GPU: most CPUs emulate bfloat16, and one that has it (AMX) did not resume to the last bit.
    """
    import torch

    if option is MixedPrecision.AUTO:
        has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        return {"bf16": has_bf16, "fp16": False}
    return {"bf16": option is MixedPrecision.BF16, "fp16": option is MixedPrecision.FP16}


def _check_further(given: Any, owned: dict[str, Any], known: list[str]) -> None:
    for name in given:
        if name in owned:
            raise InputError(f"trainer must not set {name}, got {given[name]!r}. dynbert-train sets it itself.")
        if name not in known:
            close = get_close_matches(name, known, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise InputError(f"trainer must hold arguments of transformers.TrainingArguments, got {name}.{hint}")
