"""Names of kept positions: made and read by one module, and taken for nothing else."""

from __future__ import annotations

import pytest

from dynbert_export.graph.names import is_kept_positions, kept_positions_layer, kept_positions_name, names_in_layers


@pytest.mark.parametrize("layer", [0, 1, 9, 10, 123])
def test_a_name_gives_its_layer_back(layer):
    assert kept_positions_layer(kept_positions_name(layer)) == layer
    assert is_kept_positions(kept_positions_name(layer))


def test_names_are_those_that_published_graphs_have():
    assert kept_positions_name(3) == "kept_positions.3"


@pytest.mark.parametrize(
    "name",
    [None, "", "logits", "3", "kept_positions", "kept_positions.", "kept_positions.x", "kept_positions.1/removed"],
)
def test_other_names_are_no_kept_positions(name):
    assert kept_positions_layer(name) is None
    assert not is_kept_positions(name)


def test_every_kept_positions_output_of_a_traced_graph_is_known(traced):
    layers = [kept_positions_layer(value.name) for value in traced.graph.graph.outputs]
    assert [layer for layer in layers if layer is not None] == list(range(traced.spec.num_layers))


def test_names_in_layers_are_those_of_their_modules():
    names = ["/model/bert/encoder/layer.1/output/dense/MatMul", "/model/encoder/layer.11/output/dense/MatMul"]
    others = ["/model/cls/predictions/decoder/MatMul", "/model/bert/embeddings/LayerNorm/LayerNormalization"]
    assert names_in_layers([*names, *others], (1,)) == (names[0],)
    assert names_in_layers([*others, *reversed(names)], (1, 11)) == (names[1], names[0])
    assert names_in_layers(names, None) == tuple(names)
