"""What ``dynbert-train`` refuses, in one line and before anything is written."""

from __future__ import annotations

import pytest

import dynbert_export
from dynbert.manifest import Task
from dynbert.scoring.records import DataError
from dynbert_export.errors import ExportError
from tests.helpers.checkpoints import edit_json, make_checkpoint
from tests.helpers.training import invoke_train, make_encoder, write_lines, write_texts

_ROWS = [{"text": "good food", "label": "good"}, {"text": "bad food", "label": "bad"}] * 6


@pytest.mark.parametrize(
    ("task", "name", "rows", "options", "message"),
    [
        ("text-classification", "a.jsonl", [*_ROWS, {"text": " ", "label": "bad"}], (), "at line 13 of {file}"),
        ("text-classification", "a.jsonl", [*_ROWS, {"label": "bad"}], (), "at line 13 of {file}"),
        ("text-classification", "a.jsonl", _ROWS[::2], (), "at least two different labels, got 'good' alone in {file}"),
        ("text-classification", "a.jsonl", [{"words": "a", "label": 1}], (), "text"),
        ("token-classification", "a.jsonl", [{"words": ["a"], "labels": ["O", "O"]}], (), "at line 1 of {file}"),
        ("multiple-choice", "a.jsonl", [{"text": "a", "choices": ["b"], "label": 0}], (), "at line 1 of {file}"),
        ("feature-extraction", "a.txt", [], (), "at least one example, got none in {file}"),
        (
            "text-classification",
            "a.jsonl",
            [{"text": "a", "label": 0.5}, {"text": "b", "label": 3}],
            ("--problem-type", "ranking"),
            "labels from 0 to 1 to train a ranking on, got 3 at line 2 of {file}",
        ),
    ],
)
def test_faults_in_data_are_told_before_anything_is_trained(encoder, tmp_path, task, name, rows, options, message):
    data = write_lines(tmp_path / name, rows)
    arguments = ("--model", encoder, "--data", data, "--task", task, "-o", tmp_path / "out", *options)
    result = invoke_train(*arguments)
    assert result.exit_code == 1, result.output
    [line] = [each for each in result.stderr.splitlines() if each.startswith("Error: ")]
    assert message.format(file=data) in line
    assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]


def test_labels_that_only_the_evaluation_has_are_faults(encoder, tmp_path):
    data = write_lines(tmp_path / "a.jsonl", _ROWS)
    other = write_lines(tmp_path / "b.jsonl", [*_ROWS, {"text": "so so", "label": "fair"}])
    arguments = ("--model", encoder, "--data", data, "--eval-data", other, "--task", "text-classification")
    result = invoke_train(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert f"known labels only, got 'fair' at line 13 of {other}. Known are bad, good." in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "b.jsonl"]


@pytest.mark.parametrize(
    ("architecture", "options", "exit_code", "message"),
    [
        (
            Task.FILL_MASK,
            (),
            2,
            "Task must be given for a checkpoint of BertForMaskedLM, got auto. Pass --task, one of",
        ),
        (Task.NEXT_SENTENCE_PREDICTION, (), 2, "Task must be given for a checkpoint of BertForNextSentencePrediction"),
        (Task.PRETRAINING, (), 2, "Task must be given for a checkpoint of BertForPreTraining, got auto."),
        (Task.FILL_MASK, ("--task", "fill-mask"), 2, "'fill-mask' is not one of 'auto', 'question-answering'"),
        (Task.TEXT_CLASSIFICATION, (), 1, "Known are negative, neutral, positive."),
        (
            Task.TEXT_CLASSIFICATION,
            ("--layer", "9"),
            2,
            "layers must be indices of the checkpoint's layers, 0 to 2, got 9",
        ),
        (
            Task.FEATURE_EXTRACTION,
            ("--hidden-weight", "1"),
            2,
            "hidden_weight must be given for tasks with labels alone",
        ),
        (Task.FILL_MASK, ("--task", "text-classification", "--report-to", "x"), 2, "report_to must name trackers"),
        (Task.FILL_MASK, ("--task", "text-classification", "--length-config", "0.5"), 2, "must have 3 entries"),
        (
            Task.FILL_MASK,
            ("--task", "text-classification", "--resume"),
            2,
            "A training to resume must be there, got none",
        ),
        (
            Task.FILL_MASK,
            ("--task", "text-classification", "--teacher", "nowhere/at/all"),
            1,
            "Model folder must exist",
        ),
        (
            Task.FILL_MASK,
            ("--task", "text-classification", "--data", "gone.csv"),
            1,
            "existing file, got none at gone.csv",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused(texts, tmp_path, architecture, options, exit_code, message):
    model = make_checkpoint(tmp_path / "model", architecture)
    result = invoke_train("--model", model, "--data", texts, "-o", tmp_path / "out", *options)
    assert (result.exit_code, message in result.stderr) == (exit_code, True), result.stderr
    assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_head_of_another_kind_is_refused(tmp_path):
    model = make_checkpoint(tmp_path / "model", Task.TEXT_CLASSIFICATION)
    data = write_texts(tmp_path / "data.jsonl", labels=(0.5, 1.5))
    arguments = ("--model", model, "--data", data, "-o", tmp_path / "out")
    result = invoke_train(*arguments, "--problem-type", "regression")
    assert result.exit_code == 2
    assert (
        "The checkpoint's head must have one logit for regression, got 3 (single_label_classification)" in result.stderr
    )
    result = invoke_train(*arguments)
    assert result.exit_code == 1
    assert "have texts or whole numbers as labels, got 1.5 at line 1 of" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data.jsonl", "model"]


def test_weights_that_are_not_finite_are_not_published(options, tmp_path):
    wild = ("--learning-rate", "1e35", "--plain-epochs", "0", "--eval-every", "100")
    result = invoke_train(*options, "-o", tmp_path / "out", *wild)
    assert result.exit_code == 1
    assert "Training must end with finite weights, got infinity or NaN in" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_one_line(options, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = invoke_train(*options, "-o", tmp_path / "file" / "out")
    assert result.exit_code == 1, result.output
    assert "out.training must be writable, got: Not a directory." in result.stderr


def test_errors_of_the_function_are_those_of_the_command(encoder, tmp_path):
    data = write_lines(tmp_path / "a.jsonl", [{"text": "", "label": "x"}])
    with pytest.raises(DataError):
        dynbert_export.train(model=encoder, data=data, output=tmp_path / "out", task="text-classification")
    edit_json(make_encoder(tmp_path / "broken") / "config.json", hidden_size=48)
    good = write_texts(tmp_path / "b.jsonl")
    with pytest.raises(ExportError, match=r"Weights must fit config.json"):
        dynbert_export.train(model=tmp_path / "broken", data=good, output=tmp_path / "out", task="text-classification")
    assert not list(tmp_path.glob("out*"))
