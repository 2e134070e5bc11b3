"""Sets of the hub, without the hub: made in memory, and read from a folder."""

from __future__ import annotations

import datasets
import pytest

from dynbert.manifest import Task
from dynbert.packages import MissingPackageError
from dynbert.scoring.labelled import DataError, WordsExample, load_hub_dataset

_TAGS = datasets.ClassLabel(names=["O", "B-PER"])


@pytest.fixture
def hub(monkeypatch):
    """Return the sets that there are, by name and config; loading knows nothing else."""
    sets = {}

    def load(path, config, *, split):
        if (path, config) not in sets:
            raise ValueError(f"BuilderConfig {config!r} not found.\nAvailable: ...")
        part = sets[path, config]
        return part if split == "train" else part.select(range(1))

    monkeypatch.setattr(datasets, "load_dataset", load)
    return sets


def _news(labels):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["pos", "neg"])})
    return datasets.Dataset.from_dict({"text": [f"text {n}" for n in range(len(labels))], "label": labels}, features)


def test_classes_are_those_of_the_set_in_its_order(hub):
    hub["owner/news", None] = _news([0, 1, 1])
    data = load_hub_dataset("owner/news", Task.TEXT_CLASSIFICATION)
    assert (data.label_names, data.name) == (("pos", "neg"), "owner/news, train")
    assert [example.label for example in data.examples] == [0, 1, 1]
    part = load_hub_dataset("owner/news", Task.TEXT_CLASSIFICATION, split="validation")
    assert [example.label for example in part.examples] == [0]


def test_classes_of_the_set_meet_those_of_a_model_by_name(hub):
    hub["owner/news", "en"] = _news([0, 1])
    name = "owner/news:en"
    data = load_hub_dataset(name, Task.TEXT_CLASSIFICATION, label_names=("NEG", "POS"))
    assert [example.label for example in data.examples] == [1, 0]
    data = load_hub_dataset(name, Task.TEXT_CLASSIFICATION, label_names=("LABEL_0", "LABEL_1"))
    assert [example.label for example in data.examples] == [0, 1]
    with pytest.raises(DataError, match="have known labels only, got 'pos' at row 1 of owner/news:en, train"):
        load_hub_dataset(name, Task.TEXT_CLASSIFICATION, label_names=("bad", "good"))


def test_hidden_labels_are_refused(hub):
    hub["owner/news", None] = _news([0, -1])
    with pytest.raises(DataError, match="have 'label' in every row, got none at row 2"):
        load_hub_dataset("owner/news", Task.TEXT_CLASSIFICATION)


def test_labels_of_words_are_named(hub):
    features = datasets.Features({"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(_TAGS)})
    rows = {"tokens": [["Ada", "spoke"]], "ner_tags": [[1, 0]]}
    hub["owner/ner", None] = datasets.Dataset.from_dict(rows, features)
    data = load_hub_dataset("owner/ner", Task.TOKEN_CLASSIFICATION)
    assert (data.label_names, data.examples) == (("O", "B-PER"), (WordsExample(("Ada", "spoke"), (1, 0)),))


@pytest.mark.usefixtures("hub")
def test_what_cannot_be_loaded_is_one_line():
    message = r"must be a set that can be loaded, got owner/gone:x, train \(BuilderConfig 'x' not found.\)\.$"
    with pytest.raises(DataError, match=message):
        load_hub_dataset("owner/gone:x", Task.TEXT_CLASSIFICATION)


def test_a_set_with_broken_files_is_one_line(monkeypatch):
    def load(*_, **__):
        raise datasets.exceptions.DatasetGenerationError("An error occurred while generating the dataset")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"got owner/set, train \(An error occurred while generating the dataset\)"):
        load_hub_dataset("owner/set", Task.TEXT_CLASSIFICATION)


def test_a_missing_package_is_one_line_that_names_the_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingPackageError, match=r"datasets must be installed to .*'dynbert\[data\]'"):
        load_hub_dataset("owner/set", Task.TEXT_CLASSIFICATION)
