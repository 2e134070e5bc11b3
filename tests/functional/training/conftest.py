"""A checkpoint without a head, texts, and a short training of the one on the others."""

from __future__ import annotations

import pytest

from dynbert_export.training import save
from tests.helpers.training import make_encoder, run_train, write_texts


@pytest.fixture(scope="module", autouse=True)
def _blank_pictures():
    """To draw one takes as long as a small training; the picture has tests of its own, and so has saving with it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(save, "plot_training", lambda path, *_, **__: path.write_bytes(b""))
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """A checkpoint without a head, with dropout: what is resumed must draw the same."""
    return make_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    return write_texts(tmp_path_factory.mktemp("texts") / "texts.jsonl", rows=60)


@pytest.fixture(scope="module")
def options(encoder, texts):
    """A short training: 9 steps, 3 an epoch and 3 batches a step, judged and saved every second step."""
    return (
        *("--model", encoder, "--data", texts, "--task", "text-classification", "--epochs", "3", "--batch-size", "6"),
        *("--gradient-accumulation", "3", "--eval-every", "2", "--learning-rate", "1e-3", "--layer-dropout", "0.3"),
        *("--plain-epochs", "0.4"),
    )


@pytest.fixture(scope="module")
def uninterrupted(options, tmp_path_factory):
    output = tmp_path_factory.mktemp("uninterrupted") / "out"
    run_train(*options, "-o", output)
    return output
