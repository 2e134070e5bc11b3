"""Bundles that tests share; a test that changes files makes its own."""

from __future__ import annotations

import pytest

from dynbert.manifest import Task
from dynbert.selection import BoundRequest
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


@pytest.fixture
def fed_shapes(monkeypatch) -> list[tuple[tuple[int, ...], bool]]:
    """Return, as it grows, the shape of ``input_ids`` of every run, and whether something in it was padded."""
    seen = []
    feed = BoundRequest.feed

    def record(bound, inputs):
        seen.append((inputs["input_ids"].shape, not inputs["attention_mask"].all()))
        return feed(bound, inputs)

    monkeypatch.setattr(BoundRequest, "feed", record)
    return seen
