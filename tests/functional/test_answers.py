"""Text in, answer out, for every task: what a bundle answers is what transformers answers from the checkpoint."""

from __future__ import annotations

import json

import numpy as np
import pytest

import dynbert
from dynbert.manifest import Task
from tests.helpers.checkpoints import VOCABULARY
from tests.helpers.commands import invoke_dynbert
from tests.helpers.tasks import EVERY_TASK

_TEXT = "The old train to the city was late, and nobody at the station knew why."
_NEXT = "So we took a bus."
_MASKED = "The old [MASK] to the city was [MASK] again."
_ARGUMENTS = {
    Task.QUESTION_ANSWERING: {"question": "What was late?", "context": _TEXT},
    Task.TEXT_CLASSIFICATION: {"texts": _TEXT},
    Task.TOKEN_CLASSIFICATION: {"texts": _TEXT},
    Task.FILL_MASK: {"texts": _MASKED, "top_k": 4},
    Task.NEXT_SENTENCE_PREDICTION: {"texts": _TEXT, "text_pair": _NEXT},
    Task.MULTIPLE_CHOICE: {"texts": _TEXT, "choices": [_NEXT, "It was built long ago.", "Nobody."]},
    Task.PRETRAINING: {"texts": _MASKED, "text_pair": _NEXT, "top_k": 3},
    Task.FEATURE_EXTRACTION: {"texts": _TEXT},
}
_COMMANDS = {
    Task.QUESTION_ANSWERING: ("--question", "What was late?", "--context", _TEXT),
    Task.FILL_MASK: ("--text", _MASKED),
    Task.NEXT_SENTENCE_PREDICTION: ("--text", _TEXT, "--text-pair", _NEXT),
    Task.MULTIPLE_CHOICE: ("--text", _TEXT, "--choice", _NEXT, "--choice", "Nobody."),
    Task.PRETRAINING: ("--text", _MASKED, "--text-pair", _NEXT),
}


@pytest.fixture(scope="module")
def load_fp32(bundles):
    models = {}
    return lambda task: models.setdefault(task, dynbert.load(bundles[task], threads=1, precision="fp32"))


@pytest.fixture(scope="module")
def transformers_output(checkpoints):
    """Return what transformers' own class gives for text, and how its tokenizer cut it."""

    def run(task, *texts):
        import torch
        import transformers

        folder = checkpoints[task]
        architecture = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"][0]
        model = getattr(transformers, architecture).from_pretrained(folder).eval()
        encoded = transformers.AutoTokenizer.from_pretrained(folder)(*texts, return_tensors="pt", padding=True)
        if task is Task.MULTIPLE_CHOICE:
            inputs = {name: array[None] for name, array in encoded.items()}
        else:
            inputs = dict(encoded)
        with torch.no_grad():
            return model(**inputs), encoded

    return run


def _softmax(logits):
    return logits.double().softmax(-1).numpy()


@pytest.mark.slow
def test_labels_of_words_are_those_of_the_pipeline(load_fp32, checkpoints):
    import transformers

    pipeline = transformers.pipeline(
        "token-classification", model=str(checkpoints[Task.TOKEN_CLASSIFICATION]), aggregation_strategy="first"
    )
    wanted = pipeline(_TEXT)
    labels = load_fp32(Task.TOKEN_CLASSIFICATION)(_TEXT)
    got = [(entity.label, entity.start, entity.end) for entity in labels.entities]
    assert got == [(item["entity_group"], item["start"], item["end"]) for item in wanted]
    assert got
    for entity, item in zip(labels.entities, wanted, strict=True):
        assert entity.score == pytest.approx(float(item["score"]), abs=1e-4)
        assert entity.text == _TEXT[entity.start : entity.end]


