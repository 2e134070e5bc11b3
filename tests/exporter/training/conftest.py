"""Small files of labelled data and fresh checkpoints that the tests of training share."""

from __future__ import annotations

import pytest

from dynbert.manifest import Task
from dynbert_export.options.training import make_training_config
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.training import WRITERS, make_encoder


@pytest.fixture(scope="session")
def data_files(tmp_path_factory):
    """A file of labelled data for each task."""
    folder = tmp_path_factory.mktemp("labelled")
    endings = {Task.QUESTION_ANSWERING: "json"}
    return {task: write(folder / f"{task.value}.{endings.get(task, 'jsonl')}") for task, write in WRITERS.items()}


@pytest.fixture(scope="session")
def encoder(tmp_path_factory):
    """A checkpoint without a head, which learns."""
    return make_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def embedder(tmp_path_factory):
    """A checkpoint of a sentence-transformers model, whose embeddings suffer from dropped tokens."""
    return make_checkpoint(tmp_path_factory.mktemp("embedder") / "tiny", sentence_transformers=True)


@pytest.fixture
def make_config(encoder, data_files, tmp_path):
    """Make the options of a training of a text classifier, with what a test changes."""

    def make(**changes):
        task = Task(changes.get("task", Task.TEXT_CLASSIFICATION.value))
        options = {
            "model": str(encoder),
            "output": tmp_path / "out",
            "data": str(data_files[task]),
            "task": task.value,
            "threads": 1,
        }
        return make_training_config(overrides=options | changes)

    return make
