"""Decoder mode: transformers' numbers, step by step with a cache or at once, and no dropping."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache

from dynbert.errors import InputError, LengthConfigError
from dynbert_export.modeling import BertForMaskedLM, BertLayer, BertLMHeadModel, BertModel
from dynbert_export.modeling import encoder as encoder_module
from tests.exporter.modeling.builders import make_config, make_inputs, make_model, make_transformers_twin

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}
KINDS = [
    {},
    {"add_cross_attention": True},
    {"position_embedding_type": "relative_key"},
    {"position_embedding_type": "relative_key_query", "add_cross_attention": True},
]


def make_decoder(model_class=BertLMHeadModel, **changes):
    return make_model(model_class, is_decoder=True, **changes)


def make_encoder_arguments(model, texts=2):
    """Return the encoder's states and their mask for a model with cross-attention, else nothing."""
    if not model.config.add_cross_attention:
        return {}
    states = torch.randn(texts, 7, 32, generator=torch.Generator().manual_seed(2))
    return {"encoder_hidden_states": states, "encoder_attention_mask": torch.tensor([[1] * 7, [1] * 4 + [0] * 3])}


@pytest.mark.parametrize("changes", KINDS, ids=str)
@torch.no_grad()
def test_decoder_equals_transformers(changes):
    model = make_decoder(**changes)
    arguments = {**make_inputs([9, 6]), **make_encoder_arguments(model)}
    arguments |= {"output_attentions": True, "output_hidden_states": True, "labels": arguments["input_ids"]}
    ours, theirs = model(**arguments), make_transformers_twin(model)(**arguments)
    assert ours.past_key_values is None  # nobody continues a text that has labels
    assert set(theirs) - {"past_key_values"} == set(ours)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], **TOLERANCE)
    assert ("cross_attentions" in ours) == ("add_cross_attention" in changes)


@torch.no_grad()
def test_later_tokens_change_nothing_before_them():
    model = make_decoder(BertModel)
    inputs = make_inputs([9, 9])
    whole = model(**inputs).last_hidden_state
    inputs["input_ids"][:, 5:] = 7
    changed = model(**inputs).last_hidden_state
    torch.testing.assert_close(changed[:, :5], whole[:, :5])
    assert (changed[:, 5:] - whole[:, 5:]).abs().max() > 0.1


@pytest.mark.parametrize("changes", KINDS, ids=str)
@pytest.mark.parametrize("form", ["tuple", "cache", "encoder_decoder_cache"])
@pytest.mark.parametrize("steps", [(4, 1, 1, 3), (1,) * 9])
@torch.no_grad()
def test_cached_steps_equal_the_whole_text(changes, form, steps):
    model = make_decoder(**changes)
    ids = make_inputs([9, 9])["input_ids"]
    encoder_arguments = make_encoder_arguments(model)
    whole = model(ids, **encoder_arguments).logits
    empty = {"tuple": None, "cache": DynamicCache(), "encoder_decoder_cache": None}
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache()) if form == "encoder_decoder_cache" else empty[form]
    start = 0
    for step in steps:
        ids_of_step = ids[:, start : start + step]
        output = model(ids_of_step, past_key_values=cache, use_cache=True, **encoder_arguments)
        torch.testing.assert_close(output.logits, whole[:, start : start + step], **TOLERANCE)
        cache, start = output.past_key_values, start + step
    expected = EncoderDecoderCache if form != "cache" or "add_cross_attention" in changes else DynamicCache
    assert isinstance(cache, tuple if form == "tuple" else expected)
    legacy = cache if form == "tuple" else cache.to_legacy_cache()
    assert [len(layer) for layer in legacy] == [4 if encoder_arguments else 2] * 3
    assert legacy[0][0].shape == (2, 4, 9, 8)


@torch.no_grad()
def test_cache_is_updated_in_place_and_only_where_asked():
    model = make_decoder()
    ids = make_inputs([9, 9])["input_ids"]
    cache = DynamicCache()
    assert model(ids[:, :4], past_key_values=cache, use_cache=True).past_key_values is cache
    assert cache.get_seq_length() == 4
    assert model(ids[:, 4:], past_key_values=cache, use_cache=False).past_key_values is None
    assert cache.get_seq_length() == 4


@torch.no_grad()
def test_cache_position_places_the_tokens():
    model = make_decoder(BertModel)
    ids = make_inputs([3, 3])["input_ids"]
    expected = model(ids, position_ids=torch.arange(20, 23)[None]).last_hidden_state
    placed = model(ids, cache_position=torch.arange(20, 23)).last_hidden_state
    torch.testing.assert_close(placed, expected)
    assert (placed - model(ids).last_hidden_state).abs().max() > 0.1


