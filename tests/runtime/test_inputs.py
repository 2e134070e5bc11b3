"""A caller's arrays: completed where they may be, refused with a reason where not."""

from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from dynbert.errors import InputError
from dynbert.inputs import arrange_rows, check_inputs, length_input
from dynbert.lengths import LengthConfig
from dynbert.manifest import Task

IDS = [[2, 5, 3], [2, 3, 0]]


@pytest.fixture(scope="module")
def model(embedding_bundle):
    return embedding_bundle.manifest.model


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.int16, np.int8, np.uint8, np.uint64])
def test_check_inputs_casts_to_int64_when_dtype_is_an_integer(model, dtype):
    ids = np.array(IDS, dtype)
    checked = check_inputs({"input_ids": ids}, model)
    assert {name: array.dtype for name, array in checked.items()} == dict.fromkeys(checked, np.int64)
    np.testing.assert_array_equal(checked["input_ids"], IDS)
    np.testing.assert_array_equal(checked["attention_mask"], np.ones((2, 3)))
    np.testing.assert_array_equal(checked["token_type_ids"], np.zeros((2, 3)))
    assert ids.dtype == dtype


@pytest.mark.parametrize("mask", [[[True, True, True], [True, True, False]], [[1, 1, 1], [1, 1, 0]]])
def test_check_inputs_takes_masks_of_bools_and_integers(model, mask):
    checked = check_inputs({"input_ids": IDS, "attention_mask": mask, "token_type_ids": [[0, 0, 1]] * 2}, model)
    np.testing.assert_array_equal(checked["attention_mask"], [[1, 1, 1], [1, 1, 0]])
    np.testing.assert_array_equal(checked["token_type_ids"], [[0, 0, 1]] * 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Inputs must have input_ids, got none"),
        ({"attention_mask": [[1]]}, "Inputs must have input_ids, got attention_mask"),
        (
            {"input_ids": IDS, "position_ids": IDS, "labels": IDS},
            "Inputs must be among input_ids, attention_mask, token_type_ids, got labels, position_ids",
        ),
        ({"input_ids": np.array(IDS, np.float32)}, "input_ids must have an integer dtype, got float32"),
        ({"input_ids": np.array(IDS, bool)}, "input_ids must have an integer dtype, got bool"),
        ({"input_ids": np.array(IDS, object)}, "input_ids must have an integer dtype, got object"),
        ({"input_ids": [["a", "b"]]}, "input_ids must have an integer dtype, got <U1"),
        ({"input_ids": [[1, 2], [3]]}, "input_ids must be a rectangular array of integers, got: "),
        ({"input_ids": [1, 2]}, r"input_ids must have the shape \[batch, tokens\], each at least 1, got \[2\]"),
        ({"input_ids": [[[1]]]}, r"got \[1, 1, 1\]"),
        ({"input_ids": np.zeros((0, 4), int)}, r"each at least 1, got \[0, 4\]"),
        ({"input_ids": np.zeros((2, 0), int)}, r"each at least 1, got \[2, 0\]"),
        ({"input_ids": np.ones((1, 17), int)}, "must have at most 16 tokens a row, got 17. Truncate the input"),
        ({"input_ids": [[5, -1]]}, "input_ids must be between 0 and 34, got -1"),
        ({"input_ids": [[5, 35]]}, "input_ids must be between 0 and 34, got 35"),
        ({"input_ids": np.array([[2**64 - 1]], np.uint64)}, f"between 0 and 34, got {2**64 - 1}"),
        (
            {"input_ids": IDS, "attention_mask": [[1, 1, 1]]},
            r"attention_mask must have the shape of input_ids, \[2, 3\], got \[1, 3\]",
        ),
        (
            {"input_ids": IDS, "attention_mask": np.ones((2, 3))},
            "attention_mask must have an integer or bool dtype, got float64",
        ),
        ({"input_ids": IDS, "attention_mask": [[1, 1, 2]] * 2}, "attention_mask must be between 0 and 1, got 2"),
        ({"input_ids": IDS, "attention_mask": [[1, 1, -1]] * 2}, "attention_mask must be between 0 and 1, got -1"),
        (
            {"input_ids": IDS, "attention_mask": [[1, 1, 1], [0, 0, 0]]},
            "attention_mask must have at least one 1 in each row, got none in row 1",
        ),
        ({"input_ids": IDS, "token_type_ids": [[0, 0, 2]] * 2}, "token_type_ids must be between 0 and 1, got 2"),
        ({"input_ids": IDS, "token_type_ids": np.ones((2, 3), bool)}, "must have an integer dtype, got bool"),
    ],
)
def test_check_inputs_names_rule_and_value_when_input_is_wrong(model, inputs, message):
    assert model.vocab_size == 35
    with pytest.raises(InputError, match=message):
        check_inputs(inputs, model)


@pytest.fixture(scope="module")
def choice_model(model):
    return replace(model, task=Task.MULTIPLE_CHOICE, embeddings=None)


def test_check_inputs_takes_examples_of_choices_when_the_task_has_them(choice_model):
    mask = [[[1, 1, 1], [1, 0, 0]]]
    checked = check_inputs({"input_ids": [IDS], "attention_mask": mask}, choice_model)
    assert {array.shape for array in checked.values()} == {(1, 2, 3)}
    np.testing.assert_array_equal(checked["attention_mask"], mask)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"input_ids": IDS}, r"must have the shape \[batch, choices, tokens\], each at least 1, got \[2, 3\]"),
        ({"input_ids": np.zeros((2, 0, 3), int)}, r"got \[2, 0, 3\]"),
        ({"input_ids": np.ones((1, 2, 17), int)}, "must have at most 16 tokens a row, got 17"),
        (
            {"input_ids": [IDS], "attention_mask": [[[1, 1, 1], [0, 0, 0]]]},
            "attention_mask must have at least one 1 in each row, got none in row 0, 1",
        ),
        ({"input_ids": [IDS], "token_type_ids": IDS}, r"must have the shape of input_ids, \[1, 2, 3\], got \[2, 3\]"),
    ],
)
def test_check_inputs_names_the_shape_when_the_task_has_choices(choice_model, inputs, message):
    with pytest.raises(InputError, match=message):
        check_inputs(inputs, choice_model)


@pytest.mark.parametrize(
    ("lengths", "tokens", "keep_cls", "expected"),
    [
        ((9, 4), 16, True, [9, 4]),
        ((9, 4), 5, True, [5, 4]),
        ((0.5, 0.01), 10, True, [5, 2]),
        ((0.5, 0.01), 10, False, [5, 1]),
        ((0.5, 0.01), 1, True, [1, 1]),
    ],
)
def test_length_input_is_the_config_resolved_against_the_input(lengths, tokens, keep_cls, expected):
    array = length_input(LengthConfig(lengths), tokens, always_keep_cls_token=keep_cls)
    assert (array.dtype, array.tolist()) == (np.int64, expected)


@pytest.mark.parametrize("task", list(Task))
def test_arranged_rows_pass_the_checks_of_every_task(model, task):
    arranged = arrange_rows({"input_ids": np.array(IDS)}, task)
    embeddings = model.embeddings if task is model.task else None
    checked = check_inputs(arranged, replace(model, task=task, embeddings=embeddings))
    assert checked["input_ids"].reshape(2, 3).tolist() == IDS
    assert checked["input_ids"].shape == ((2, 1, 3) if task is Task.MULTIPLE_CHOICE else (2, 3))
