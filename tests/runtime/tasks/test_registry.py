"""Every task has a spec, and each spec fits the function that answers for it."""

from __future__ import annotations

import inspect

import pytest

from dynbert.manifest import Task
from dynbert.tasks.arguments import ARGUMENTS
from dynbert.tasks.registry import task_spec


@pytest.mark.parametrize("task", list(Task))
def test_task_has_a_spec_of_declared_arguments(task):
    spec = task_spec(task)
    assert spec.task is task
    assert spec.main_text in spec.needed
    assert not spec.needed & spec.optional
    assert spec.needed | spec.optional <= set(ARGUMENTS)
    assert all(name in spec.call for name in spec.needed if name != "texts")
    assert "batch_size" in spec.optional


def test_every_argument_is_of_some_task():
    assert set().union(*(task_spec(task).needed | task_spec(task).optional for task in Task)) == set(ARGUMENTS)


@pytest.mark.parametrize("task", list(Task))
def test_answer_takes_the_arguments_of_its_spec_and_has_no_defaults_of_its_own(task):
    spec = task_spec(task)
    parameters = dict(inspect.signature(spec.answer).parameters)
    parameters.pop("task")
    further = {"pooling"} if task is Task.FEATURE_EXTRACTION else set()  # only encode takes it
    assert set(parameters) == spec.needed | spec.optional | further
    assert {name for name, item in parameters.items() if item.default is not inspect.Parameter.empty} == further
