"""Checkpoints that the tests of this folder share; a test that changes files has its own copy."""

from __future__ import annotations

import shutil

import pytest

from dynbert.manifest import Task
from tests.helpers.checkpoints import (
    make_checkpoint,
)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """One checkpoint a task, to be copied or only read."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {task: make_checkpoint(folder / task.value, task) for task in Task}


@pytest.fixture
def embedder(checkpoints, tmp_path):
    """A feature extraction checkpoint of the test's own."""
    return shutil.copytree(checkpoints[Task.FEATURE_EXTRACTION], tmp_path / "model")


@pytest.fixture
def classifier(checkpoints, tmp_path):
    """A text classification checkpoint of the test's own."""
    return shutil.copytree(checkpoints[Task.TEXT_CLASSIFICATION], tmp_path / "model")
