"""Checkpoints and bundles that whole-command tests share; a test that changes files makes its own."""

from __future__ import annotations

from collections import ChainMap

import pytest

from dynbert.manifest import Task
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.commands import BUNDLE_OPTIONS, run_export
from tests.helpers.shared import SharedFolders, shared_folder


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread():
    """Two threads of a tiny model wait for each other, and far longer where other processes want the cores too."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """One checkpoint a task."""
    return SharedFolders(
        shared_folder(tmp_path_factory, "checkpoints"), Task, lambda task, folder: make_checkpoint(folder, task)
    )


@pytest.fixture(scope="session")
def bundles(checkpoints, tmp_path_factory):
    """One bundle a task, in both precisions, with a profile of counts and one of fractions."""
    return SharedFolders(
        shared_folder(tmp_path_factory, "bundles"),
        Task,
        lambda task, folder: run_export("--model", checkpoints[task], "-o", folder, *BUNDLE_OPTIONS),
    )


@pytest.fixture(scope="session")
def token_states_bundle(checkpoints, tmp_path_factory):
    """The bundle for embeddings once more, with graphs that give token states."""
    model = checkpoints[Task.FEATURE_EXTRACTION]
    options = (*BUNDLE_OPTIONS, "--embeddings", "token-states")
    shared = SharedFolders(
        shared_folder(tmp_path_factory, "token-states"),
        ["bundle"],
        lambda _, folder: run_export("--model", model, "-o", folder, *options),
    )
    return shared["bundle"]


@pytest.fixture(scope="session")
def bundles_for_optimum(bundles, token_states_bundle):
    """One bundle a task, with outputs that transformers' and optimum's classes have too."""
    return ChainMap({Task.FEATURE_EXTRACTION: token_states_bundle}, bundles)
