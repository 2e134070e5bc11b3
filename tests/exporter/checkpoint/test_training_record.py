"""What a checkpoint was trained to bear: written, read, and held against profiles."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynbert.lengths import LengthConfig
from dynbert_export.checkpoint.training_record import TrainingRecord, explain_excess, is_trained_checkpoint
from dynbert_export.errors import CheckpointError
from dynbert_export.options.profiles import NamedLengths
from dynbert_export.training.length_drop import LengthDrop, smallest_fractions

_PATH = Path("config.json")
_RECORD = TrainingRecord(
    LengthConfig((0.8, 0.64)), "a.csv", "b.csv", "f1", {"full": 0.9, "fast": 0.8}, {"full": 0.1, "fast": 0.1}
)


def test_a_record_is_json_and_is_read_again():
    value = json.loads(json.dumps(_RECORD.to_json()))
    assert value == {
        "lengths": [0.8, 0.64],
        "data": "a.csv",
        "evaluation": "b.csv",
        "metric": "f1",
        "scores": {"full": 0.9, "fast": 0.8},
        "before": {"full": 0.1, "fast": 0.1},
    }
    assert TrainingRecord.from_json(value, 2, _PATH) == TrainingRecord(_RECORD.lengths, "a.csv")
    assert TrainingRecord.from_json(None, 2, _PATH) is None


@given(bound=st.floats(0.001, 0.999), layers=st.integers(1, 24))
def test_what_was_trained_for_survives_the_file(bound, layers):
    lengths = smallest_fractions(layers, LengthDrop(ratio_bound=bound))
    value = json.loads(json.dumps(TrainingRecord(lengths, "a").to_json()))
    record = TrainingRecord.from_json(value, layers, _PATH)
    assert record.lengths == lengths
    assert record.find_excess(lengths, 512) is None


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ([], "no lengths and data"),
        ({}, "no lengths and data"),
        ({"data": 3, "lengths": [0.5, 0.5]}, "no lengths and data"),
        ({"data": "a"}, "at least one entry, got none"),
        ({"data": "a", "lengths": "half"}, "must be a number, got 'half'"),
        ({"data": "a", "lengths": [0.5]}, "must have 2 entries, one a layer, got 1"),
        ({"data": "a", "lengths": [9, 8]}, "counts: 9,8"),
        ({"data": "a", "lengths": [0.5, 0.9]}, "must not increase"),
    ],
)
def test_a_record_of_another_form_is_refused(value, got):
    rule = r"length_training in config.json must have data and the lengths of 2 layers as fractions, got: "
    with pytest.raises(CheckpointError, match=rf"{rule}.*{got}.* Take it out of the file\."):
        TrainingRecord.from_json(value, 2, _PATH)


@pytest.mark.parametrize(
    ("lengths", "layer"),
    [
        ((1.0, 1.0), None),
        ((0.8, 0.64), None),
        ((0.797, 0.636), None),  # rounded
        ((0.79, 0.64), 0),
        ((0.9, 0.63), 1),
        ((0.1, 0.1), 0),
        ((52, 41), None),  # of 64
        ((50, 41), 0),
        ((64, 40), 1),
        ((500, 400), None),  # more than the longest input
    ],
)
def test_the_first_layer_that_keeps_too_little_is_found(lengths, layer):
    assert _RECORD.find_excess(LengthConfig(lengths), 64) == layer


def test_every_profile_that_drops_more_is_explained():
    profiles = [
        NamedLengths("good", LengthConfig((0.9, 0.8))),
        NamedLengths("less", LengthConfig((0.9, 0.5))),
        NamedLengths("counts", LengthConfig((3, 2))),
    ]
    remedy = (
        "of the input there, and no less. Measure its quality, or train with a higher --ratio-bound or lower "
        "--least-lengths."
    )
    assert explain_excess(profiles, _RECORD, 64) == (
        f"The profile less keeps 0.5 after layer 2; the checkpoint was trained to bear 0.64 {remedy}",
        f"The profile counts keeps 3 after layer 1; the checkpoint was trained to bear 0.8 {remedy}",
    )


@pytest.mark.parametrize(
    ("content", "is_ours"),
    [(None, False), ("{", False), ("[]", False), ("{}", False), ('{"length_training": {}}', True)],
)
def test_a_trained_checkpoint_is_known_by_its_record(tmp_path, content, is_ours):
    if content is not None:
        (tmp_path / "config.json").write_text(content, encoding="utf-8")
    assert is_trained_checkpoint(tmp_path) is is_ours


def test_lengths_of_left_out_layers_say_nothing():
    lengths = LengthConfig((0.9, 0.5))
    assert _RECORD.find_excess(lengths, 64, layers=(0,)) is None
    assert _RECORD.find_excess(lengths, 64, layers=(1,)) == 1
    profiles = [
        NamedLengths("short", lengths, (0,)),
        NamedLengths("late", lengths, (1,)),
        NamedLengths("layers", None, (1,)),
    ]
    [note] = explain_excess(profiles, _RECORD, 64)
    assert note.startswith("The profile late keeps 0.5 after layer 2;")
