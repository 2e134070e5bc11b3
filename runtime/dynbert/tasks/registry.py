"""Every task's spec by its name; the rest of the runtime asks here what differs between tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert.tasks import (
    feature_extraction,
    fill_mask,
    multiple_choice,
    next_sentence_prediction,
    pretraining,
    question_answering,
    text_classification,
    token_classification,
)

if TYPE_CHECKING:
    from dynbert.manifest import Task
    from dynbert.tasks.base import TaskSpec

__all__ = ["task_spec"]

_SPECS: dict[Task, TaskSpec] = {
    spec.task: spec
    for spec in (
        question_answering.SPEC,
        text_classification.SPEC,
        token_classification.SPEC,
        fill_mask.SPEC,
        next_sentence_prediction.SPEC,
        multiple_choice.SPEC,
        pretraining.SPEC,
        feature_extraction.SPEC,
    )
}


def task_spec(task: Task) -> TaskSpec:
    """Return what there is to know of a task.

    Args:
        task: The task.

    Returns:
        Its spec.
    """
    return _SPECS[task]
