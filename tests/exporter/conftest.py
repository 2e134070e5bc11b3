"""Traced tiny models that the tests of graphs share; a test that changes a graph changes a clone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dynbert.manifest import Task
from tests.helpers.graphs import QuantizedModel, TracedModel, quantize_tiny_model, trace_tiny_model
from tests.helpers.tasks import EVERY_TASK

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread():
    """Two threads of a tiny model wait for each other, and far longer where other processes want the cores too."""
    import torch

    torch.set_num_threads(1)


class _TracedModels(dict[Task, TracedModel]):
    """Each task's model, traced when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def __missing__(self, task: Task) -> TracedModel:
        self[task] = trace_tiny_model(self._folder / task.value, task)
        return self[task]


@pytest.fixture(scope="session")
def traced_models(tmp_path_factory) -> dict[Task, TracedModel]:
    return _TracedModels(tmp_path_factory.mktemp("traced"))


@pytest.fixture(scope="session")
def traced_embedder(traced_models) -> TracedModel:
    return traced_models[Task.FEATURE_EXTRACTION]


@pytest.fixture(params=EVERY_TASK)
def traced(request, traced_models) -> TracedModel:
    """Each task's model in turn."""
    return traced_models[request.param]


@pytest.fixture(scope="session")
def quantized(traced_embedder) -> QuantizedModel:
    return quantize_tiny_model(traced_embedder)