@torch.no_grad()
def test_mask_of_a_step_counts_the_cached_tokens():
    model = make_decoder()
    inputs = make_inputs([9, 9])
    mask = inputs["attention_mask"]
    mask[1, 2] = 0
    whole = model(inputs["input_ids"], mask).logits
    cache = model(inputs["input_ids"][:, :7], mask[:, :7], use_cache=True).past_key_values
    last = model(inputs["input_ids"][:, 7:], mask, past_key_values=cache).logits
    torch.testing.assert_close(last, whole[:, 7:], **TOLERANCE)
    with pytest.raises(InputError, match=r"attention_mask must be \[2 or 1, 9\]"):
        model(inputs["input_ids"][:, 7:], mask[:, 7:], past_key_values=cache)


@torch.no_grad()
def test_mask_per_query_is_taken_as_it_is():
    model = make_decoder(BertModel)
    inputs = make_inputs([6, 6])
    expected = model(**inputs).last_hidden_state
    inputs["attention_mask"] = torch.ones(6, 6).tril()[None]
    torch.testing.assert_close(model(**inputs).last_hidden_state, expected)


@torch.no_grad()
def test_layer_config_leaves_one_entry_a_layer_run():
    model = make_decoder()
    ids = make_inputs([6, 6])["input_ids"]
    whole = model(ids, layer_config=[0, 2]).logits
    cache = model(ids[:, :5], layer_config=[0, 2], use_cache=True).past_key_values
    assert len(cache) == 2
    last = model(ids[:, 5:], layer_config=[0, 2], past_key_values=cache).logits
    torch.testing.assert_close(last, whole[:, 5:], **TOLERANCE)


@pytest.mark.parametrize("changes", KINDS, ids=str)
@pytest.mark.parametrize("options", [{}, {"num_beams": 3}], ids=["greedy", "beam"])
def test_generate_writes_the_same_with_and_without_cache(changes, options):
    model = make_decoder(**changes)
    ids = make_inputs([5, 3])["input_ids"].flip(1)  # padding on the left, as generate() wants it
    arguments = {
        "attention_mask": (ids > 0).long(), "max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, **options,
        **make_encoder_arguments(model),
    }  # fmt: skip
    cached = model.generate(ids, use_cache=True, **arguments)
    assert cached.tolist() == model.generate(ids, use_cache=False, **arguments).tolist()
    alone = {name: value[1:] if isinstance(value, torch.Tensor) else value for name, value in arguments.items()}
    alone["attention_mask"] = alone["attention_mask"][:, 2:]
    assert model.generate(ids[1:, 2:], **alone)[0].tolist() == cached[1, 2:].tolist()


