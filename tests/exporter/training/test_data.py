"""What is trained on and what is judged by: from files, with a part held out where there is no second one."""

from __future__ import annotations

import json

import pytest

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.scoring import labelled
from dynbert.scoring.records import DataError
from dynbert_export.training import data as data_module
from dynbert_export.training.data import read_data
from dynbert_export.training.model import find_start
from tests.helpers.training import write_lines, write_texts


@pytest.fixture
def read(make_config):
    def run(**changes):
        config = make_config(**{name: str(value) for name, value in changes.items()})
        return read_data(config, find_start(config.model, task=config.task))

    return run


@pytest.mark.parametrize(
    ("options", "held_out"),
    [({}, 10), ({"eval_share": 0.25}, 24), ({"eval_share": 0.001}, 1), ({"eval_share": 0.999}, 95)],
)
def test_a_part_is_held_out(make_config, options, held_out):
    config = make_config(**options)
    training, evaluation = read_data(config, find_start(config.model, task=config.task))
    assert (len(training.examples), len(evaluation.examples)) == (96 - held_out, held_out)
    assert evaluation.name == f"text-classification.jsonl, {held_out} held out"
    assert not {id(example) for example in training.examples} & {id(example) for example in evaluation.examples}
    assert training.label_names == evaluation.label_names == ("bad", "good")
    again, _ = read_data(config, find_start(config.model, task=config.task))
    assert again == training


def test_the_seed_decides_what_is_held_out(make_config):
    held_out = [
        read_data(make_config(seed=seed), find_start(make_config().model, task=make_config().task))[1]
        for seed in (0, 1)
    ]
    assert held_out[0] != held_out[1]


def test_no_more_than_a_thousand_rows_are_held_out(make_config, monkeypatch):
    monkeypatch.setattr(data_module, "_MAX_HELD_OUT", 7)
    config = make_config(eval_share=0.5)
    assert len(read_data(config, find_start(config.model, task=config.task))[1].examples) == 7


def test_questions_about_one_context_stay_together(make_config, tmp_path):
    paragraphs = [
        {
            "context": f"the city {number}",
            "qas": [
                {"id": f"{number}{which}", "question": "?", "answers": [{"text": "city", "answer_start": 4}]}
                for which in "abc"
            ],
        }
        for number in range(8)
    ]
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": [{"title": "t", "paragraphs": paragraphs}]}), encoding="utf-8")
    config = make_config(data=str(path), task=Task.QUESTION_ANSWERING.value, eval_share=0.2)
    training, evaluation = read_data(config, find_start(config.model, task=config.task))
    contexts = [{example.context for example in each.examples} for each in (training, evaluation)]
    assert not contexts[0] & contexts[1]
    assert len(evaluation.examples) == 6


def test_one_row_cannot_be_both(make_config, tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"text": "a"}])
    config = make_config(data=str(path), task=Task.FEATURE_EXTRACTION.value)
    with pytest.raises(InputError, match=r"rows to judge by, got 1 in a.jsonl\. Pass --eval-data FILE\."):
        read_data(config, find_start(config.model, task=config.task))


def test_a_second_file_is_judged_by(read, tmp_path):
    other = write_texts(tmp_path / "other.jsonl", rows=5)
    training, evaluation = read(eval_data=other)
    assert (len(training.examples), len(evaluation.examples), evaluation.name) == (96, 5, "other.jsonl")
    assert evaluation.label_names == training.label_names


def test_a_second_file_may_lack_labels_and_have_no_others(read, tmp_path):
    good = write_lines(tmp_path / "good.jsonl", [{"text": "a", "label": "good"}])
    assert [example.label for example in read(eval_data=good)[1].examples] == [1]
    fair = write_lines(tmp_path / "fair.jsonl", [{"text": "a", "label": "fair"}])
    with pytest.raises(DataError, match=r"got 'fair' at line 1 of .*fair.jsonl\. Known are bad, good\."):
        read(eval_data=fair)


def test_what_is_no_file_is_a_set_of_the_hub(read, monkeypatch, tmp_path):
    asked = []

    def load(name, task, **options):
        asked.append((name, task, options["split"], options["for_training"]))
        return labelled.load_labelled(write_texts(tmp_path / "hub.jsonl"), task)

    monkeypatch.setattr(labelled, "load_hub_dataset", load)
    read(data="owner/set:config", eval_data="owner/set")
    assert asked == [
        ("owner/set:config", Task.TEXT_CLASSIFICATION, "train", True),
        ("owner/set", Task.TEXT_CLASSIFICATION, "validation", True),
    ]


def test_files_are_read_for_training(read, tmp_path):
    path = write_lines(tmp_path / "a.jsonl", [{"text": "a", "label": 0.5}, {"text": "b", "label": 7}])
    assert read(data=path)[0].problem_type == "regression"
    with pytest.raises(DataError, match="labels from 0 to 1 to train a ranking on, got 7"):
        read(data=path, problem_type="ranking")
