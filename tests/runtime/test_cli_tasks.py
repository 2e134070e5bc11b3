"""``dynbert run`` for the tasks that ``test_cli.py`` leaves out: what it takes, and what it prints."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

import dynbert
from dynbert.manifest import Task
from tests.helpers.bundles import WORDS, make_bundle
from tests.helpers.commands import invoke_dynbert


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Return a bundle's folder for every task."""
    return {task: make_bundle(tmp_path_factory.mktemp(task.value), task=task).folder for task in Task}


def run_both(folder, *arguments, stdin=None):
    """Return the table that a run prints, and its records."""
    table = invoke_dynbert("run", folder, *arguments, stdin=stdin)
    assert table.exit_code == 0, table.output
    return table.output, json.loads(invoke_dynbert("run", folder, *arguments, "--json", stdin=stdin).output)


def test_run_labels_words(tmp_path):
    table = np.zeros((len(WORDS), 5), np.float32)
    for word, label in (("zoe", 1), ("##s", 1), ("old", 3), ("tower", 4)):
        table[WORDS.index(word), label] = 9.0
    folder = make_bundle(tmp_path / "bundle", task=Task.TOKEN_CLASSIFICATION, table=table).folder
    texts = ["Zoé, the Old Tower", "was bad"]
    arguments = ("--text", texts[0], "--text", texts[1], "--aggregation", "average", "--stride", 2)
    shown, records = run_both(folder, *arguments)
    results = dynbert.load(folder)(texts, aggregation="average", stride=2)
    assert [record["text"] for record in records] == texts
    for record, result in zip(records, results, strict=True):
        assert record["entities"] == [asdict(entity) for entity in result.entities]
        assert record["words"] == [asdict(word) for word in result.words]
    rows = [line.split("  ") for line in shown.splitlines()[2:]]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["Zoé, the Old Tower", "Zoé", "PER", "0.9995", "0 to 3"],
        ["Zoé, the Old Tower", "Old Tower", "LOC", "0.9995", "9 to 18"],
        ["was bad", "no entity"],
    ]


def test_run_fills_masks(folders):
    shown, records = run_both(folders[Task.FILL_MASK], "--top-k", 2, stdin="the [MASK]\n[MASK] was [MASK]\n")
    results = dynbert.load(folders[Task.FILL_MASK])(["the [MASK]", "[MASK] was [MASK]"], top_k=2)
    assert [record["text"] for record in records] == ["the [MASK]", "[MASK] was [MASK]"]
    assert [record["masks"] for record in records] == [
        [json.loads(json.dumps(asdict(mask))) for mask in masks] for masks in results
    ]
    assert len(shown.splitlines()) == 2 + 3 * 2
    best = results[1][1].candidates[0]
    assert best.text in shown
    assert f"{best.score:.4f}" in shown


def test_run_predicts_next_sentences(folders):
    arguments = [
        item
        for pair in (("the film", "was bad"), ("who", "zoe"))
        for item in ("--text", pair[0], "--text-pair", pair[1])
    ]
    shown, records = run_both(folders[Task.NEXT_SENTENCE_PREDICTION], *arguments)
    results = dynbert.load(folders[Task.NEXT_SENTENCE_PREDICTION])(["the film", "who"], text_pair=["was bad", "zoe"])
    assert records == [
        {"text": "the film", "text_pair": "was bad", **asdict(results[0])},
        {"text": "who", "text_pair": "zoe", **asdict(results[1])},
    ]
    for line, result in zip(shown.splitlines()[2:], results, strict=True):
        assert line.split()[-2:] == ["yes" if result.is_next else "no", f"{result.score:.4f}"]


def test_run_chooses_for_every_text_from_the_same_choices(folders):
    texts, choices = ["the film was", "it was"], ["good", "bad", "old book"]
    arguments = [item for choice in choices for item in ("--choice", choice)]
    shown, records = run_both(folders[Task.MULTIPLE_CHOICE], *arguments, "--text", "-", stdin="\n".join(texts))
    results = dynbert.load(folders[Task.MULTIPLE_CHOICE])(texts, choices=[choices] * 2)
    for record, text, result in zip(records, texts, results, strict=True):
        assert (record["text"], record["choices"]) == (text, choices)
        assert record["choice"] == {**asdict(result), "scores": list(result.scores)}
    rows = shown.splitlines()[2:]
    assert len(rows) == 6
    assert [index for index, row in enumerate(rows) if row.rstrip().endswith("best")] == [
        results[0].index,
        3 + results[1].index,
    ]


