"""Evaluation of all graphs of a bundle: what each gets is what it gets alone, compared with the reference."""

from __future__ import annotations

import json
import sys

import msgspec
import numpy as np
import pytest

import dynbert
from dynbert.errors import InputError, ProfileError
from dynbert.manifest import Precision, Target, Task
from dynbert.packages import MissingPackageError
from dynbert.scoring import bundle_evaluation
from dynbert.scoring.bundle_evaluation import EvaluationOptions, evaluate_bundle, list_candidates
from dynbert.scoring.evaluate import evaluate
from dynbert.scoring.evaluation_report import evaluation_record, evaluation_text
from dynbert.scoring.examples import LabelledData, PlainExample, TextExample
from dynbert.scoring.intervals import bootstrap_interval, compare
from tests.helpers.bundles import LABELS, WORDS, make_bundle

_PLAIN_WORDS = [word for word in WORDS if word.isalpha()]
_UNTIMED = EvaluationOptions(timed_inputs=0)


def _texts(count, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(_PLAIN_WORDS, rng.integers(1, 6))) for _ in range(count)]


def _classes(count=40, seed=1):
    labels = np.random.default_rng(seed).integers(0, 3, count).tolist()
    examples = tuple(TextExample(text, None, label) for text, label in zip(_texts(count), labels, strict=True))
    return LabelledData(Task.TEXT_CLASSIFICATION, examples, LABELS, "single_label_classification", "toy.csv")


def _load(folder):
    return {precision: dynbert.load(folder, 1, precision=precision) for precision in (Precision.FP32, Precision.INT8)}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return _load(make_bundle(tmp_path_factory.mktemp("texts"), task=Task.TEXT_CLASSIFICATION).folder)


@pytest.fixture(scope="module")
def embedders(tmp_path_factory):
    return _load(make_bundle(tmp_path_factory.mktemp("embedder"), task=Task.FEATURE_EXTRACTION).folder)


def _retrieval(score=None):
    pairs = list(zip(_texts(40, seed=7), _texts(40, seed=8), strict=True))
    examples = tuple(PlainExample(*pair, score) for pair in pairs)
    return LabelledData(Task.FEATURE_EXTRACTION, examples, (), None, "toy.csv")


def test_candidates_are_the_profiles_in_each_precision(models):
    candidates, notes = list_candidates(models)
    names = [(each.graph.profile, each.graph.precision.value) for each in candidates]
    assert names == [("full", "fp32"), ("full", "int8"), ("fast", "fp32"), ("fast", "int8")]
    assert notes == ()
    chosen, _ = list_candidates({Precision.INT8: models[Precision.INT8]}, ["fast", "fast"])
    assert [each.title for each in chosen] == ["fast int8"]
    with pytest.raises(ProfileError, match="profile must be one of full, fast, got 'slow'"):
        list_candidates(models, ["slow"])


def test_graphs_that_this_cpu_may_not_compute_exactly_are_left_out_where_that_matters(tmp_path, monkeypatch):
    models = _load(make_bundle(tmp_path, task=Task.TEXT_CLASSIFICATION, target=Target.VNNI).folder)
    monkeypatch.setattr(bundle_evaluation, "int8_target", lambda: Target.AVX2)
    assert len(list_candidates(models)[0]) == 4
    candidates, notes = list_candidates(models, exact_only=True)
    assert [each.graph.file for each in candidates] == ["full.fp32.onnx", "fast.fp32.onnx"]
    assert notes == tuple(
        f"{name}.int8.onnx is left out: this CPU may not compute it exactly." for name in ("full", "fast")
    )


@pytest.mark.parametrize("kind", ["texts", "passages"])
def test_every_graph_gets_what_it_gets_alone(models, embedders, kind):
    data = _classes() if kind == "texts" else _retrieval()
    candidates, _ = list_candidates(models if kind == "texts" else embedders)
    found = evaluate_bundle(candidates, candidates[0], data, _UNTIMED)
    assert found.reference == found.graphs[0]
    alone = {each.graph.file: evaluate(each.model, data, profile=each.graph.profile).metrics for each in candidates}
    for each in found.graphs:
        metrics = alone[each.candidate.graph.file]
        assert (each.evaluation.data, each.evaluation.examples, each.evaluation.latency) == (
            "toy.csv",
            len(data.examples),
            None,
        )
        assert each.evaluation.sha256 == data.sha256()
        assert [value.name for value in each.evaluation.metrics] == [metric.name for metric in metrics]
        for value, metric, reference in zip(each.evaluation.metrics, metrics, alone["full.fp32.onnx"], strict=True):
            interval = bootstrap_interval(metric)
            assert (value.value, value.low, value.high) == (metric.value, interval.low, interval.high)
            if each is found.reference:
                assert value.difference is None
            else:
                comparison = compare(reference, metric)
                assert value.difference.value == comparison.difference
                assert (value.difference.p_value, value.difference.test) == (comparison.p_value, comparison.test)


class _Steps:
    def __init__(self):
        self.total = self.done = 0

    def start(self, steps):
        self.total = steps

    def advance(self, steps):
        self.done += steps


