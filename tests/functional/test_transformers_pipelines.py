"""transformers' pipelines with optimum's models on a bundle: its tokenizer's files make them cut what is too long."""

from __future__ import annotations

import json

import pytest

import dynbert
from dynbert.manifest import Task
from tests.helpers.tasks import EVERY_TASK

_LONG = "a good story about the old bridge and the river at night " * 8  # more tokens than the model has positions


def _make_pipeline(name, bundle, model_class, file):
    from optimum import onnxruntime as optimum_ort
    from transformers import AutoTokenizer, pipeline

    model = getattr(optimum_ort, model_class).from_pretrained(bundle, file_name=file)
    return pipeline(name, model=model, tokenizer=AutoTokenizer.from_pretrained(bundle), device="cpu")


@pytest.mark.parametrize("file", ["full.fp32.onnx", "full.int8.onnx", "fast.int8.onnx"])
def test_classification_of_a_long_text_is_the_runtime_s(bundles, file):
    bundle = bundles[Task.TEXT_CLASSIFICATION]
    profile, precision, _ = file.split(".")
    classify = _make_pipeline("text-classification", bundle, "ORTModelForSequenceClassification", file)
    model = dynbert.load(bundle, threads=1, precision=precision)
    for text in (_LONG, "the old city was great"):
        (answer,) = classify(text, truncation=True)
        expected = model(text, profile=profile, truncate=True)
        assert answer == {"label": expected.label, "score": pytest.approx(expected.score, abs=1e-4)}


def test_classification_of_a_pair_is_the_runtime_s(bundles):
    bundle = bundles[Task.TEXT_CLASSIFICATION]
    classify = _make_pipeline("text-classification", bundle, "ORTModelForSequenceClassification", "full.fp32.onnx")
    expected = dynbert.load(bundle, threads=1, precision="fp32")("the city", text_pair=_LONG, truncate=True)
    answer = classify({"text": "the city", "text_pair": _LONG}, truncation=True)
    assert answer == {"label": expected.label, "score": pytest.approx(expected.score, abs=1e-4)}


def test_question_answering_finds_an_answer_in_a_long_context(bundles):
    bundle = bundles[Task.QUESTION_ANSWERING]
    answer = _make_pipeline("question-answering", bundle, "ORTModelForQuestionAnswering", "full.fp32.onnx")
    context = f"{_LONG} the old city was great"
    found = answer(question="what was old?", context=context)
    assert found["answer"] == context[found["start"] : found["end"]]


@pytest.mark.parametrize("task", EVERY_TASK)
def test_tokenizer_is_the_file_s_own_and_knows_its_limit(bundles, checkpoints, task):
    from transformers import AutoTokenizer, BertTokenizerFast

    ours, theirs = (AutoTokenizer.from_pretrained(folder) for folder in (bundles[task], checkpoints[task]))
    settings = json.loads((bundles[task] / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert type(ours).__name__ == settings["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert settings["model_max_length"] == ours.model_max_length == 64
    assert not {"auto_map", "name_or_path", "tokenizer_file"} & set(settings)
    assert ours.special_tokens_map == theirs.special_tokens_map
    pair = ("The City was GREAT, café", _LONG)
    for tokenizer in (ours, BertTokenizerFast.from_pretrained(bundles[task])):
        assert dict(tokenizer(*pair, truncation=True)) == dict(theirs(*pair, truncation=True))
