"""Bundles that tests share; a test that changes files makes its own."""

from __future__ import annotations

import pytest

from dynbert.manifest import Task
from tests.helpers.bundles import ToyBundle, make_bundle


@pytest.fixture(scope="session")
def embedding_bundle(tmp_path_factory) -> ToyBundle:
    return make_bundle(tmp_path_factory.mktemp("embedding"))


@pytest.fixture(scope="session")
def classification_bundle(tmp_path_factory) -> ToyBundle:
    return make_bundle(tmp_path_factory.mktemp("classification"), task=Task.TEXT_CLASSIFICATION)


@pytest.fixture(scope="session")
def question_bundle(tmp_path_factory) -> ToyBundle:
    return make_bundle(tmp_path_factory.mktemp("question"), task=Task.QUESTION_ANSWERING)
