"""What exported graphs say of the tokens that they keep, of text, and the report that shows it.

The oracle of which tokens are kept is in ``tests/exporter/graph/test_kept_indices.py``; here it is how many, by the
length configs, and that the PyTorch model keeps the same of a text.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import tokenizers
import torch

import dynbert
from dynbert.lengths import LengthConfig
from dynbert.manifest import Precision, Task
from dynbert_export.checkpoint.load import load_checkpoint, load_model
from tests.functional.test_answers import _ARGUMENTS
from tests.helpers.commands import invoke_dynbert
from tests.helpers.pages import read_page
from tests.helpers.tasks import EVERY_TASK

_POOLED = {Task.TEXT_CLASSIFICATION, Task.NEXT_SENTENCE_PREDICTION, Task.MULTIPLE_CHOICE}
"""Their heads read CLS alone: so does the last layer."""


@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("task", EVERY_TASK)
def test_as_many_tokens_are_left_as_the_length_config_says(bundles, task, precision):
    model = dynbert.load(bundles[task], threads=1, precision=precision)
    layers = model.manifest.model.num_layers
    for name, profile in model.profiles.items():
        config = profile.length_config or LengthConfig.everything(layers)
        for row in model.kept_tokens(**_ARGUMENTS[task], profile=name):
            counts = config.resolve(len(row.tokens), always_keep_cls_token=True)
            expected = (*counts[:-1], 1) if task in _POOLED else counts
            assert tuple(len(layer.kept) for layer in row.layers) == expected
            for before, after in pairwise(row.layers):
                assert set(after.kept) <= set(before.kept)
            assert row.layers[-1].kept[0] == 0  # CLS


def test_the_anytime_graph_keeps_what_pytorch_keeps_of_a_text(bundles, checkpoints):
    lengths = (9, 6, 3)
    task = Task.TOKEN_CLASSIFICATION
    [row] = dynbert.load(bundles[task], threads=1, precision="fp32").kept_tokens(
        **_ARGUMENTS[task], length_config=lengths
    )
    checkpoint = load_checkpoint(str(checkpoints[task]))
    encoding = tokenizers.Tokenizer.from_file(str(bundles[task] / "tokenizer.json")).encode(_ARGUMENTS[task]["texts"])
    with torch.inference_mode():
        result = load_model(checkpoint)(torch.tensor([encoding.ids]), length_config=lengths, return_dict=True)
    for layer, positions in zip(row.layers, result.kept_positions, strict=True):
        np.testing.assert_array_equal(layer.kept, np.sort(positions[0].numpy()))


@pytest.mark.parametrize("task", [Task.QUESTION_ANSWERING, Task.TEXT_CLASSIFICATION])
def test_an_exported_bundle_has_a_report(bundles, task, tmp_path):
    """With the text that comes with dynbert, which the tiny model reads in windows, or cut."""
    options = () if task is Task.QUESTION_ANSWERING else ("--truncate", "--text", _ARGUMENTS[task]["texts"])
    result = invoke_dynbert("report", bundles[task], "-o", tmp_path / "report.html", *options)
    assert result.exit_code == 0, result.output
    page = read_page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert page.find("section", aria_labelledby="text").find_all("dl", class_="layers")
    footnotes = "the last layer computes no other" in page.find("section", aria_labelledby="lengths").text
    assert footnotes == (task in _POOLED)