def test_run_prints_both_heads_of_pretraining(folders):
    folder = folders[Task.PRETRAINING]
    shown, [record] = run_both(folder, "--text", "a [MASK]", "--text-pair", "was [MASK]", "--top-k", 1)
    result = dynbert.load(folder)("a [MASK]", text_pair="was [MASK]", top_k=1)
    assert record["next_sentence"] == asdict(result.next_sentence)
    assert [mask["sequence"] for mask in record["masks"]] == [0, 1]
    first, second = shown.split("\n\n")
    assert [line.split("  ")[0] for line in first.splitlines()[2:]] == ["a [MASK]", "was [MASK]"]
    assert "is next" in second
    shown, [record] = run_both(folder, "--text", "a [MASK]")
    assert record["next_sentence"] is None
    assert "is next" not in shown
    assert run_both(folder, "--text", "a", "--text-pair", "was")[1][0]["masks"] == []


def test_run_classifies_pairs(classification_bundle):
    shown, [record] = run_both(classification_bundle.folder, "--text", "good film", "--text-pair", "it was bad")
    expected = dynbert.load(classification_bundle.folder)("good film", text_pair="it was bad")
    assert (record["text_pair"], record["label"]) == ("it was bad", expected.label)
    assert shown.splitlines()[0].split()[:3] == ["text", "text_pair", "label"]


TAKEN = {
    Task.QUESTION_ANSWERING: "--question and --context (optional: --stride, --max-answer-tokens, --batch-size)",
    Task.TEXT_CLASSIFICATION: "--text (optional: --text-pair, --truncate, --batch-size)",
    Task.TOKEN_CLASSIFICATION: "--text (optional: --stride, --aggregation, --batch-size)",
    Task.FILL_MASK: "--text (optional: --top-k, --batch-size)",
    Task.NEXT_SENTENCE_PREDICTION: "--text and --text-pair (optional: --truncate, --batch-size)",
    Task.MULTIPLE_CHOICE: "--text and --choice (optional: --truncate, --batch-size)",
    Task.PRETRAINING: "--text (optional: --text-pair, --top-k, --batch-size)",
    Task.FEATURE_EXTRACTION: "--text (optional: --truncate, --batch-size)",
}
VALUES = {
    "--text-pair": ("a",),
    "--choice": ("a",),
    "--question": ("a",),
    "--context": ("a",),
    "--stride": (3,),
    "--max-answer-tokens": (3,),
    "--aggregation": ("max",),
    "--top-k": (3,),
    "--truncate": (),
    "--batch-size": (3,),
}


@pytest.mark.parametrize("task", list(Task))
def test_run_ends_with_2_and_what_the_task_takes_when_an_option_is_of_another_task(folders, task):
    foreign = [option for option in VALUES if option not in TAKEN[task]]
    assert len(foreign) >= 5
    for option in foreign:
        result = invoke_dynbert("run", folders[task], "--text", "a", option, *VALUES[option])
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"A bundle for {task.value} takes {TAKEN[task]}, got --text, {option}." in result.stderr


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        (
            Task.NEXT_SENTENCE_PREDICTION,
            ["--text", "a"],
            "takes --text and --text-pair (optional: --truncate, --batch-size), got --text.",
        ),
        (Task.MULTIPLE_CHOICE, [], "takes --text and --choice (optional: --truncate, --batch-size), got none of them."),
        (Task.MULTIPLE_CHOICE, ["--choice", "a"], "Give --text, or the input on standard input"),
        (
            Task.NEXT_SENTENCE_PREDICTION,
            ["--text", "a", "--text-pair", "a", "--text-pair", "a"],
            "texts and text_pair must be two strings or two lists of one length, got a list of 1 and a list of 2",
        ),
        (Task.FILL_MASK, ["--text", "a", "--top-k", "0"], "0 is not in the range x>=1"),
        (Task.FILL_MASK, ["--text", "a"], "text must have the mask token [MASK] at least once, got 'a'"),
        (Task.PRETRAINING, ["--text", "a"], "text must have the mask token [MASK] or a text_pair, got 'a'"),
        (Task.TOKEN_CLASSIFICATION, ["--text", "a", "--aggregation", "simple"], "'simple' is not one of 'first'"),
        (Task.TOKEN_CLASSIFICATION, ["--text", "a " * 20, "--stride", "14"], "stride must be less than the 14 tokens"),
    ],
)
def test_run_ends_with_2_when_a_call_of_a_task_is_wrong(folders, task, arguments, message):
    result = invoke_dynbert("run", folders[task], *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
