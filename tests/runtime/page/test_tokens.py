"""The text in the page: its words are the text's own, and what is left is what ``kept_tokens`` says."""

from __future__ import annotations

import pytest

import dynbert
from dynbert.errors import InputError
from dynbert.kept_tokens import KeptTokens, LayerTokens, Token
from dynbert.manifest import Precision, Task
from dynbert.page.samples import sample_call, split_call
from dynbert.page.tokens import _view_layers, look_at_text
from tests.helpers.bundles import make_bundle

_CALLS = {
    Task.QUESTION_ANSWERING: {"question": "Who?", "context": "Zoé wrote  it, by running."},
    Task.TEXT_CLASSIFICATION: {"texts": "A good  film!", "text_pair": "A bad play."},
    Task.TOKEN_CLASSIFICATION: {"texts": "Zoé was in Paris."},
    Task.FILL_MASK: {"texts": "a good [MASK]."},
    Task.NEXT_SENTENCE_PREDICTION: {"texts": "The film", "text_pair": "was bad."},
    Task.MULTIPLE_CHOICE: {"texts": "The film was", "choices": ["good", "bad"]},
    Task.PRETRAINING: {"texts": "a [MASK]", "text_pair": "was bad"},
    Task.FEATURE_EXTRACTION: {"texts": "The naïve cafés, old."},
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("read")
    return {
        task: dynbert.load(make_bundle(folder / task.value, task=task).folder, threads=1, precision=Precision.FP32)
        for task in Task
    }


def _text_of(row):
    return "".join((" " if piece.has_space else "") + piece.text for piece in row.pieces).strip()


@pytest.mark.parametrize("task", Task)
@pytest.mark.parametrize("profile", ["full", "fast"])
def test_what_is_left_is_what_the_api_says(models, task, profile):
    rows = models[task].kept_tokens(**_CALLS[task], profile=profile)
    example = look_at_text(models[task], _CALLS[task], profile)
    assert len(example.rows) == len(rows)
    for view, row in zip(example.rows, rows, strict=True):
        assert len(view.pieces) == len(row.tokens)
        last = {layer.layer: set(layer.kept) for layer in row.layers}
        left = set(range(len(row.tokens)))
        for layer in view.layers:
            if layer.states:
                kept = {position for position, state in enumerate(layer.states) if state == "kept"}
                dropped = {position for position, state in enumerate(layer.states) if state == "dropped"}
                assert dropped == left - kept
                left = kept
            assert layer.left == len(left)
            assert left == last[layer.last]
    answer = models[task](**_CALLS[task], profile=profile)
    label = getattr(answer, "label", None) or getattr(answer, "text", None) or ""
    assert label in example.answer


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (Task.QUESTION_ANSWERING, "[CLS] Who? [SEP] Zoé wrote it, by running. [SEP]"),
        (Task.TEXT_CLASSIFICATION, "[CLS] A good film! [SEP] A bad play. [SEP]"),
        (Task.FEATURE_EXTRACTION, "[CLS] The naïve cafés, old. [SEP]"),
    ],
)
def test_words_stand_as_in_the_text(models, task, text):
    [row] = look_at_text(models[task], _CALLS[task], "fast").rows
    assert _text_of(row) == text
    assert [piece.text for piece in row.pieces if piece.is_special] == [
        word for word in text.split() if word.startswith("[")
    ]


def test_an_accent_of_two_characters_stays_with_its_letter(models):
    text = "cafe\N{COMBINING ACUTE ACCENT}s old"
    [row] = look_at_text(models[Task.FEATURE_EXTRACTION], {"texts": text}, "full").rows
    assert [piece.text for piece in row.pieces[1:-1]] == ["cafe\N{COMBINING ACUTE ACCENT}", "s", "old"]
    assert [piece.has_space for piece in row.pieces[1:-1]] == [True, False, True]


