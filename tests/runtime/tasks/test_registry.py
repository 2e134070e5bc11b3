"""Every task has a spec, and each spec fits the call that it describes."""

from __future__ import annotations

import inspect

import pytest

from dynbert import cli
from dynbert.manifest import Task
from dynbert.model import DynamicBert
from dynbert.tasks.base import Arguments
from dynbert.tasks.registry import task_spec


@pytest.mark.parametrize("task", list(Task))
def test_task_has_a_spec_of_known_arguments(task):
    spec = task_spec(task)
    assert spec.task is task
    assert spec.main_text in spec.needed
    assert not spec.needed & spec.optional
    assert spec.needed | spec.optional <= set(Arguments.__annotations__)
    assert all(name in spec.call for name in spec.needed if name != "texts")


def test_arguments_are_those_of_a_call_and_of_the_command():
    parameters = set(inspect.signature(DynamicBert.__call__).parameters) - {"self", "profile", "length_config"}
    assert set(Arguments.__annotations__) == parameters == set(cli._ARGUMENT_OPTIONS)
    used = set().union(*(task_spec(task).needed | task_spec(task).optional for task in Task))
    assert used == parameters


def test_is_call_wants_all_needed_and_no_foreign_argument():
    spec = task_spec(Task.QUESTION_ANSWERING)
    assert spec.is_call(frozenset({"question", "context"}))
    assert spec.is_call(frozenset({"question", "context", "stride"}))
    assert not spec.is_call(frozenset({"question"}))
    assert not spec.is_call(frozenset({"question", "context", "top_k"}))
