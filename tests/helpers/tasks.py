"""Every task as a parameter: three that differ most in what they read of the last layer, the others in slow runs."""

from __future__ import annotations

import pytest

from dynbert.manifest import Task

__all__ = ["EVERY_TASK"]

_USUAL = {Task.QUESTION_ANSWERING, Task.TEXT_CLASSIFICATION, Task.FEATURE_EXTRACTION}
"""Heads of every token, of CLS alone, and none."""

EVERY_TASK = [
    pytest.param(task, id=task.value, marks=() if task in _USUAL else pytest.mark.slow)  # as CI's second step runs
    for task in Task
]
"""For tests that take long, and of tasks whose graphs have the same encoder."""