def test_inputs_are_timed_and_progress_adds_up(models):
    candidates, _ = list_candidates(models, ["fast"])
    reference = list_candidates({Precision.FP32: models[Precision.FP32]}, ["full"])[0][0]
    steps = _Steps()
    found = evaluate_bundle(candidates, reference, _classes(), EvaluationOptions(timed_inputs=7), steps)
    assert steps.done == steps.total == 3 * (40 + 3 * 7)
    assert found.reference not in found.graphs
    for each in (found.reference, *found.graphs):
        latency = each.evaluation.latency
        assert (latency.inputs, latency.threads) == (7, 1)
        assert 0 < latency.median_ms <= latency.p95_ms


class _Spy:
    """A bundle that notes which profile embeds which texts."""

    def __init__(self, model):
        self._model = model
        self.asked = {}

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, texts, *, profile, **options):
        self.asked.setdefault(profile, []).extend(texts)
        return self._model(texts, profile=profile, **options)


def test_queries_may_have_a_profile_of_their_own(embedders):
    spy, data = _Spy(embedders[Precision.FP32]), _retrieval()
    candidates, _ = list_candidates({Precision.FP32: spy}, ["full"])
    options = EvaluationOptions(query_profile="fast", timed_inputs=0)
    found = evaluate_bundle(candidates, candidates[0], data, options)
    assert spy.asked == {
        "fast": list(dict.fromkeys(example.text for example in data.examples)),
        "full": list(dict.fromkeys(example.pair for example in data.examples)),
    }
    alone = evaluate(spy, data, query_profile="fast")
    values = [metric.value for metric in alone.metrics]
    assert [value.value for value in found.reference.evaluation.metrics] == pytest.approx(values)
    assert values == pytest.approx([metric.value for metric in evaluate(embedders[Precision.FP32], data).metrics])


@pytest.mark.parametrize("kind", ["texts", "scores"])
def test_a_profile_for_queries_is_for_retrieval_alone(models, embedders, kind):
    candidates, _ = list_candidates(models if kind == "texts" else embedders)
    data = _classes() if kind == "texts" else _retrieval(score=0.5)
    with pytest.raises(InputError, match=r"must be for data with queries and passages, got toy.csv. Leave it out."):
        evaluate_bundle(candidates, candidates[0], data, EvaluationOptions(query_profile="fast"))


def test_one_example_cannot_tell_how_sure_a_metric_is(models):
    candidates, _ = list_candidates(models)
    with pytest.raises(InputError, match=r"must have at least 2 examples .*, got 1 in toy.csv"):
        evaluate_bundle(candidates, candidates[0], _classes(1), _UNTIMED)


def test_a_missing_package_is_told_before_anything_is_answered(models, monkeypatch):
    spy = _Spy(models[Precision.FP32])
    candidates, _ = list_candidates({Precision.FP32: spy}, ["full"])
    monkeypatch.setitem(sys.modules, "scipy.stats", None)
    with pytest.raises(MissingPackageError, match=r"scipy must be installed .* pip install 'dynbert\[eval\]'"):
        evaluate_bundle(candidates, candidates[0], _classes(), _UNTIMED)
    assert spy.asked == {}


def test_data_of_one_class_is_noted(models):
    candidates, _ = list_candidates(models, ["full"])
    data = _classes()
    examples = tuple(TextExample(example.text, None, 2) for example in data.examples)
    data = LabelledData(data.task, examples, data.label_names, data.problem_type, data.name)
    found = evaluate_bundle(candidates, candidates[0], data, _UNTIMED)
    note = "All 40 examples of toy.csv have the label positive: accuracy says little then, and a correlation is 0."
    assert found.notes == (note,)
    assert f"Note: {note}" in evaluation_text(found)
    assert evaluate_bundle(candidates, candidates[0], _classes(), _UNTIMED).notes == ()


def test_the_text_has_every_graph_once_under_the_reference(models):
    candidates, _ = list_candidates(models, ["fast"])
    reference = list_candidates(models, ["full"])[0][0]
    found = evaluate_bundle(candidates, reference, _classes(), EvaluationOptions(timed_inputs=2))
    text = evaluation_text(found)
    assert text.startswith("toy.csv: 40 examples. In %, with 95 % intervals; compared with full fp32 on the same")
    main, further = (part.splitlines() for part in text.split("\n\n")[1:3])
    assert [line.split()[:2] for line in main[2:]] == [["full", "fp32"], ["fast", "fp32"], ["fast", "int8"]]
    assert main[0].split()[:3] == ["profile", "precision", "accuracy"]
    assert main[2].endswith("1.00x")
    assert further[0].split() == ["profile", "precision", "macro", "f1", "matthews"]
    assert len(further) == len(main)


def test_the_record_is_plain_data_with_all_numbers(models):
    candidates, _ = list_candidates(models)
    found = evaluate_bundle(candidates, candidates[0], _classes(), _UNTIMED)
    record = json.loads(json.dumps(evaluation_record(found)))
    assert [each["file"] for each in record["graphs"]] == [each.graph.file for each in candidates]
    assert record["reference"] == record["graphs"][0]
    assert record["graphs"][3]["evaluation"] == json.loads(msgspec.json.encode(found.graphs[3].evaluation))
