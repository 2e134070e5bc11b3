"""``dynbert-export --evaluate`` and ``dynbert eval``: both find the same, and a bundle tells it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dynbert.manifest import ANYTIME, Precision, Task, read_manifest
from tests.helpers.commands import invoke_dynbert, invoke_export, run_export

_WORDS = ["the", "old", "city", "was", "great", "a", "good", "story", "about", "bridge", "river", "night", "water"]
_RECIPE = "target: avx2\nprofiles: {fast: [20, 10, 5], half: [0.5, 0.3, 0.2]}\ngates: {refuse_dominated: false}\n"
"""Tiny graphs are all equally fast."""


def _sentences(count, seed):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(_WORDS, rng.integers(8, 30))) for _ in range(count)]


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(_RECIPE)
    return path


@pytest.fixture
def reviews(tmp_path):
    path = tmp_path / "reviews.csv"
    rows = [f"{text},{number % 2}" for number, text in enumerate(_sentences(40, seed=0))]
    path.write_text("\n".join(["text,label", *rows]))
    return path


@pytest.fixture
def pairs(tmp_path):
    path = tmp_path / "pairs.jsonl"
    both = zip(_sentences(30, seed=1), _sentences(30, seed=2), strict=True)
    path.write_text("\n".join(json.dumps({"query": query, "passage": passage}) for query, passage in both))
    return path


def _evaluate(bundle, data, *options):
    result = invoke_dynbert("eval", bundle, "--data", data, "--json", "--timed-inputs", "2", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def _values(evaluation):
    return {metric["name"]: (metric["value"], metric["low"], metric["high"]) for metric in evaluation["metrics"]}


def test_manifest_and_card_tell_what_the_command_finds(checkpoints, recipe, reviews, tmp_path):
    bundle = tmp_path / "bundle"
    model = checkpoints[Task.TEXT_CLASSIFICATION]
    options = ("--label-column", "label", "--precision", "both")
    printed = run_export("--recipe", recipe, "--model", model, "-o", bundle, "--evaluate", reviews, *options).stdout
    manifest = read_manifest(bundle)
    assert {graph.profile for graph in manifest.graphs if not graph.evaluations} == {ANYTIME}
    found = _evaluate(bundle, reviews)
    evaluations = {graph.file: graph.evaluations[0] for graph in manifest.graphs if graph.evaluations}
    assert [each["file"] for each in found["graphs"]] == sorted(evaluations, key=_profile_then_precision)
    for each in found["graphs"]:
        told = evaluations[each["file"]]
        assert told.sha256 == each["evaluation"]["sha256"]
        for metric in told.metrics:
            assert _values(each["evaluation"])[metric.name] == (metric.value, metric.low, metric.high)
            assert (metric.difference is None) == (each["file"] == "full.fp32.onnx")
        assert told.latency.inputs == 40
    card = (bundle / "README.md").read_text()
    assert "## reviews.csv" in card
    assert card.count("| half | fp32 |") == 2
    assert "reviews.csv: 40 examples. In %, with 95 % intervals; compared with full fp32" in printed


def _profile_then_precision(file):
    profile, precision, _ = file.split(".")
    return ["full", "fast", "half"].index(profile), precision


@pytest.mark.slow
def test_int8_alone_is_compared_with_fp32_all_the_same(checkpoints, recipe, reviews, tmp_path):
    bundle = tmp_path / "bundle"
    run_export(
        "--recipe", recipe, "--model", checkpoints[Task.TEXT_CLASSIFICATION], "-o", bundle, "--evaluate", reviews
    )
    evaluated = [graph for graph in read_manifest(bundle).graphs if graph.evaluations]
    assert {graph.precision for graph in evaluated} == {Precision.INT8}
    assert all(metric.difference is not None for graph in evaluated for metric in graph.evaluations[0].metrics)


@pytest.mark.slow
def test_queries_of_a_retrieval_have_their_profile(checkpoints, recipe, pairs, tmp_path):
    bundle = tmp_path / "bundle"
    model = checkpoints[Task.FEATURE_EXTRACTION]
    run_export(
        *("--recipe", recipe, "--model", model, "-o", bundle, "--precision", "both"),
        *("--evaluate", pairs, "--query-profile", "full"),
    )
    told = {graph.file: graph.evaluations[0] for graph in read_manifest(bundle).graphs if graph.evaluations}
    own, mixed = _evaluate(bundle, pairs), _evaluate(bundle, pairs, "--query-profile", "full")
    by_file = {each["file"]: _values(each["evaluation"]) for each in mixed["graphs"]}
    assert by_file == {
        file: {metric.name: (metric.value, metric.low, metric.high) for metric in evaluation.metrics}
        for file, evaluation in told.items()
    }
    alone = {each["file"]: _values(each["evaluation"]) for each in own["graphs"]}
    assert alone["full.fp32.onnx"] == by_file["full.fp32.onnx"]
    assert alone["half.fp32.onnx"] != by_file["half.fp32.onnx"]


@pytest.mark.parametrize(
    ("content", "options", "exit_code", "message"),
    [
        ("text,label\nthe city,0\n,1\n", (), 1, "must have a text as 'text', got none at row 3"),
        ("text,mood\nthe city,0\nwater,1\n", (), 1, "--label-column"),
        ("text,label\nthe city,happy\nwater,1\n", (), 1, "'happy'"),
        ("text,label\nthe city,0\nwater,1\n", ("--query-profile", "slow"), 2, "must be one of full, fast, half, got"),
        ("text,label\nthe city,0\nwater,1\n", ("--query-profile", "full"), 2, "must be for data with queries"),
    ],
)
def test_data_that_will_not_do_is_refused_before_the_model_is_traced(
    checkpoints, recipe, tmp_path, content, options, exit_code, message
):
    data = tmp_path / "reviews.csv"
    data.write_text(content)
    model = checkpoints[Task.TEXT_CLASSIFICATION]
    result = invoke_export(
        *("--recipe", recipe, "--model", model, "-o", tmp_path / "bundle", "--evaluate", data), *options
    )
    assert result.exit_code == exit_code
    assert message in result.stderr
    assert "trace" not in result.stderr
    assert not (tmp_path / "bundle").exists()


def test_columns_without_data_are_refused(tmp_path):
    result = invoke_export("--model", "m", "-o", tmp_path / "bundle", "--label-column", "label")
    assert result.exit_code == 2
    assert "label_column must be left out where nothing is evaluated, got label." in result.stderr
