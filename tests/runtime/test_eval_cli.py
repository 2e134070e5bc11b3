"""The command ``dynbert eval``: files in, tables or JSON out, and what it says of files that will not do."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dynbert.manifest import Precision, Target, Task
from tests.helpers.bundles import LABELS, WORDS, make_bundle
from tests.helpers.commands import invoke_dynbert

_PLAIN_WORDS = [word for word in WORDS if word.isalpha()]
_ROWS = [(" ".join(np.random.default_rng(number).choice(_PLAIN_WORDS, 3)), LABELS[number % 3]) for number in range(30)]


def _table(rows, header="text,label"):
    return "\n".join([header, *(",".join(row) for row in rows)]) + "\n"


def _invoke(*arguments):
    return invoke_dynbert("eval", *arguments)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("texts"), task=Task.TEXT_CLASSIFICATION).folder


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "toy.csv"
    path.write_text(_table(_ROWS))
    return path


def test_tables_have_every_profile_and_precision(bundle, data):
    result = _invoke(bundle, "--data", data, "--timed-inputs", 2)
    assert result.exit_code == 0, result.output
    main = result.stdout.split("\n\n")[1].splitlines()
    names = [["full", "fp32"], ["full", "int8"], ["fast", "fp32"], ["fast", "int8"]]
    assert [line.split()[:2] for line in main[2:]] == names
    assert "accuracy" in main[0]
    assert "median ms" in main[0]


def test_json_has_the_numbers(bundle, data):
    options = ("--json", "--timed-inputs", 0, "--profile", "fast", "--precision", "int8")
    result = _invoke(bundle, "--data", data, *options)
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)
    assert [each["file"] for each in record["graphs"]] == ["fast.int8.onnx"]
    assert record["reference"]["file"] == "full.fp32.onnx"
    evaluation = record["graphs"][0]["evaluation"]
    assert [metric["name"] for metric in evaluation["metrics"]] == ["accuracy", "macro_f1", "matthews"]
    assert (evaluation["examples"], evaluation["latency"]) == (30, None)


def test_a_bundle_without_fp32_is_compared_with_its_own_full_graph(tmp_path, data):
    folder = make_bundle(tmp_path / "bundle", task=Task.TEXT_CLASSIFICATION, precisions=(Precision.INT8,)).folder
    result = _invoke(folder, "--data", data, "--timed-inputs", 0)
    assert result.exit_code == 0, result.output
    assert "compared with full int8 on the same examples" in result.stdout


@pytest.mark.filterwarnings("always:.* may saturate and answer less exactly")
def test_a_bundle_for_another_cpu_is_evaluated_with_a_warning(tmp_path, data, monkeypatch):
    folder = make_bundle(
        tmp_path / "bundle", task=Task.TEXT_CLASSIFICATION, precisions=(Precision.INT8,), target=Target.VNNI
    ).folder
    for module in ("model", "scoring.bundle_evaluation"):
        monkeypatch.setattr(f"dynbert.{module}.int8_target", lambda: Target.AVX2)
    result = _invoke(folder, "--data", data, "--timed-inputs", 0)
    assert result.exit_code == 0, result.output
    assert "Warning: full.int8.onnx was made for vnni; this CPU, with avx2, may saturate" in result.stderr


def test_columns_are_chosen(bundle, tmp_path):
    path = tmp_path / "toy.tsv"
    path.write_text("\n".join(f"{number}\t{label}\t{text}" for number, (text, label) in enumerate(_ROWS)))
    result = _invoke(bundle, "--data", path, "--text-column", 3, "--label-column", 2, "--timed-inputs", 0)
    assert result.exit_code == 0, result.output


def test_passages_are_found_by_queries_of_another_profile(tmp_path):
    folder = make_bundle(tmp_path / "bundle", task=Task.FEATURE_EXTRACTION).folder
    path = tmp_path / "pairs.csv"
    path.write_text(_table([(text, " ".join(reversed(text.split()))) for text, _ in _ROWS], "query,passage"))
    result = _invoke(folder, "--data", path, "--query-profile", "full", "--profile", "fast", "--timed-inputs", 0)
    assert result.exit_code == 0, result.output
    assert "ndcg@10" in result.stdout
    assert "recall@10" in result.stdout


def test_one_class_alone_is_noted(bundle, tmp_path):
    path = tmp_path / "toy.csv"
    path.write_text(_table([(text, "neutral") for text, _ in _ROWS]))
    result = _invoke(bundle, "--data", path, "--timed-inputs", 0)
    assert result.exit_code == 0, result.output
    assert "Note: All 30 examples of toy.csv have the label neutral" in result.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_table([*_ROWS[:3], ("", "neutral")]), r"must have a text as 'text', got none at row 5"),
        (_table(_ROWS, "text,mood"), "--label-column"),
        (_table([("a film", "awful"), ("a film", "negative")]), "'awful'"),
        (_table(_ROWS[:1]), "must have at least 2 examples to tell how sure a metric is, got 1 in toy.csv"),
        ("text,label\n", "must have"),
        (_table([("film " * 40, "neutral"), ("film", "negative")]), "--truncate"),
    ],
)
def test_what_will_not_do_is_refused_in_one_line(bundle, tmp_path, content, message):
    path = tmp_path / "toy.csv"
    path.write_text(content)
    result = _invoke(bundle, "--data", path, "--timed-inputs", 0)
    assert result.exit_code in {1, 2}
    assert result.stderr.startswith("Error: ")
    assert message.replace("\\", "") in result.stderr.replace("\\", "")
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("options", "exit_code", "message"),
    [
        ((), 2, "Missing option '--data'"),
        (("--data", "toy.csv", "--profile", "slow"), 2, "profile must be one of full, fast, got 'slow'"),
        (("--data", "toy.csv", "--threads", "0"), 2, "'--threads'"),
        (("--data", "none.csv"), 1, "must be an existing file, got none at none.csv"),
    ],
)
def test_wrong_options_are_usage_errors(bundle, options, exit_code, message):
    result = _invoke(bundle, *options)
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert message in result.stderr


def test_a_precision_that_the_bundle_lacks_is_refused(tmp_path, data):
    folder = make_bundle(tmp_path / "bundle", task=Task.TEXT_CLASSIFICATION, precisions=(Precision.INT8,)).folder
    result = _invoke(folder, "--data", data, "--precision", "fp32")
    assert result.exit_code == 2
    assert "--precision must be one that the bundle has (int8), got fp32." in result.stderr
