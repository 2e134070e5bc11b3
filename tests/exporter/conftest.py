"""Traced tiny models that the tests of graphs share; a test that changes a graph changes a clone."""

from __future__ import annotations

import pytest

from dynbert.manifest import Task
from tests.helpers.graphs import QuantizedModel, TracedModel, quantize_tiny_model, trace_tiny_model


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread():
    """Two threads of a tiny model wait for each other, and far longer where other processes want the cores too."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def traced_models(tmp_path_factory) -> dict[Task, TracedModel]:
    folder = tmp_path_factory.mktemp("traced")
    return {task: trace_tiny_model(folder / task.value, task) for task in Task}


@pytest.fixture(scope="session")
def traced_embedder(traced_models) -> TracedModel:
    return traced_models[Task.FEATURE_EXTRACTION]


@pytest.fixture(params=[task.value for task in Task])
def traced(request, traced_models) -> TracedModel:
    """Each task's model in turn."""
    return traced_models[Task(request.param)]


@pytest.fixture(scope="session")
def quantized(traced_embedder) -> QuantizedModel:
    return quantize_tiny_model(traced_embedder)
