"""``DynamicBert.kept_tokens``: the rows of every task, their characters, and what is left of them."""

from __future__ import annotations

import msgspec
import pytest

import dynbert
from dynbert.errors import InputError
from dynbert.kept_tokens import KeptTokensError
from dynbert.manifest import Precision, Task, check_files
from tests.helpers.bundles import make_bundle, rewrite_manifest


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    return {
        task: dynbert.load(make_bundle(folder / task.value, task=task).folder, threads=1, precision=Precision.FP32)
        for task in Task
    }


def _left(row):
    return [(layer.layer, list(layer.kept)) for layer in row.layers]


def test_tokens_have_pieces_and_characters(models):
    [row] = models[Task.FEATURE_EXTRACTION].kept_tokens("Naive  films!", profile="fast")
    assert [token.piece for token in row.tokens] == ["[CLS]", "naive", "film", "##s", "!", "[SEP]"]
    assert [(token.sequence, token.start, token.end) for token in row.tokens] == [
        (None, 0, 0),
        (0, 0, 5),
        (0, 7, 11),
        (0, 11, 12),
        (0, 12, 13),
        (None, 0, 0),
    ]
    assert _left(row) == [(0, [0, 2, 4]), (1, [0, 4])]


def test_full_keeps_everything(models):
    [row] = models[Task.FEATURE_EXTRACTION].kept_tokens("a book")
    assert _left(row) == [(0, [0, 1, 2, 3]), (1, [0, 1, 2, 3])]


def test_a_length_config_asks_the_anytime_graph(models):
    [row] = models[Task.FEATURE_EXTRACTION].kept_tokens("a good old book", length_config=(4, 1))
    assert _left(row) == [(0, [0, 1, 2, 3]), (1, [0])]


def test_padding_is_never_among_what_is_left(models):
    texts = ["a good old book by zoe", "paris"]
    rows = models[Task.FEATURE_EXTRACTION].kept_tokens(texts, length_config=(7, 6))
    assert [len(row.tokens) for row in rows] == [8, 3]
    assert _left(rows[1]) == [(0, [0, 1, 2]), (1, [0, 1, 2])]


def test_rows_come_in_the_call_s_order_whatever_the_batches(models):
    texts = ["a", "a good old book", "good film", "it was a bad play by zoe", "paris"]
    rows = models[Task.FEATURE_EXTRACTION].kept_tokens(texts, profile="fast", batch_size=2)
    words = [" ".join(token.piece for token in row.tokens[1:-1]) for row in rows]
    assert words == texts


def test_windows_of_a_long_context_are_rows(models):
    context = " ".join(["zoe wrote it"] * 6)
    rows = models[Task.QUESTION_ANSWERING].kept_tokens(question="who", context=context, stride=2, profile="fast")
    assert len(rows) > 1
    for row in rows:
        assert len(row.tokens) <= 16
        assert {token.sequence for token in row.tokens} == {None, 0, 1}
        for token in row.tokens:
            if token.sequence == 1:
                assert context[token.start : token.end] == token.piece
    ends = [max(token.end for token in row.tokens) for row in rows]
    assert ends == sorted(ends)
    assert ends[-1] == len(context)


def test_choices_are_rows(models):
    rows = models[Task.MULTIPLE_CHOICE].kept_tokens("the film was", choices=["good", "bad", "a play"], profile="fast")
    assert [[token.piece for token in row.tokens if token.sequence == 1] for row in rows] == [
        ["good"],
        ["bad"],
        ["a", "play"],
    ]
    assert _left(rows[0]) == [(0, [0, 2, 4, 6]), (1, [0, 4])]


def test_tokens_of_a_pair_say_which_text_they_are_of(models):
    [row] = models[Task.TEXT_CLASSIFICATION].kept_tokens("A good  film!", text_pair="It was [MASK].", profile="fast")
    texts = ("A good  film!", "It was [MASK].")
    words = [(token.sequence, texts[token.sequence][token.start : token.end]) for token in row.tokens if token.end]
    assert words == [(0, "A"), (0, "good"), (0, "film"), (0, "!"), (1, "It"), (1, "was"), (1, " [MASK]"), (1, ".")]
    assert [token.piece for token in row.tokens if token.sequence is None] == ["[CLS]", "[SEP]", "[SEP]"]


_CALLS = {
    Task.QUESTION_ANSWERING: {"question": "who", "context": "zoe wrote it"},
    Task.TEXT_CLASSIFICATION: {"texts": "good film", "text_pair": "a play"},
    Task.TOKEN_CLASSIFICATION: {"texts": "zoe was in paris"},
    Task.FILL_MASK: {"texts": "a good [MASK]"},
    Task.NEXT_SENTENCE_PREDICTION: {"texts": "the film", "text_pair": "was bad"},
    Task.MULTIPLE_CHOICE: {"texts": "the film was", "choices": ["good", "bad"]},
    Task.PRETRAINING: {"texts": "a [MASK]", "text_pair": "was bad"},
    Task.FEATURE_EXTRACTION: {"texts": ["the book", "paris"]},
}


@pytest.mark.parametrize("task", Task)
def test_every_task_s_call_can_be_looked_into(models, task):
    rows = models[task].kept_tokens(**_CALLS[task], profile="fast")
    assert rows
    for row in rows:
        tokens = len(row.tokens)
        assert _left(row) == [(0, list(range(0, tokens, 2))), (1, list(range(0, tokens, 4)))]


def test_answers_stay_what_they_were(models):
    model = models[Task.QUESTION_ANSWERING]
    before = model(**_CALLS[Task.QUESTION_ANSWERING], profile="fast")
    model.kept_tokens(**_CALLS[Task.QUESTION_ANSWERING], profile="fast")
    assert model(**_CALLS[Task.QUESTION_ANSWERING], profile="fast") == before
    check_files(model._bundle, model.manifest.entries)


def test_layers_that_a_profile_leaves_out_are_left_out(tmp_path):
    bundle = make_bundle(tmp_path / "bundle")
    profiles = tuple(
        msgspec.structs.replace(profile, layer_config=(0,)) if profile.name == "fast" else profile
        for profile in bundle.manifest.profiles
    )
    model = dynbert.load(rewrite_manifest(bundle, profiles=profiles).folder, threads=1)
    [row] = model.kept_tokens("a good book", profile="fast")
    assert _left(row) == [(0, [0, 2, 4])]


def test_a_bundle_of_before_is_refused_with_the_reason(tmp_path):
    model = dynbert.load(make_bundle(tmp_path / "bundle", says_what_is_kept=False).folder, threads=1)
    with pytest.raises(KeptTokensError, match=r"full\.int8\.onnx must say which tokens its layers keep.* Export"):
        model.kept_tokens("a book")
    assert model("a book").shape == (8,)


def test_a_wrong_call_is_refused_as_ever(models):
    with pytest.raises(InputError, match="must be called as"):
        models[Task.FEATURE_EXTRACTION].kept_tokens(question="who", context="zoe")
    with pytest.raises(InputError, match="profile must be one of full, fast"):
        models[Task.FEATURE_EXTRACTION].kept_tokens("a book", profile="slow")
