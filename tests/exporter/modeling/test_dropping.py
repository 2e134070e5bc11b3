"""What a length config does, against a slow plain oracle; and the reference's faults, each closed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynbert.errors import InputError, LengthConfigError
from dynbert.lengths import LengthConfig
from dynbert_export.modeling import BertForQuestionAnswering, BertForSequenceClassification, BertLayer, BertModel
from tests.exporter.modeling.builders import make_inputs, make_model, make_transformers_twin, run_oracle

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}


@pytest.fixture(scope="module")
def model():
    return make_model(BertModel)


def list_kept(output, row):
    return [positions[row].tolist() for positions in output.kept_positions]


@pytest.mark.parametrize("lengths", [(14, 9, 4), (12, 12, 3), (16, 16, 16), (5, 1, 1), (40, 10, 9)])
@pytest.mark.parametrize("keep_cls", [True, False])
@pytest.mark.parametrize("count_padded_queries", [True, False])
@torch.no_grad()
def test_drop_and_restore_equals_the_oracle(model, lengths, keep_cls, count_padded_queries, monkeypatch):
    monkeypatch.setattr(model.config, "count_padded_queries", count_padded_queries, raising=False)
    inputs = make_inputs([16, 11, 3])
    output = model(**inputs, length_config=lengths, always_keep_cls_token=keep_cls)
    expected, kept = run_oracle(
        make_transformers_twin(model),
        inputs,
        lengths,
        always_keep_cls_token=keep_cls,
        count_padded_queries=count_padded_queries,
    )
    ours = [list_kept(output, row) for row in range(3)]
    if count_padded_queries:  # the reference's rule, and its order
        ours = [[sorted(positions) for positions in of_text] for of_text in ours]
    assert ours == kept
    torch.testing.assert_close(output.last_hidden_state, expected, **TOLERANCE)
    if max(lengths) < 16:
        full = model(**inputs).last_hidden_state
        assert (full - output.last_hidden_state).abs().max() > 0.1  # the cuts did something


@torch.no_grad()
def test_dropped_tokens_keep_the_state_that_entered_the_dropping_layer(model):
    output = model(**make_inputs([16]), length_config=(10, 6, 3), output_hidden_states=True)
    fate = {position: sum(position in kept for kept in list_kept(output, 0)) for position in range(16)}
    assert {0, 1, 2, 3} == set(fate.values())
    for position, layers in fate.items():
        where = position if layers == 0 else list_kept(output, 0)[layers - 1].index(position)
        expected = output.hidden_states[layers][0, where]
        torch.testing.assert_close(output.last_hidden_state[0, position], expected)


@pytest.mark.parametrize(
    "form",
    [
        "12,7,3", "(12, 7, 3)", [12, 7, 3], (12, 7, 3), np.array([12, 7, 3]), torch.tensor([12, 7, 3]),
        [np.int32(12), torch.tensor(7), 3], LengthConfig((12, 7, 3)), (0.75, 0.4, 0.17), (12, 7, 3, 1, 1),
        pytest.param(iter([12, 7, 3]), id="iterator"),
    ],
    ids=repr,
)  # fmt: skip
@torch.no_grad()
def test_every_form_of_length_config_is_accepted(model, form):
    kept = model(**make_inputs([16]), length_config=form).kept_positions
    assert [positions.shape for positions in kept] == [(1, 12), (1, 7), (1, 3)]


@pytest.mark.parametrize(
    ("length_config", "message"),
    [
        ((12, 7), "at least 3 entries, one a layer, got 2"),
        ((7, 12, 3), "must not increase"),
        ((12, 7, 0), "at least 1 token, got 0"),
        ((12, None, 3), "must be a number, got None"),
    ],
)
def test_faulty_length_config_is_refused_wherever_it_is_given(model, length_config, message):
    with pytest.raises(LengthConfigError, match=message):
        model(**make_inputs([16]), length_config=length_config)
    with pytest.raises(LengthConfigError, match=message):
        model.set_length_config(length_config)
    with pytest.raises(LengthConfigError, match=message):
        make_model(BertModel, length_config=length_config)


@torch.no_grad()
def test_fractions_are_those_of_the_input_length(model):
    for tokens, expected in ((16, [15, 8, 4]), (5, [5, 3, 2]), (1, [1, 1, 1])):
        kept = model(**make_inputs([tokens]), length_config=(0.9, 0.5, 0.2)).kept_positions
        assert [positions.shape[1] for positions in kept] == expected


@pytest.mark.parametrize("tokens", [1, 2, 7])
@torch.no_grad()
def test_inputs_shorter_than_a_length_drop_nothing_until_they_must(model, tokens):
    output = model(**make_inputs([tokens]), length_config=(12, 7, 3))
    assert [positions.shape[1] for positions in output.kept_positions] == [tokens, tokens, min(tokens, 3)]
    assert output.last_hidden_state.shape == (1, tokens, 32)


@torch.no_grad()
def test_forward_overrides_what_is_set_and_what_is_set_can_be_switched_off(model):
    inputs = make_inputs([16])
    model = make_model(BertModel, length_config="12,7,3")

    def kept(**arguments):
        positions = model(**inputs, **arguments).kept_positions
        return positions and [layer.shape[1] for layer in positions]

    assert kept() == [12, 7, 3]
    assert kept(length_config=(9, 9, 9)) == [9, 9, 9]
    assert kept(length_config=()) is None
    assert kept() == [12, 7, 3]
    model.set_length_config([5, 4, 3])
    assert kept() == [5, 4, 3]
    model.set_length_config(None)
    assert kept() is None
    assert model.config.length_config == "12,7,3"


@torch.no_grad()
def test_length_config_needs_no_attentions_and_returns_them_where_asked(model):
    inputs = make_inputs([16, 9])
    plain = model(**inputs, length_config=(12, 7, 3))
    asked = model(**inputs, length_config=(12, 7, 3), output_attentions=True)
    assert plain.attentions is None
    assert [probs.shape[-1] for probs in asked.attentions] == [16, 12, 7]
    torch.testing.assert_close(plain.last_hidden_state, asked.last_hidden_state)


@torch.no_grad()
def test_config_output_attentions_is_heeded():
    model = make_model(BertModel, output_attentions=True)
    assert len(model(**make_inputs([9]), length_config=(5, 4, 3)).attentions) == 3
    model.set_output_attentions(value=False)
    assert model(**make_inputs([9])).attentions is None


@torch.no_grad()
def test_hidden_states_have_one_entry_for_the_embeddings_and_one_a_layer(model):
    inputs = make_inputs([16])
    cut = model(**inputs, length_config=(12, 7, 3), output_hidden_states=True).hidden_states
    assert [states.shape[1] for states in cut] == [16, 12, 7, 3]
    assert len(model(**inputs, output_hidden_states=True).hidden_states) == 4


@torch.no_grad()
def test_tuples_leave_out_the_kept_positions(model):
    arguments = {**make_inputs([16]), "length_config": (12, 7, 3), "output_hidden_states": True}
    named = model(**arguments)
    last, pooled, hidden_states = model(**arguments, return_dict=False)
    torch.testing.assert_close((last, pooled), (named.last_hidden_state, named.pooler_output))
    assert len(hidden_states) == 4
    assert list(named)[-1] == "kept_positions"
    assert named[1] is named.pooler_output


@torch.no_grad()
def test_layer_config_leaves_lengths_indexed_by_layer(model):
    inputs = make_inputs([16])
    kept = model(**inputs, layer_config=[2, 0], length_config=(12, 7, 3)).kept_positions
    assert [positions.shape[1] for positions in kept] == [12, 3]
    output = model(**inputs, layer_config=[], length_config=(12, 7, 3), output_hidden_states=True)
    torch.testing.assert_close(output.last_hidden_state, output.hidden_states[0])
    assert output.kept_positions == ()
    with pytest.raises(InputError, match="layer indices from 0 to 2"):
        model(**inputs, layer_config=[3])


@torch.no_grad()
def test_mask_of_batch_one_serves_every_text(model):
    inputs = make_inputs([9, 9], tokens=16)
    expected = model(**inputs, length_config=(8, 7, 3))
    inputs["attention_mask"] = inputs["attention_mask"][:1]
    output = model(**inputs, length_config=(8, 7, 3))
    torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state)
    assert list_kept(expected, 0) != list_kept(expected, 1)


@torch.no_grad()
def test_mask_per_query_equals_the_padding_mask_that_it_repeats(model):
    inputs = make_inputs([16, 9])
    expected = model(**inputs, length_config=(12, 7, 3))
    inputs["attention_mask"] = inputs["attention_mask"][:, None, :].expand(-1, 16, -1)
    output = model(**inputs, length_config=(12, 7, 3))
    assert [list_kept(output, row) for row in (0, 1)] == [list_kept(expected, row) for row in (0, 1)]
    torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state)


@pytest.mark.parametrize("kind", ["bool", "float", "embeds", "position_ids", "head_mask"])
@torch.no_grad()
def test_every_form_of_input_drops_alike(model, kind):
    inputs = make_inputs([16, 9])
    expected = model(**inputs, length_config=(12, 7, 3))
    if kind in {"bool", "float"}:
        inputs["attention_mask"] = inputs["attention_mask"].to(getattr(torch, kind))
    elif kind == "embeds":
        inputs["inputs_embeds"] = model.get_input_embeddings()(inputs.pop("input_ids"))
    elif kind == "position_ids":
        inputs["position_ids"] = torch.arange(16)[None]
    else:
        inputs["head_mask"] = torch.ones(3, 4)
    output = model(**inputs, length_config=(12, 7, 3))
    torch.testing.assert_close(output.kept_positions, expected.kept_positions)
    torch.testing.assert_close(output.last_hidden_state, expected.last_hidden_state)


@torch.no_grad()
def test_no_mask_equals_a_mask_of_ones(model):
    inputs = make_inputs([16, 16])
    expected = model(**inputs, length_config=(12, 7, 3)).last_hidden_state
    del inputs["attention_mask"]
    torch.testing.assert_close(model(**inputs, length_config=(12, 7, 3)).last_hidden_state, expected)


def list_kept_when_padded(model, texts, tokens, lengths):
    """Return the kept real positions and the logits of each text, in a batch padded to ``tokens``."""
    inputs = make_inputs(texts, tokens=max(texts))
    padding = (0, tokens - max(texts))
    inputs = {name: torch.nn.functional.pad(value, padding) for name, value in inputs.items()}
    output = model(**inputs, length_config=lengths, output_hidden_states=True)
    kept = [
        [tuple(p for p in positions if p < real) for positions in list_kept(output, row)]
        for row, real in enumerate(texts)
    ]
    return kept, [states[:real] for states, real in zip(output.last_hidden_state, texts, strict=True)]


@torch.no_grad()
def test_padding_changes_neither_what_is_kept_nor_its_states(model):
    texts = [16, 12, 9, 5, 2, 1]
    kept, states = list_kept_when_padded(model, texts, 16, (8, 5, 3))
    for tokens in (17, 24, 64):
        padded_kept, padded_states = list_kept_when_padded(model, texts, tokens, (8, 5, 3))
        assert padded_kept == kept
        torch.testing.assert_close(padded_states, states, **TOLERANCE)


@torch.no_grad()
def test_batch_changes_neither_what_is_kept_nor_its_states(model):
    texts = [16, 12, 9]
    inputs = make_inputs(texts)
    together = model(**inputs, length_config=(8, 5, 3))
    for row, real in enumerate(texts):
        alone = model(**{name: value[row : row + 1, :real] for name, value in inputs.items()}, length_config=(8, 5, 3))
        assert list_kept(alone, 0) == list_kept(together, row)
        torch.testing.assert_close(alone.last_hidden_state[0], together.last_hidden_state[row, :real], **TOLERANCE)


@torch.no_grad()
def test_padding_changes_what_the_reference_rule_keeps():
    model = make_model(BertModel, count_padded_queries=True)
    texts = list(range(4, 16))
    kept, _ = list_kept_when_padded(model, texts, 16, (8, 5, 3))
    padded_kept, _ = list_kept_when_padded(model, texts, 24, (8, 5, 3))
    assert padded_kept != kept  # so the two tests above could have failed


@torch.no_grad()
def test_ties_keep_the_lower_position_in_every_layer():
    model = make_model(BertModel)
    for layer in model.encoder.layer:  # uniform attention: every significance is equal
        layer.attention.self.query.weight.zero_()
        layer.attention.self.query.bias.zero_()
    kept = model(**make_inputs([16, 16]), length_config=(8, 4, 2), always_keep_cls_token=False).kept_positions
    assert [positions.tolist() for positions in kept] == [[list(range(length))] * 2 for length in (8, 4, 2)]


@pytest.mark.parametrize("position_embedding_type", ["relative_key", "relative_key_query"])
@torch.no_grad()
def test_relative_positions_are_those_of_the_text_after_a_cut(position_embedding_type):
    model = make_model(BertModel, position_embedding_type=position_embedding_type)
    inputs = make_inputs([16, 11])
    nothing_dropped = model(**inputs, length_config=(16, 16, 16)).last_hidden_state
    torch.testing.assert_close(nothing_dropped, model(**inputs).last_hidden_state)

    output = model(**inputs, length_config=(10, 6, 3), output_hidden_states=True, output_attentions=True)
    attention = model.encoder.layer[1].attention.self
    for row in range(2):  # layer 1's scores, one pair of tokens at a time
        states, positions = output.hidden_states[1][row], output.kept_positions[0][row]
        query, key = (
            attention.transpose_for_scores(linear(states)[None])[0] for linear in (attention.query, attention.key)
        )
        scores = query @ key.transpose(1, 2)
        for left, right in np.ndindex(10, 10):
            distance = attention.distance_embedding.weight[positions[left] - positions[right] + 63]
            scores[:, left, right] += query[:, left] @ distance
            if position_embedding_type == "relative_key_query":
                scores[:, left, right] += key[:, right] @ distance
        is_real = inputs["attention_mask"][row, positions].bool()
        probs = (scores / 8**0.5).masked_fill(~is_real, -torch.inf).softmax(dim=-1)
        torch.testing.assert_close(output.attentions[1][row], probs, **TOLERANCE)


@pytest.mark.parametrize("model_class", [BertForQuestionAnswering, BertForSequenceClassification])
@torch.no_grad()
def test_heads_drop_as_the_model_inside_does(model_class):
    model = make_model(model_class)
    inputs = make_inputs([16, 9])
    output = model(**inputs, length_config=(12, 7, 3), output_hidden_states=True, output_attentions=True)
    base = model.bert(**inputs, length_config=(12, 7, 3))
    assert [positions.tolist() for positions in output.kept_positions] == [
        positions.tolist() for positions in base.kept_positions
    ]
    model.set_length_config((12, 7, 3))
    first = "logits" if model_class is BertForSequenceClassification else "start_logits"
    torch.testing.assert_close(model(**inputs)[first], output[first])
    assert len(model(**inputs, return_dict=False)) == (1 if first == "logits" else 2)
    assert len(output.hidden_states) == 4
    assert len(output.attentions) == 3


@pytest.mark.parametrize("model_class", [BertModel, BertForQuestionAnswering, BertForSequenceClassification])
@torch.no_grad()
def test_cls_stays_by_default_in_every_head(model_class):
    model = make_model(model_class)
    base = model.base_model
    inputs = make_inputs([16] * 12)
    kept = model(**inputs, length_config=(4, 2, 1)).kept_positions
    assert kept[-1].tolist() == [[0]] * 12
    assert base(**inputs, length_config=(4, 2, 1), always_keep_cls_token=False).kept_positions[-1].max() > 0


@torch.no_grad()
def test_layer_on_its_own_returns_outputs_and_kept_indices(model):
    layer: BertLayer = model.encoder.layer[0]
    states = torch.randn(2, 6, 32, generator=torch.Generator().manual_seed(0))
    (full,), kept = layer(states)
    assert kept is None
    (cut, probs), kept = layer(states, output_attentions=True, output_length=4, always_keep_cls_token=False)
    assert kept.shape == (2, 4)
    assert probs.shape == (2, 4, 6, 6)
    torch.testing.assert_close(cut, torch.stack([full[row, kept[row]] for row in range(2)]))
    assert kept.tolist() == probs.sum(dim=(1, 2)).topk(4)[1].sort()[0].tolist()
    assert layer(states, output_length=6)[1] is None
    with pytest.raises(InputError, match="output_length must be at least 1, got 0"):
        layer(states, output_length=0)


@torch.no_grad()
def test_layer_on_its_own_gives_padded_queries_no_vote(model):
    layer = model.encoder.layer[0]
    states = torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 1, 8)
    mask[..., 5:] = torch.finfo(torch.float32).min
    (_, probs), kept = layer(states, mask, output_attentions=True, output_length=3, always_keep_cls_token=False)
    assert kept.tolist() == probs[:, :, :5].sum(dim=(1, 2)).topk(3)[1].sort()[0].tolist()