def test_generate_runs_only_the_new_token_where_there_is_a_cache():
    model = make_decoder()
    sizes = []
    model.bert.embeddings.register_forward_hook(lambda _, __, states: sizes.append(states.shape[1]))
    model.generate(make_inputs([5])["input_ids"], max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert sizes == [5, 1, 1, 1]


def test_prepare_inputs_for_generation_takes_the_cache_by_its_old_name():
    model = make_decoder()
    ids = make_inputs([6])["input_ids"]
    cache = model(ids[:, :5], use_cache=True).past_key_values
    for text in (ids, ids[:, 5:]):  # all of it, or the last token
        prepared = model.prepare_inputs_for_generation(text, past=cache)
        assert prepared["input_ids"].tolist() == ids[:, 5:].tolist()
        assert prepared["attention_mask"].shape == (1, 6)
        assert prepared["position_ids"].tolist() == [[5]]
        assert prepared["past_key_values"] is cache
    assert model.prepare_inputs_for_generation(ids)["input_ids"].tolist() == ids.tolist()


def test_masked_language_model_appends_a_masked_token_to_generate():
    model = make_model(BertForMaskedLM)
    prepared = model.prepare_inputs_for_generation(torch.tensor([[5, 6]]), attention_mask=torch.ones(1, 2))
    assert prepared["input_ids"].tolist() == [[5, 6, 0]]
    assert prepared["attention_mask"].tolist() == [[1, 1, 0]]
    assert model.prepare_inputs_for_generation(torch.tensor([[5]]))["attention_mask"].tolist() == [[1, 0]]
    assert not model.can_generate()
    model.config.pad_token_id = None
    with pytest.raises(InputError, match="pad_token_id must be set"):
        model.prepare_inputs_for_generation(torch.tensor([[5, 6]]))


@pytest.mark.parametrize(("model_class", "is_decoder"), [(BertForMaskedLM, True), (BertLMHeadModel, False)])
def test_head_that_looks_the_wrong_way_is_warned_about(model_class, is_decoder, caplog):
    model_class(make_config(is_decoder=is_decoder))
    assert "config.is_decoder should be" in caplog.text
    caplog.clear()
    model_class(make_config(is_decoder=not is_decoder))
    assert not caplog.text


REFUSAL = "length_config must be None for a decoder, got one. .* is not causal. Set config.is_decoder to False"


def test_decoder_refuses_to_drop_tokens():
    with pytest.raises(LengthConfigError, match=REFUSAL):
        make_decoder(BertModel, length_config="(12, 7, 3)")
    model = make_decoder()
    with pytest.raises(LengthConfigError, match=REFUSAL):
        model.set_length_config((12, 7, 3))
    with pytest.raises(LengthConfigError, match=REFUSAL):
        model(**make_inputs([9]), length_config=(12, 7, 3))
    with pytest.raises(LengthConfigError, match=REFUSAL):
        model.bert.encoder(torch.zeros(1, 9, 32), length_config=(12, 7, 3))
    with pytest.raises(LengthConfigError, match=REFUSAL):
        BertLayer(make_config(is_decoder=True))(torch.zeros(1, 9, 32), output_length=5)
    model.set_length_config(None)
    assert model(**make_inputs([9]), length_config=()).kept_positions is None


@torch.no_grad()
def test_cache_that_does_not_fit_is_refused():
    model = make_decoder(add_cross_attention=True)
    ids = make_inputs([6, 6])["input_ids"]
    cache = model(ids, use_cache=True, **make_encoder_arguments(model)).past_key_values
    with pytest.raises(InputError, match="for each of 3 layers, got 2 layers"):
        model(ids, past_key_values=cache[:2], **make_encoder_arguments(model))
    with pytest.raises(InputError, match=r"got 3 layers with \[3\] tensors"):
        model(ids, past_key_values=[layer[:3] for layer in cache], **make_encoder_arguments(model))
    with pytest.raises(InputError, match="encoder_hidden_states must be given at every step"):
        model(ids, past_key_values=cache)
    static = StaticCache(config=model.config, max_cache_len=9)
    with pytest.raises(InputError, match=r"a DynamicCache or an EncoderDecoderCache .* got StaticCache"):
        model(ids, past_key_values=static, use_cache=True)


def test_cross_attention_that_does_not_exist_is_refused():
    states = torch.zeros(1, 4, 32)
    with pytest.raises(InputError, match=r"decoder without cross-attention, .* Set config.add_cross_attention"):
        make_decoder()(**make_inputs([6]), encoder_hidden_states=states)
    model = make_decoder(add_cross_attention=True)
    with pytest.raises(InputError, match=r"encoder_attention_mask must be \[1 or 1, 4\] or \[1 or 1, 6, 4\]"):
        model(**make_inputs([6]), encoder_hidden_states=states, encoder_attention_mask=torch.ones(1, 5))


@torch.no_grad()
def test_decoder_with_cross_attention_runs_without_an_encoder():
    model = make_decoder(add_cross_attention=True)
    inputs = make_inputs([6])
    output = model(**inputs, use_cache=True, output_attentions=True)
    assert output.cross_attentions is None
    assert [len(layer) for layer in output.past_key_values] == [2, 2, 2]


@pytest.mark.parametrize("options", [None, {"use_reentrant": False}], ids=["reentrant", "not_reentrant"])
def test_gradient_checkpointing_of_a_decoder_gives_the_same_gradients(options, caplog):
    model = make_decoder(add_cross_attention=True).train()
    arguments = {**make_inputs([9, 6]), **make_encoder_arguments(model)}
    arguments["encoder_hidden_states"].requires_grad_()

    def compute_gradients():
        model.zero_grad()
        arguments["encoder_hidden_states"].grad = None
        output = model(**arguments, output_attentions=True)
        output.logits.square().mean().backward()
        gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
        return output, {**gradients, "encoder": arguments["encoder_hidden_states"].grad}

    whole, expected = compute_gradients()
    assert whole.past_key_values is not None
    model.gradient_checkpointing_enable(options)
    encoder_module._warn_once.cache_clear()
    output, gradients = compute_gradients()
    compute_gradients()
    assert output.past_key_values is None
    assert caplog.text.count("incompatible with gradient checkpointing") == 1
    torch.testing.assert_close(output.cross_attentions, whole.cross_attentions, **TOLERANCE)
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, **TOLERANCE)
