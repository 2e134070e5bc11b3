"""Rows that run together: every row once, its own outputs, in batches within their bounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, is_dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

import dynbert
from dynbert.errors import BundleError
from dynbert.manifest import Embeddings, ModelInfo, Task
from dynbert.model import DynamicBert
from dynbert.tasks.arguments import DEFAULT_BATCH_SIZE
from dynbert.tasks.base import Row, TaskContext, label_names, regroup, softmax
from dynbert.tokenization import TextTokenizer
from tests.helpers.bundles import WORDS, make_bundle, make_tokenizer

WORD_IDS = range(WORDS.index("who"), WORDS.index("tower"))
FACTS = ModelInfo(
    id="m",
    task=Task.TOKEN_CLASSIFICATION,
    architecture="",
    num_layers=2,
    hidden_size=8,
    vocab_size=len(WORDS),
    type_vocab_size=2,
    max_length=2048,
    pad_token_id=0,
    always_keep_cls_token=True,
)
TOKENIZER = TextTokenizer(make_tokenizer(), FACTS)


class Recorder:
    """A graph that gives its ids back, and remembers what it was fed."""

    def __init__(self, **changes):
        self.masks = []
        self.context = TaskContext(FACTS, TOKENIZER, self.run, **changes)

    def run(self, inputs):
        self.masks.append(inputs["attention_mask"])
        return {"ids": inputs["input_ids"].copy(), "sum": inputs["input_ids"].sum(axis=1)}

    @property
    def shapes(self):
        return [mask.shape for mask in self.masks]


def encode(lengths):
    """Return encodings of texts of so many words; no two have the same words."""
    texts = [
        " ".join(WORDS[WORD_IDS[(7 * index + place) % len(WORD_IDS)]] for place in range(length))
        for index, length in enumerate(lengths)
    ]
    return TOKENIZER.encode(texts)


LENGTHS = st.lists(st.integers(1, 60), max_size=40)


@given(LENGTHS, st.integers(1, 12), st.booleans())
def test_every_row_comes_once_with_its_own_outputs_whatever_the_lengths(lengths, batch_size, may_pad):
    encodings = encode(lengths)
    recorder = Recorder(may_pad=may_pad)
    rows = list(recorder.context.run_rows(encodings, batch_size))
    assert sorted(row.index for row in rows) == list(range(len(lengths)))
    for row in rows:
        ids = encodings[row.index].ids
        assert row.mask.tolist() == [1] * len(ids) + [0] * (len(row.mask) - len(ids))
        assert row.output("ids").tolist() == ids + [0] * (len(row.mask) - len(ids))
        assert row.output("sum") == sum(ids)
    assert all(size <= batch_size for size, _ in recorder.shapes)
    assert all(mask.any(axis=0).all() for mask in recorder.masks)  # no column of padding alone
    assert [mask.all() for mask in recorder.masks if not may_pad] == [True] * (0 if may_pad else len(recorder.masks))


@given(LENGTHS, st.integers(1, 12), st.booleans())
def test_mapped_rows_come_in_the_order_of_the_encodings(lengths, batch_size, may_pad):
    encodings = encode(lengths)
    mapped = Recorder(may_pad=may_pad).context.map_rows(encodings, batch_size, lambda row: row.output("ids").tolist())
    assert [ids[: len(encoding.ids)] for ids, encoding in zip(mapped, encodings, strict=True)] == [
        encoding.ids for encoding in encodings
    ]


def test_rows_of_about_equal_length_run_together():
    recorder = Recorder()
    list(recorder.context.run_rows(encode([3, 30, 4, 29, 5, 28]), 3))
    assert recorder.shapes == [(3, 32), (3, 7)]  # CLS and SEP are counted


def test_rows_of_one_length_run_together_when_none_may_be_padded():
    recorder = Recorder(may_pad=False)
    list(recorder.context.run_rows(encode([3, 4, 3, 4, 3, 4, 4]), 3))
    assert recorder.shapes == [(3, 6), (1, 6), (3, 5)]


def test_long_rows_run_in_smaller_batches_that_bound_the_tokens():
    recorder = Recorder()
    list(recorder.context.run_rows(encode([1500, *[254] * 6, *[126] * 3]), 8))
    assert recorder.shapes == [(1, 1502), (4, 256), (4, 256), (1, 128)]


def test_rows_keep_one_batch_of_outputs_alive_at_a_time():
    # Two while the next one runs: the caller still holds the last row then.
    alive = []

    class Output(np.ndarray):
        def __del__(self):
            if self.base is None:
                alive.remove(id(self))

    def run(inputs):
        output = np.ndarray.__new__(Output, inputs["input_ids"].shape)
        alive.append(id(output))
        assert len(alive) <= 2
        return {"logits": output}

    context = TaskContext(FACTS, TOKENIZER, run)
    assert context.map_rows(encode([3] * 40), 4, lambda row: len(row.output("logits"))) == [5] * 40


def test_output_names_what_the_graph_has_when_it_is_missing():
    row = Row(0, {"start_logits": np.zeros(3), "end_logits": np.zeros(3)}, np.ones(3, np.int64))
    with pytest.raises(BundleError) as info:
        row.output("logits")
    assert str(info.value) == "A graph for this task must have the output logits, got start_logits, end_logits."


CALLS = {
    Task.QUESTION_ANSWERING: ({"question": "who", "context": "zoe"}, "start_logits", "last_hidden_state"),
    Task.TEXT_CLASSIFICATION: ({"texts": "good"}, "logits", "last_hidden_state"),
    Task.TOKEN_CLASSIFICATION: ({"texts": "good"}, "logits", "last_hidden_state"),
    Task.FILL_MASK: ({"texts": "[MASK]"}, "logits", "last_hidden_state"),
    Task.NEXT_SENTENCE_PREDICTION: ({"texts": "good", "text_pair": "bad"}, "logits", "last_hidden_state"),
    Task.PRETRAINING: ({"texts": "[MASK]"}, "prediction_logits", "last_hidden_state"),
    Task.FEATURE_EXTRACTION: ({"texts": "good"}, "last_hidden_state", "logits"),
}


@pytest.mark.parametrize("task", CALLS)
def test_call_blames_the_bundle_when_the_graph_has_another_output(tmp_path, task):
    given_by_caller, wanted, got = CALLS[task]
    other = Task.TEXT_CLASSIFICATION if got == "logits" else Task.FEATURE_EXTRACTION
    bundle = make_bundle(tmp_path / "bundle", task=other)
    embeddings = Embeddings.TOKEN_STATES if task is Task.FEATURE_EXTRACTION else None
    changes = {"task": task, "embeddings": embeddings, "mask_token_id": len(WORDS) - 1}
    manifest = replace(bundle.manifest, model=replace(bundle.manifest.model, **changes))
    with pytest.raises(BundleError) as info:
        DynamicBert(bundle.folder, manifest)(**given_by_caller)
    assert str(info.value) == f"A graph for this task must have the output {wanted}, got {got}."


PARTS = st.lists(st.sampled_from(["the", "Zoé", "plays", "runners", "book.", "in", "Paris,", "[MASK]"]), max_size=9)
TEXTS = st.lists(PARTS.map(lambda parts: " ".join(["[MASK]", *parts])), max_size=20, unique=True)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return {
        task: dynbert.load(make_bundle(tmp_path_factory.mktemp(task.value), task=task, max_length=64).folder)
        for task in Task
    }


def arguments_of(task, texts):
    """Return a call's arguments for some texts."""
    reverse = texts[::-1]
    match task:
        case Task.QUESTION_ANSWERING:
            return {"question": texts, "context": reverse}
        case Task.NEXT_SENTENCE_PREDICTION:
            return {"texts": texts, "text_pair": reverse}
        case Task.MULTIPLE_CHOICE:
            return {"texts": texts, "choices": [reverse[: 1 + index % 3] for index in range(len(texts))]}
        case _:
            return {"texts": texts}