@pytest.mark.slow
def test_masks_are_filled_as_by_the_pipeline(load_fp32, checkpoints):
    import transformers

    pipeline = transformers.pipeline("fill-mask", model=str(checkpoints[Task.FILL_MASK]))
    wanted = pipeline(_MASKED, top_k=4)
    masks = load_fp32(Task.FILL_MASK)(_MASKED, top_k=4)
    assert len(masks) == len(wanted) == 2
    for mask, candidates in zip(masks, wanted, strict=True):
        assert _MASKED[mask.start : mask.end] == "[MASK]"
        assert [candidate.token_id for candidate in mask.candidates] == [item["token"] for item in candidates]
        scores = [candidate.score for candidate in mask.candidates]
        assert scores == pytest.approx([item["score"] for item in candidates], abs=1e-4)


@pytest.mark.slow
def test_next_sentence_is_judged_as_by_transformers(load_fp32, transformers_output):
    output, _ = transformers_output(Task.NEXT_SENTENCE_PREDICTION, _TEXT, _NEXT)
    answer = load_fp32(Task.NEXT_SENTENCE_PREDICTION)(_TEXT, text_pair=_NEXT)
    assert answer.score == pytest.approx(_softmax(output.logits)[0, 0], abs=1e-4)
    assert answer.is_next == (output.logits[0, 0] >= output.logits[0, 1]).item()


@pytest.mark.slow
def test_choices_are_scored_as_by_transformers(load_fp32, transformers_output):
    choices = _ARGUMENTS[Task.MULTIPLE_CHOICE]["choices"]
    output, _ = transformers_output(Task.MULTIPLE_CHOICE, [_TEXT] * len(choices), choices)
    answer = load_fp32(Task.MULTIPLE_CHOICE)(_TEXT, choices=choices)
    wanted = _softmax(output.logits)[0]
    assert answer.scores == pytest.approx(wanted, abs=1e-4)
    assert (answer.index, answer.text) == (wanted.argmax(), choices[wanted.argmax()])


@pytest.mark.slow
def test_pretraining_heads_answer_as_in_transformers(load_fp32, transformers_output):
    output, encoded = transformers_output(Task.PRETRAINING, _MASKED, _NEXT)
    answer = load_fp32(Task.PRETRAINING)(_MASKED, text_pair=_NEXT, top_k=3)
    assert answer.next_sentence.score == pytest.approx(_softmax(output.seq_relationship_logits)[0, 0], abs=1e-4)
    ids = np.array([candidate.token_id for mask in answer.masks for candidate in mask.candidates]).reshape(2, 3)
    mask_id = encoded["input_ids"][0, 3].item()
    at_masks = output.prediction_logits[encoded["input_ids"] == mask_id].numpy()
    for row, wanted in zip(ids, at_masks, strict=True):
        named = wanted[: len(VOCABULARY)]  # the table of embeddings has more rows than the tokenizer has names
        assert wanted[row] == pytest.approx(np.sort(named)[::-1][:3], abs=1e-3)


def test_pairs_are_classified_as_by_transformers(load_fp32, transformers_output):
    output, _ = transformers_output(Task.TEXT_CLASSIFICATION, _TEXT, _NEXT)
    answer = load_fp32(Task.TEXT_CLASSIFICATION)(_TEXT, text_pair=_NEXT)
    assert tuple(answer.scores.values()) == pytest.approx(_softmax(output.logits)[0], abs=1e-4)


@pytest.mark.parametrize("task", EVERY_TASK)
def test_every_profile_and_precision_answers(bundles, task):
    for precision in ("int8", "fp32"):
        model = dynbert.load(bundles[task], threads=1, precision=precision)
        for profile in ("full", "fast", "half"):
            assert model(**_ARGUMENTS[task], profile=profile) is not None
        assert model(**_ARGUMENTS[task], length_config=(0.8, 0.5, 0.2)) is not None


@pytest.mark.parametrize("task", EVERY_TASK)
def test_command_answers(bundles, task):
    options = _COMMANDS.get(task, ("--text", _TEXT))
    printed = invoke_dynbert("run", bundles[task], "--profile", "fast", *options)
    assert printed.exit_code == 0, printed.output
    as_json = invoke_dynbert("run", bundles[task], "--profile", "fast", "--json", *options)
    assert json.loads(as_json.stdout)
