"""Checkpoints and bundles that whole-command tests share; a test that changes files makes its own."""

from __future__ import annotations

import pytest

from dynbert.manifest import Task
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.commands import BUNDLE_OPTIONS, run_export


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread():
    """Two threads of a tiny model wait for each other, and far longer where other processes want the cores too."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """One checkpoint a task."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {task: make_checkpoint(folder / task.value, task) for task in Task}


@pytest.fixture(scope="session")
def bundles(checkpoints, tmp_path_factory):
    """One bundle a task, in both precisions, with a profile of counts and one of fractions."""
    folder = tmp_path_factory.mktemp("bundles")
    for task, checkpoint in checkpoints.items():
        run_export("--model", checkpoint, "-o", folder / task.value, *BUNDLE_OPTIONS)
    return {task: folder / task.value for task in Task}


@pytest.fixture(scope="session")
def token_states_bundle(checkpoints, tmp_path_factory):
    """The bundle for embeddings once more, with graphs that give token states."""
    output = tmp_path_factory.mktemp("token-states") / "bundle"
    options = (*BUNDLE_OPTIONS, "--embeddings", "token-states")
    run_export("--model", checkpoints[Task.FEATURE_EXTRACTION], "-o", output, *options)
    return output


@pytest.fixture(scope="session")
def bundles_for_optimum(bundles, token_states_bundle):
    """One bundle a task, with outputs that transformers' and optimum's classes have too."""
    return {**bundles, Task.FEATURE_EXTRACTION: token_states_bundle}
