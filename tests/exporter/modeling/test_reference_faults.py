"""What the reference gets wrong, and the test that shows ours right or refusing with a clear error.

The list is that of the faults found by running Intel's ``modeling_bert_dynamic.py`` (Intel Extension for Transformers
1.4.2). Those of its search and its distillation are no part of the model and stand with the code that replaces them.
"""

from __future__ import annotations

import importlib

import pytest

# The fault, and MODULE.TEST without the test_ that both begin with.
CRASHES = {
    "a text shorter than a length": "dropping.inputs_shorter_than_a_length_drop_nothing_until_they_must",
    "lengths that increase, or too few": "dropping.faulty_length_config_is_refused_wherever_it_is_given",
    "lengths without output_attentions": "dropping.length_config_needs_no_attentions_and_returns_them_where_asked",
    "None or 0 among the lengths": "dropping.faulty_length_config_is_refused_wherever_it_is_given",
    "fractions": "dropping.fractions_are_those_of_the_input_length",
    "numpy numbers and tensors": "dropping.every_form_of_length_config_is_accepted",
    "config.length_config as a list or None": "full_model.length_config_of_a_saved_config_is_used",
    "a chunked feed-forward": "training.chunked_feed_forward_gives_the_same_states_for_any_length",
    "a mask of batch 1 for a batch of 2": "dropping.mask_of_batch_one_serves_every_text",
    "a decoder that drops": "decoder.decoder_refuses_to_drop_tokens",
    "length_config on five of the heads": "heads.head_drops_as_the_model_inside",
    "save_pretrained with tied weights": "full_model.tied_weights_are_saved_once_and_tied_again",
    "generate()": "decoder.generate_writes_the_same_with_and_without_cache",
    "checkpointing with unequal lengths": "training.gradient_checkpointing_gives_the_same_gradients",
    "a graph run on a shorter text": "trace.graph_equals_eager",
}
SILENT_ERRORS = {
    "checkpointing cuts the graph": "training.gradient_checkpointing_of_every_head_gives_the_same_gradients",
    "attentions are None with lengths": "dropping.length_config_needs_no_attentions_and_returns_them_where_asked",
    "config.output_attentions is ignored": "dropping.config_output_attentions_is_heeded",
    "config.json is evaluated": "full_model.config_with_a_length_config_is_never_evaluated",
    "hidden_states has an entry too many": "dropping.hidden_states_have_one_entry_for_the_embeddings_and_one_a_layer",
    "relative positions follow the cut": "dropping.relative_positions_are_those_of_the_text_after_a_cut",
    "padding changes what is kept": "dropping.padding_changes_neither_what_is_kept_nor_its_states",
    "a decoder that drops is not causal": "decoder.decoder_refuses_to_drop_tokens",
    "lengths cannot be switched off": "dropping.forward_overrides_what_is_set_and_what_is_set_can_be_switched_off",
    "next sentence prediction swallows lengths": "heads.next_sentence_head_takes_its_old_label_and_swallows_nothing",
    "graph and model break ties otherwise": "trace.tied_padding_stays_alike_in_graph_and_eager",
}


@pytest.mark.parametrize("test", [*CRASHES.values(), *SILENT_ERRORS.values()])
def test_fault_has_a_test(test):
    module, _, name = test.partition(".")
    assert callable(getattr(importlib.import_module(f"tests.exporter.modeling.test_{module}"), f"test_{name}"))
