"""Layer configs: every form that they come in, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynbert.errors import InputError
from dynbert_export.options.layers import check_layers, layers_text, read_layers


@pytest.mark.parametrize(
    "given",
    [
        "0,2,4",
        " 4, 0 ,2 ",
        "(0, 2, 4)",
        "[0,2,4]",
        "(0,2,4,)",
        [0, 2, 4],
        (4, 2, 0),
        {4, 0, 2},
        ["0", "2", "4"],
        pytest.param(iter([0, 2, 4]), id="iterator"),
        np.array([4, 0, 2]),
        torch.tensor([0, 2, 4]),
        [np.int64(0), 2, torch.tensor(4)],
    ],
    ids=repr,
)
def test_every_form_becomes_plain_ascending_indices(given):
    layers = read_layers(given)
    assert layers == (0, 2, 4)
    assert {type(layer) for layer in layers} == {int}


@pytest.mark.parametrize(("given", "layers"), [("0", (0,)), ("(3,)", (3,)), ([11], (11,)), (range(2), (0, 1))])
def test_any_number_of_layers_will_do(given, layers):
    assert read_layers(given) == layers


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "must name at least one layer, got none. Name the layers that run, counted from 0, e.g. 0,2,4."),
        ("()", "must name at least one layer, got none."),
        ([], "must name at least one layer, got none."),
        ("0,2,", "Layer indices must be whole numbers from 0 on, got ''. Name the layers"),
        ("0,two,-1", "must be whole numbers from 0 on, got 'two', '-1'. Name"),
        ("0.5,1", "got '0.5'."),
        ("1_0", "got '1_0'."),
        ("9" * 30, r"got '9+\.\.\.9+'\. Name"),
        ([0, -1], "got -1."),
        ([0, 1.0], "got 1.0."),
        ([True, 2], "got True."),
        ([None], "got None."),
        ([[0, 1]], r"got \[0, 1\]."),
        (np.array([[0, 1]]), r"got array\(\[0, 1\]\)."),
        (3, "A layer config must be a list of layer indices, got 3. Name"),
        (None, "must be a list of layer indices, got None."),
        ("0,2,2,0", "must name each layer once, got 0,2 several times."),
    ],
)
def test_what_is_no_layer_config_is_refused_in_one_line(given, message):
    with pytest.raises(InputError, match=message) as caught:
        read_layers(given)
    assert "\n" not in str(caught.value)


def test_layers_are_held_to_the_model():
    check_layers((0, 2), 3)
    with pytest.raises(InputError, match=r"must be from 0 to 2 for a model of 3 layers, got 3,9\."):
        check_layers((0, 3, 9), 3)
    with pytest.raises(InputError, match=r"from 0 to 1 for a model of 2 layers, got 2,3\."):
        check_layers((0, 1, 2, 3), 2)


def test_text_reads_back():
    assert layers_text((0, 2, 11)) == "0,2,11"
    assert read_layers(layers_text((0, 2, 11))) == (0, 2, 11)