def leaves(value):
    """Yield what a result is made of, in order."""
    if is_dataclass(value):
        yield from leaves(asdict(value))
    elif isinstance(value, Mapping):
        yield from leaves(list(value.items()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


@pytest.mark.parametrize("lengths", [None, (0.5, 0.25)])
@pytest.mark.parametrize("task", [task for task in Task if task is not Task.FEATURE_EXTRACTION])
@given(texts=TEXTS)
def test_list_gives_what_each_of_its_items_gives_alone(models, task, lengths, texts):
    arguments = arguments_of(task, texts)
    together = models[task](**arguments, length_config=lengths)
    alone = [
        models[task](**{name: values[index] for name, values in arguments.items()}, length_config=lengths)
        for index in range(len(texts))
    ]
    assert [type(result) for result in together] == [type(result) for result in alone]
    ours, theirs = list(leaves(together)), list(leaves(alone))
    assert [item for item in ours if not isinstance(item, float)] == [
        item for item in theirs if not isinstance(item, float)
    ]
    # The sums over tokens of the toy graphs round by how many rows and tokens there are.
    numbers = [[item for item in items if isinstance(item, float)] for items in (ours, theirs)]
    np.testing.assert_allclose(*numbers, rtol=1e-4, atol=1e-6)


@given(texts=TEXTS)
def test_embeddings_of_a_list_are_those_of_its_texts(models, texts):
    model = models[Task.FEATURE_EXTRACTION]
    for lengths in (None, (0.5, 0.25)):
        together = model(texts, length_config=lengths)
        assert together.shape == (len(texts), 8)
        for text, embedding in zip(texts, together, strict=True):
            np.testing.assert_array_equal(embedding, model(text, length_config=lengths))


def test_batches_are_of_the_default_size_when_a_call_does_not_say(models, fed_shapes):
    models[Task.TEXT_CLASSIFICATION](["the book"] * (2 * DEFAULT_BATCH_SIZE + 1))
    assert [shape for shape, _ in fed_shapes] == [(DEFAULT_BATCH_SIZE, 4), (DEFAULT_BATCH_SIZE, 4), (1, 4)]


@pytest.mark.parametrize("task", list(Task))
def test_every_task_obeys_the_batch_size(models, fed_shapes, task):
    texts = ["[MASK] the", "[MASK]", "[MASK] paris in the"]
    for batch_size in (1, 2):
        models[task](**arguments_of(task, texts), batch_size=batch_size)
        assert max(shape[0] for shape, _ in fed_shapes) == batch_size
        fed_shapes.clear()


def test_windows_of_several_questions_run_together(models, fed_shapes):
    questions, contexts = ["who", "what", "who was it"], ["the book " * 50, "zoe", "paris"]
    models[Task.QUESTION_ANSWERING](question=questions, context=contexts, stride=0)
    assert [shape for shape, _ in fed_shapes] == [(4, 64)]


def test_questions_of_a_long_list_keep_order(models):
    questions = ["who", "what was it"] * 70  # more than are sorted together
    contexts = [f"the {'old ' * (index % 7)}book of zoe" for index in range(140)]
    model = models[Task.QUESTION_ANSWERING]
    expected = {pair: model(question=pair[0], context=pair[1]) for pair in zip(questions, contexts, strict=True)}
    assert len(set(expected.values())) > 5
    assert model(question=questions, context=contexts) == [
        expected[pair] for pair in zip(questions, contexts, strict=True)
    ]


@pytest.mark.parametrize(
    ("values", "sizes", "expected"),
    [([], [], []), ([1, 2, 3], [1, 2], [[1], [2, 3]]), ([1, 2], [0, 2, 0], [[], [1, 2], []])],
)
def test_regroup_gives_each_text_its_own(values, sizes, expected):
    assert list(regroup(values, sizes)) == expected


def test_softmax_is_finite_and_sums_to_one_when_logits_are_large():
    values = softmax(np.array([[1e4, 1e4, -1e4], [0.0, np.log(3), -np.inf]], np.float64))
    np.testing.assert_allclose(values, [[0.5, 0.5, 0.0], [0.25, 0.75, 0.0]])


def test_label_names_are_the_bundles_or_numbers():
    assert label_names(("a", "b"), 2) == ("a", "b")
    assert label_names((), 2) == ["LABEL_0", "LABEL_1"]
    with pytest.raises(BundleError) as info:
        label_names(("a", "b"), 3)
    assert str(info.value) == "The graph must have one logit for each of 2 labels, got 3."
