"""The reference's own outputs, at 1e-5.

Ours differs on purpose in three things, which the tests below take into account and state:

- Tokens stay in text order after a cut; the reference has them in order of significance. ``hidden_states`` are compared
  position by position.
- ``hidden_states`` has one entry for the embeddings and one a layer. The reference repeats the last one.
- ``attentions`` are returned where asked; the reference returns none where there is a length config.

And a tie (cases with ``min_gap`` 0: padded tokens, all of significance 0) is broken by position; the reference leaves
it to ``topk``. In these cases the reference's choice is replayed, after checking that it is one that our significance
allows: then everything has to agree, padding included.
"""

from __future__ import annotations

import pytest
import torch

from dynbert_export.modeling import layer as layer_module
from tests.exporter.modeling.golden import list_entries, load_case

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
ENTRIES = list_entries()


class Replay:
    """Stands in for ``select_tokens``: makes the reference's choices, if the significance allows them."""

    def __init__(self, case):
        self.choices = []
        batch, tokens = case.input_shape
        current = torch.arange(tokens).expand(batch, -1)
        for _, order in sorted(case.orders.items()):
            positions = order.sort(dim=1)[0]
            if positions.shape[1] < current.shape[1]:
                self.choices.append(torch.searchsorted(current.contiguous(), positions))
            current = positions
        self.made = 0

    def __call__(self, significance, length, *, always_keep_cls_token):
        kept = self.choices[self.made]
        self.made += 1
        assert kept.shape[1] == length
        is_kept = torch.zeros_like(significance, dtype=torch.bool).scatter(1, kept, value=True)
        if always_keep_cls_token:
            assert is_kept[:, 0].all()
            significance, is_kept = significance[:, 1:], is_kept[:, 1:]
        least_kept = significance.masked_fill(~is_kept, torch.inf).amin(dim=1)
        most_dropped = significance.masked_fill(is_kept, -torch.inf).amax(dim=1)
        assert (least_kept >= most_dropped - 1e-5).all(), "the reference kept a token that is less significant"
        return kept


def run(case):
    model = case.make_model()
    with torch.set_grad_enabled(case.entry["backward"]):
        output = model(**case.make_arguments())
    if case.entry["backward"]:
        output.loss.backward()
    return model, output


def find(output, field, index):
    value = output[int(field) if field.isdigit() else field]
    return value if index == "" else value[int(index)]


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry["id"])
def test_outputs_equal_the_reference(entry, monkeypatch):
    case = load_case(entry)
    replay = Replay(case)
    if case.is_tied:
        monkeypatch.setattr(layer_module, "select_tokens", replay)
    model, output = run(case)
    assert bool(replay.made) == case.is_tied
    assert replay.made in {0, len(replay.choices)}

    extra = [name for name in case.outputs if name.partition(".")[2] and case.outputs[name].dim() == 3]
    layers_run = len(extra) - 2
    orders = {0: None}  # entry of hidden_states -> the reference's order of positions in it
    for step, layer in enumerate(entry["kwargs"].get("layer_config", range(layers_run)), start=1):
        orders[step] = case.orders.get(layer, orders[step - 1])
    for name, theirs in case.outputs.items():
        expected = theirs
        field, _, index = name.partition(".")
        if name in extra:
            is_repetition = int(index) == layers_run + 1
            order = orders[layers_run if is_repetition else int(index)]
            if order is not None:
                expected = theirs[torch.arange(len(order))[:, None], order.argsort(dim=1)]
            index = str(layers_run) if is_repetition else index
        torch.testing.assert_close(find(output, field, index), expected, **TOLERANCE)
    if extra:
        hidden_states = output["hidden_states"] if hasattr(output, "keys") else output[int(extra[0][0])]
        assert len(hidden_states) == layers_run + 1

    parameters = dict(model.named_parameters())
    assert bool(case.gradients) == entry["backward"]
    for name, expected in case.gradients.items():
        torch.testing.assert_close(parameters[name].grad, expected, **TOLERANCE)


@pytest.mark.parametrize(
    "entry",
    [entry for entry in ENTRIES if entry["min_gap"] and entry["kwargs"].get("return_dict", True)],
    ids=lambda entry: entry["id"],
)
def test_kept_positions_equal_the_reference(entry):
    case = load_case(entry)
    _, output = run(case)
    kept = {layer: order.sort(dim=1)[0] for layer, order in case.orders.items()}
    layers = entry["kwargs"].get("layer_config", range(entry["config"]["num_hidden_layers"]))
    assert [positions.tolist() for positions in output.kept_positions] == [kept[layer].tolist() for layer in layers]


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry["min_gap"] == 0], ids=lambda entry: entry["id"])
def test_untied_tokens_of_the_first_cut_equal_the_reference_when_nothing_is_replayed(entry):
    case = load_case(entry)
    arguments = {**case.make_arguments(), "return_dict": True}
    with torch.no_grad():
        output = case.make_model()(**arguments)
    ours, theirs = output.kept_positions[0], case.orders[min(case.orders)].sort(dim=1)[0]
    real_lengths = arguments["attention_mask"].sum(dim=1).tolist()
    for our_row, their_row, real in zip(ours.tolist(), theirs.tolist(), real_lengths, strict=True):
        # Only padding is tied. Later cuts are not compared: with count_padded_queries the kept padding has votes.
        assert [p for p in our_row if p < real] == [p for p in their_row if p < real]


def test_cases_cover_ties_cuts_and_gradients():
    gaps = [entry["min_gap"] for entry in ENTRIES]
    assert len(ENTRIES) == 82
    assert gaps.count(0) >= 20
    assert sum(bool(gap) for gap in gaps) >= 25
    assert sum(entry["backward"] for entry in ENTRIES) == 2
