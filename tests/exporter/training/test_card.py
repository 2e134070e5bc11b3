"""The card of a trained checkpoint: what it bears, how good it is, and a command that drops no more than that."""

from __future__ import annotations

import pytest

from dynbert.lengths import LengthConfig
from dynbert_export.checkpoint.training_record import TrainingRecord
from dynbert_export.training.card import write_card
from dynbert_export.training.length_drop import LengthDrop, smallest_fractions
from dynbert_export.training.model import find_start


def _card(config, tmp_path, lengths):
    start = find_start(config.model, task=config.task)
    record = TrainingRecord(lengths, "a.jsonl", "b.jsonl", "accuracy", {"full": 0.9, "half": 0.8}, {"full": 0.5})
    write_card(tmp_path / "README.md", start, record, config, steps=12)
    return (tmp_path / "README.md").read_text(encoding="utf-8")


def test_a_card_tells_what_was_trained(make_config, tmp_path):
    config = make_config(profiles={"half": [0.8, 0.7]}, batch_size=4, gradient_accumulation=2, seed=3)
    card = _card(config, tmp_path, smallest_fractions(2, LengthDrop()))
    assert card.startswith(
        "# out\n\nA length-adaptive BERT for text-classification, trained by `dynbert-train` from tiny on "
    )
    assert "a.jsonl: it bears a layer dropping up to 20% of the tokens that enter it." in card
    assert "| profile | accuracy before | accuracy after |" in card
    assert "| full | 0.5000 | 0.9000 |" in card
    assert "| half |  | 0.8000 |" in card
    assert "Judged on b.jsonl. `full` drops nothing; `half` keeps 0.8,0.7." in card
    assert "dynbert-export --model out --length-config small=0.8,0.64 -o bundle" in card
    assert "12 steps, batches of 8, learning rate 5e-05, seed 3." in card
    assert card.count("```") == 2


@pytest.mark.parametrize("bound", [0.1234567, 0.2, 0.45, 0.9, 0.99999])
def test_the_command_s_lengths_are_no_less_than_what_was_trained_for(make_config, tmp_path, bound):
    lengths = smallest_fractions(2, LengthDrop(ratio_bound=bound))
    card = _card(make_config(ratio_bound=bound), tmp_path, lengths)
    [text] = [line.split("small=")[1].split()[0] for line in card.splitlines() if line.startswith("dynbert-export")]
    record = TrainingRecord(lengths, "a")
    shown = LengthConfig.parse(text)
    assert record.find_excess(shown, 64) is None
    assert all(much - least < 0.001 for much, least in zip(shown.lengths, lengths.lengths, strict=True))
    assert "`smallest` keeps" in card


def test_a_card_names_the_least_lengths_where_they_were_given(make_config, tmp_path):
    config = make_config(least_lengths="0.4,0.25")
    card = _card(config, tmp_path, config.least_lengths)
    assert "a.jsonl: it bears keeping 0.4,0.25 of the tokens after the layers." in card
    assert "`smallest` keeps 0.4,0.25." in card
    assert "--length-config small=0.4,0.25 -o bundle" in card


def test_a_model_that_dropped_nothing_claims_nothing(make_config, tmp_path):
    card = _card(make_config(), tmp_path, LengthConfig.everything(2))
    assert "bears" not in card
    assert "on a.jsonl." in card