def test_depth_is_how_many_layers_a_token_survives(models):
    [row] = look_at_text(models[Task.FEATURE_EXTRACTION], {"texts": "a good old book"}, "fast").rows
    assert [piece.depth for piece in row.pieces] == [6, 0, 3, 0, 6, 0]


def test_windows_and_choices_have_names(models):
    long = {"question": "who", "context": " ".join(["zoe wrote it"] * 6)}
    names = [row.name for row in look_at_text(models[Task.QUESTION_ANSWERING], long, "fast").rows]
    assert names == [f"Window {number} of {len(names)}" for number in range(1, len(names) + 1)]
    assert len(names) > 1
    rows = look_at_text(models[Task.MULTIPLE_CHOICE], _CALLS[Task.MULTIPLE_CHOICE], "fast").rows
    assert [row.name for row in rows] == ["Choice 1 of 2", "Choice 2 of 2"]


def test_embeddings_are_compared_with_those_of_full(models):
    model, call = models[Task.FEATURE_EXTRACTION], _CALLS[Task.FEATURE_EXTRACTION]
    assert look_at_text(model, call, "full").answer == "an embedding of 8 numbers"
    assert look_at_text(model, call, "fast").answer == "an embedding, cosine 1.000 with that of full"


def test_nothing_is_shown_of_graphs_that_do_not_say_what_they_keep(tmp_path):
    model = dynbert.load(make_bundle(tmp_path / "bundle", says_what_is_kept=False).folder, threads=1)
    assert look_at_text(model, {"texts": "a book"}, "fast") is None


def _layers(*kept, numbers=None):
    tokens = tuple(Token("x", 0, 0, 1) for _ in range(4))
    numbers = numbers or range(len(kept))
    row = KeptTokens(tokens, tuple(LayerTokens(number, of) for number, of in zip(numbers, kept, strict=True)))
    return [(view.name, view.last, view.left, bool(view.states)) for view in _view_layers(row)]


def test_layers_that_drop_nothing_stand_together():
    everything = (0, 1, 2, 3)
    assert _layers(everything, everything) == [("Layers 1 to 2", 1, 4, False)]
    assert _layers(everything, (0, 1), (0, 1), (0, 1), (0,)) == [
        ("Layer 1", 0, 4, False),
        ("Layer 2", 1, 2, True),
        ("Layers 3 to 4", 3, 2, False),
        ("Layer 5", 4, 1, True),
    ]
    assert _layers(everything, everything, (0, 3), numbers=(0, 2, 5)) == [
        ("Layers 1, 3", 2, 4, False),
        ("Layer 6", 5, 2, True),
    ]


@pytest.mark.parametrize("task", Task)
def test_every_task_has_a_text_of_its_own(models, task):
    """It is answered where the model can read that much; the toy models read 16 tokens."""
    call = sample_call(models[task].manifest.model)
    try:
        assert models[task](**call) is not None
    except InputError as err:
        assert "must have at most" in str(err)  # noqa: PT017 - the only other way for it to end


def test_rankers_get_a_pair(tmp_path):
    bundle = make_bundle(tmp_path / "bundle", task=Task.TEXT_CLASSIFICATION, labels=("score",), problem_type="ranking")
    assert set(sample_call(bundle.manifest.model)) == {"texts", "text_pair"}


def test_a_call_for_several_texts_becomes_one_a_text():
    assert split_call({"question": "who", "context": "zoe"}) == [{"question": "who", "context": "zoe"}]
    assert split_call({"texts": ["a", "b"], "text_pair": ["c", "d"], "top_k": 2}) == [
        {"texts": "a", "text_pair": "c", "top_k": 2},
        {"texts": "b", "text_pair": "d", "top_k": 2},
    ]
    assert split_call({"texts": ["a"], "choices": [["x", "y"]]}) == [{"texts": "a", "choices": ["x", "y"]}]
    with pytest.raises(InputError, match="text_pair must have one for each of 2 texts, got 1"):
        split_call({"texts": ["a", "b"], "text_pair": ("c",)})
