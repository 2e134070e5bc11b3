"""What a search reads, what tells one set of data from another, and what it calibrates on."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert_export.checkpoint.load import load_checkpoint
from dynbert_export.data.files import load_texts
from dynbert_export.options.search import make_search_config
from dynbert_export.searching import fingerprint
from dynbert_export.searching.checks import check_fit, check_known, most_left_out
from dynbert_export.searching.data import digest_data, read_parts, write_calibration
from dynbert_export.searching.fingerprint import check_same, make_fingerprint
from dynbert_export.searching.splitting import is_retrieval
from tests.helpers.checkpoints import make_checkpoint
from tests.helpers.searching import write_queries
from tests.helpers.training import WRITERS, write_lines, write_texts

_ENDINGS = {Task.QUESTION_ANSWERING: "json"}


def _config(data, **options):
    return make_search_config(overrides={"model": "m", "data": str(data), "study": "s", "output": "o.yaml"} | options)


def _checkpoint(task, labels=()):
    """What is read of a checkpoint before it is loaded."""
    return SimpleNamespace(task=task, labels=labels, problem_type=None)


def _write(task, folder, rows=80):
    return WRITERS[task](folder / f"data.{_ENDINGS.get(task, 'jsonl')}", rows=rows)


@pytest.fixture
def texts(tmp_path):
    return write_texts(tmp_path / "texts.jsonl", rows=80)


def test_a_part_is_kept_aside(texts):
    searched, aside = read_parts(_config(texts), _checkpoint(Task.TEXT_CLASSIFICATION, ("bad", "good")))
    assert (len(searched.data.examples), len(aside.data.examples)) == (48, 32)
    assert searched.data.label_names == ("bad", "good")


def test_test_data_is_kept_aside_instead(texts, tmp_path):
    other = write_texts(tmp_path / "other.jsonl", rows=30, seed=1)
    searched, aside = read_parts(
        _config(texts, test=str(other)), _checkpoint(Task.TEXT_CLASSIFICATION, ("bad", "good"))
    )
    assert (len(searched.data.examples), len(aside.data.examples)) == (80, 30)
    assert aside.data.name == "other.jsonl"


def test_questions_are_queries_for_embeddings(tmp_path):
    questions = json.loads(write_queries(tmp_path / "data.json", rows=60).read_text(encoding="utf-8"))
    questions["data"][0]["paragraphs"][0]["qas"][0] |= {"answers": [], "is_impossible": True}
    (tmp_path / "data.json").write_text(json.dumps(questions), encoding="utf-8")
    searched, aside = read_parts(_config(tmp_path / "data.json"), _checkpoint(Task.FEATURE_EXTRACTION))
    assert is_retrieval(searched.data)
    assert searched.passages == aside.passages
    assert len(searched.data.examples) + len(aside.data.examples) == 59  # one has no answer
    assert read_parts(_config(tmp_path / "data.json"), _checkpoint(Task.QUESTION_ANSWERING))[0].passages == ()


def test_questions_without_answers_find_nothing(tmp_path):
    paragraph = {"context": "It rains.", "qas": [{"id": "q", "question": "Why?", "answers": [], "is_impossible": True}]}
    (tmp_path / "data.json").write_text(json.dumps({"data": [{"paragraphs": [paragraph]}]}), encoding="utf-8")
    with pytest.raises(InputError, match=r"must have questions with answers, got none in data.json"):
        read_parts(_config(tmp_path / "data.json"), _checkpoint(Task.FEATURE_EXTRACTION))


def test_digests_tell_data_apart(texts):
    checkpoint = _checkpoint(Task.TEXT_CLASSIFICATION, ("bad", "good"))
    searched, aside = read_parts(_config(texts), checkpoint)
    again, _ = read_parts(_config(texts), checkpoint)
    assert digest_data(searched) == digest_data(again) != digest_data(aside)
    first = replace(searched.data.examples[0], label=1 - searched.data.examples[0].label)
    changed = replace(searched, data=replace(searched.data, examples=(first, *searched.data.examples[1:])))
    assert digest_data(changed) != digest_data(searched)


@pytest.mark.parametrize("task", [task for task in WRITERS if task is not Task.FEATURE_EXTRACTION])
def test_an_export_can_calibrate_on_a_part(tmp_path, task):
    names = {Task.TEXT_CLASSIFICATION: ("bad", "good"), Task.TOKEN_CLASSIFICATION: ("B-GOOD", "O")}
    searched, _ = read_parts(_config(_write(task, tmp_path)), _checkpoint(task, names.get(task, ())))
    path = tmp_path / "calibration.jsonl"
    write_calibration(searched, path, seed=0)
    samples = load_texts(path, task).samples
    assert len(samples) > 20
    assert (samples[0].pair is not None) == (task in {Task.QUESTION_ANSWERING, Task.MULTIPLE_CHOICE})


def test_an_export_can_calibrate_on_queries_and_passages(tmp_path):
    searched, _ = read_parts(_config(write_queries(tmp_path / "data.json")), _checkpoint(Task.FEATURE_EXTRACTION))
    write_calibration(searched, tmp_path / "calibration.jsonl", seed=0)
    samples = load_texts(tmp_path / "calibration.jsonl", Task.FEATURE_EXTRACTION).samples
    assert {sample.pair for sample in samples} == {None}
    assert {path.name for path in tmp_path.iterdir()} == {"data.json", "calibration.jsonl"}


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return load_checkpoint(str(make_checkpoint(tmp_path_factory.mktemp("model"), Task.TEXT_CLASSIFICATION)))


def test_data_of_other_labels_is_refused_before_an_export(classifier, texts):
    searched, _ = read_parts(_config(texts), _checkpoint(Task.TEXT_CLASSIFICATION))
    with pytest.raises(InputError, match="must have the bundle's labels negative, neutral, positive, got bad, good"):
        check_fit(searched, classifier, None)


def test_a_metric_that_there_is_not_is_refused_before_an_export(classifier, tmp_path):
    rows = [{"text": f"text {number}", "label": ("negative", "positive")[number % 2]} for number in range(80)]
    data = write_lines(tmp_path / "data.jsonl", rows)
    searched, _ = read_parts(_config(data), classifier)
    assert check_fit(searched, classifier, None) == "accuracy"
    assert check_fit(searched, classifier, "matthews") == "matthews"
    with pytest.raises(InputError, match="metric must be one of accuracy, macro_f1, matthews, got 'f1'"):
        check_fit(searched, classifier, "f1")


@pytest.mark.parametrize("task", list(WRITERS))
def test_data_of_every_task_is_scored_with_made_up_answers(tmp_path, task):
    labels = {Task.TOKEN_CLASSIFICATION: ("O", "B-GOOD"), Task.TEXT_CLASSIFICATION: ("bad", "good")}.get(task, ())
    checkpoint = load_checkpoint(str(make_checkpoint(tmp_path / "model", task, labels=labels)))
    is_embedder = task is Task.FEATURE_EXTRACTION
    data = write_queries(tmp_path / "queries.json") if is_embedder else _write(task, tmp_path)
    for part in read_parts(_config(data), checkpoint):
        check_fit(part, checkpoint, None)


@pytest.mark.parametrize(("asked", "layers", "expected"), [(None, 6, 2), (None, 2, 0), (0, 6, 0), (3, 6, 3), (9, 6, 5)])
def test_a_third_of_the_layers_may_be_left_out_unless_asked_otherwise(texts, asked, layers, expected):
    assert most_left_out(_config(texts, leave_out_layers=asked), layers) == expected


def test_profiles_to_try_first_are_held_to_the_model_and_the_space(texts):
    config = _config(texts, export={"profiles": {"mine": {"layer_config": [0]}}})
    with pytest.raises(InputError, match=r"at most 1 layers, got 2 of mine. Pass --leave-out-layers 2\."):
        check_known(config, num_layers=3, max_length=64)
    check_known(config.model_copy(update={"leave_out_layers": 2}), num_layers=3, max_length=64)
    with pytest.raises(InputError, match="Profile mine"):
        check_known(_config(texts, export={"profiles": {"mine": [0.5]}}), num_layers=3, max_length=64)


def test_fingerprints_follow_what_decides_and_nothing_else(classifier, texts, monkeypatch, tmp_path):
    parts = read_parts(_config(texts), _checkpoint(Task.TEXT_CLASSIFICATION))

    def make(**options):
        return make_fingerprint(_config(texts, **options), classifier, parts)

    base = make()
    check_same(base, make(trials=7, sampler="tpe", profiles=1, compare_random=True, minutes=3.0), tmp_path)
    check_same(base, make(export={"profiles": {"mine": [0.5, 0.5, 0.5]}}), tmp_path)
    for options, name in [
        ({"seed": 1}, "seed"),
        ({"threads": 2}, "threads"),
        ({"queries": "candidate"}, "queries"),
        ({"export": {"smooth_quant_alpha": 0.5}}, "export options"),
        ({"calibration": str(texts)}, "calibration"),
    ]:
        with pytest.raises(InputError, match=rf"got another {name} for"):
            check_same(base, make(**options), tmp_path)
    swapped = make_fingerprint(_config(texts), classifier, parts[::-1])
    with pytest.raises(InputError, match="another data, data kept aside"):
        check_same(base, swapped, tmp_path)
    monkeypatch.setattr(fingerprint, "cpu_name", lambda: "Another CPU")
    with pytest.raises(InputError, match=r"got another processor for .* Give the same options and data, or another"):
        check_same(base, make(), tmp_path)
