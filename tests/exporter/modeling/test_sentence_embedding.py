"""The embedding head: a plain oracle's means, sentence-transformers' where nothing is dropped, and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dynbert.errors import InputError
from dynbert.manifest import Pooling, PoolingMode
from dynbert.tasks.feature_extraction import pool
from dynbert_export.modeling import BertForSentenceEmbedding, BertModel, embed
from dynbert_export.modeling.heads.sentence_embedding import pool_states
from tests.exporter.modeling.builders import make_config, make_inputs, make_model, make_transformers_twin, run_oracle

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
POOLINGS = [Pooling(mode=mode, normalize=normalize) for mode in PoolingMode for normalize in (False, True)]
IDS = [f"{pooling.mode.value}{'-normalised' if pooling.normalize else ''}" for pooling in POOLINGS]
MEAN = Pooling(mode=PoolingMode.MEAN, normalize=False)


@pytest.fixture(scope="module")
def bert():
    return make_model(BertModel)


@pytest.fixture(scope="module")
def twin(bert):
    return make_transformers_twin(bert)


def pool_by_hand(states, mask, kept, pooling):
    """Pool text by text, token by token: ``states`` has dropped tokens put back."""
    rows = []
    for row in range(len(states)):
        real = [position for position in kept[row] if mask[row, position]]
        total = sum(states[row, position].double() for position in real)
        vector = states[row, 0].double() if pooling.mode is PoolingMode.CLS else total / len(real)
        rows.append((vector / vector.square().sum().sqrt() if pooling.normalize else vector).float())
    return torch.stack(rows)


@pytest.mark.parametrize("keep_cls", [True, False])
@pytest.mark.parametrize("lengths", [(12, 7, 3), (16, 16, 3), (9, 9, 9), (2, 2, 2), (1, 1, 1)], ids=str)
@pytest.mark.parametrize("pooling", POOLINGS, ids=IDS)
@torch.no_grad()
def test_embedding_is_of_the_tokens_that_the_last_layer_kept(bert, twin, pooling, lengths, keep_cls):
    inputs = make_inputs([16, 9, 2])
    states, kept = run_oracle(twin, inputs, lengths, always_keep_cls_token=keep_cls)
    expected = pool_by_hand(states, inputs["attention_mask"], [layers[-1] for layers in kept], pooling)
    got = embed(bert, inputs, pooling, length_config=lengths, always_keep_cls_token=keep_cls)
    assert got.std() > 0.01
    torch.testing.assert_close(got, expected, **TOLERANCE)


@pytest.mark.parametrize("lengths", [None, (), (1.0, 1.0, 1.0), (64, 64, 64)], ids=str)
@pytest.mark.parametrize("pooling", POOLINGS, ids=IDS)
@torch.no_grad()
def test_embedding_is_the_runtime_s_where_nothing_is_dropped(bert, pooling, lengths):
    inputs = make_inputs([16, 9, 1])
    states = bert(**inputs).last_hidden_state.numpy()
    expected = pool(states, inputs["attention_mask"].numpy(), pooling)
    np.testing.assert_allclose(embed(bert, inputs, pooling, length_config=lengths).numpy(), expected, atol=1e-6)


@torch.no_grad()
def test_a_mean_is_not_that_of_all_tokens_where_some_are_dropped(bert):
    """A canary: were dropped tokens counted, most of the comparisons above would still be near."""
    inputs = make_inputs([16, 9])
    states = bert(**inputs, length_config=(12, 7, 3)).last_hidden_state.numpy()
    of_all = pool(states, inputs["attention_mask"].numpy(), MEAN)
    assert np.abs(embed(bert, inputs, MEAN, length_config=(12, 7, 3)).numpy() - of_all).max() > 0.1


@pytest.mark.parametrize("lengths", [None, (12, 7, 3), (12, 9, 9)], ids=str)  # the last one keeps padding
@torch.no_grad()
def test_padding_has_no_weight_whatever_is_kept(bert, lengths):
    padded = make_inputs([5], tokens=20)
    alone = {name: tensor[:, :5] for name, tensor in padded.items()}
    expected = embed(bert, alone, MEAN, length_config=lengths)
    torch.testing.assert_close(embed(bert, padded, MEAN, length_config=lengths), expected, **TOLERANCE)


@pytest.mark.parametrize("pooling", POOLINGS, ids=IDS)
@torch.no_grad()
def test_no_mask_is_a_mask_of_ones(bert, pooling):
    inputs = make_inputs([12, 12])
    without = {name: tensor for name, tensor in inputs.items() if name != "attention_mask"}
    for lengths in (None, (9, 5, 4)):
        expected = embed(bert, inputs, pooling, length_config=lengths)
        torch.testing.assert_close(embed(bert, without, pooling, length_config=lengths), expected, **TOLERANCE)


@torch.no_grad()
def test_one_mask_serves_all_texts(bert):
    inputs = make_inputs([9, 9], tokens=12)
    shared = {**inputs, "attention_mask": inputs["attention_mask"][:1]}
    for lengths in (None, (9, 5, 4)):
        expected = embed(bert, inputs, MEAN, length_config=lengths)
        torch.testing.assert_close(embed(bert, shared, MEAN, length_config=lengths), expected, **TOLERANCE)


@pytest.mark.parametrize("pooling", POOLINGS, ids=IDS)
@torch.no_grad()
def test_padding_votes_where_the_config_says_so(pooling):
    """States are then in the order of significance, and so are the positions."""
    model = make_model(BertModel, count_padded_queries=True)
    inputs, lengths = make_inputs([16, 9]), (12, 7, 3)
    states, kept = run_oracle(make_transformers_twin(model), inputs, lengths, count_padded_queries=True)
    expected = pool_by_hand(states, inputs["attention_mask"], [layers[-1] for layers in kept], pooling)
    torch.testing.assert_close(embed(model, inputs, pooling, length_config=lengths), expected, **TOLERANCE)


@pytest.mark.parametrize("pooling", POOLINGS, ids=IDS)
@torch.no_grad()
def test_head_gives_what_the_function_gives(bert, pooling):
    head = BertForSentenceEmbedding(make_config(), pooling).eval()
    head.bert.load_state_dict(bert.state_dict(), strict=False)  # all but the pooler
    inputs = make_inputs([16, 9])
    output = head(**inputs, length_config=(12, 7, 3), output_attentions=True)
    expected = embed(bert, inputs, pooling, length_config=(12, 7, 3))
    torch.testing.assert_close(output.sentence_embedding, expected, rtol=0, atol=0)
    assert set(output) == {"sentence_embedding", "attentions", "kept_positions"}
    assert [positions.shape[1] for positions in output.kept_positions] == [12, 7, 3]
    assert len(head(**inputs, output_hidden_states=True).hidden_states) == 4
    (alone,) = head(**inputs, length_config=(12, 7, 3), return_dict=False)
    torch.testing.assert_close(alone, expected, rtol=0, atol=0)


@torch.no_grad()
def test_a_plain_checkpoint_loads_and_is_written_back(tmp_path, twin):
    twin.save_pretrained(tmp_path / "plain")
    pooling = Pooling(mode=PoolingMode.CLS, normalize=True)
    head = BertForSentenceEmbedding.from_pretrained(tmp_path / "plain", pooling=pooling).eval()
    assert head.pooling == pooling
    assert all(name.startswith("bert.") for name in head.state_dict())
    head.bert.save_pretrained(tmp_path / "again")
    again = BertModel.from_pretrained(tmp_path / "again", add_pooling_layer=False).eval()
    inputs = make_inputs([16, 9])
    torch.testing.assert_close(embed(again, inputs, pooling), head(**inputs).sentence_embedding)


@pytest.mark.parametrize("lengths", [None, (12, 7, 3)], ids=str)
@pytest.mark.parametrize("pooling", POOLINGS, ids=IDS)
def test_everything_learns(pooling, lengths):
    model = make_model(BertModel).train()
    embeddings = embed(model, make_inputs([16, 9]), pooling, length_config=lengths)
    (embeddings * torch.linspace(-1, 1, embeddings.numel()).reshape(embeddings.shape)).sum().backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 1e-7}
    # Softmax takes no notice of what is added to all scores alike; the pooler is not read.
    assert {name for name in without if not name.endswith("key.bias")} == {"pooler.dense.weight", "pooler.dense.bias"}


def test_gradients_are_those_of_numbers():
    """Against differences, in double precision: through the gather, the mean and the norm."""
    model = make_model(BertModel).double()
    inputs, pooling = make_inputs([8, 5]), Pooling(mode=PoolingMode.MEAN, normalize=True)
    weight = model.encoder.layer[2].output.dense.weight  # behind every cut, so that the selection stays
    factors = torch.linspace(-1, 1, 64, dtype=torch.float64).reshape(2, 32)

    def loss():
        return (embed(model, inputs, pooling, length_config=(6, 5, 3)) * factors).sum()

    loss().backward()
    step = 1e-6
    for place in ((0, 0), (7, 11), (31, 47)):
        with torch.no_grad():
            weight[place] += step
            above = loss()
            weight[place] -= 2 * step
            below = loss()
            weight[place] += step
        assert weight.grad[place].item() == pytest.approx(((above - below) / (2 * step)).item(), rel=1e-4)


@torch.no_grad()
def test_half_precision_is_averaged_in_full(bert):
    inputs = make_inputs([16, 9])
    encoded = bert(**inputs, output_hidden_states=True)
    encoded.hidden_states = tuple(states.bfloat16() for states in encoded.hidden_states)
    embedding = pool_states(encoded, inputs["attention_mask"], MEAN)
    assert embedding.dtype == torch.float32
    expected = pool(encoded.hidden_states[-1].float().numpy(), inputs["attention_mask"].numpy(), MEAN)
    np.testing.assert_allclose(embedding.numpy(), expected, atol=1e-6)


@torch.no_grad()
def test_what_has_no_mean_is_refused(bert):
    inputs = make_inputs([16, 9])
    square = {**inputs, "attention_mask": torch.ones(2, 16, 16)}
    with pytest.raises(InputError, match=r"attention_mask must be \[batch or 1, tokens\] for a mean, got 3 dimensions"):
        embed(bert, square, MEAN)
    with pytest.raises(InputError, match="hidden_states must be among the encoder's outputs, got none"):
        pool_states(bert(**inputs), inputs["attention_mask"], MEAN)
    assert embed(bert, square, Pooling(mode=PoolingMode.CLS, normalize=False)).shape == (2, 32)
