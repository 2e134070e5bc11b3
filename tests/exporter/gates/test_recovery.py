"""The search for the fewest products to put back always ends, with a number that held; what is left must be INT8."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import pytest

from dynbert.manifest import Precision, Target
from dynbert_export.errors import GateError
from dynbert_export.gates.recovery import Int8Maker, find_fewest
from dynbert_export.graph.names import names_in_layers
from dynbert_export.graph.specialise import write_graphs
from dynbert_export.int8.choose import Quantized
from dynbert_export.int8.lower import lower
from dynbert_export.int8.neural_compressor import quantizable_nodes
from dynbert_export.variants import GraphSet, Variant


@pytest.mark.parametrize("most", [1, 2, 3, 7, 8, 18])
def test_find_fewest_finds_the_fewest_within_the_limit(most):
    for needed in range(1, most + 4):
        asked = []

        def holds(count, needed=needed, asked=asked):
            asked.append(count)
            return count >= needed

        found = find_fewest(holds, most=most)
        assert found == (needed if needed <= most else None)
        assert max(asked) <= most
        assert min(asked) >= 1
        assert len(asked) == len(set(asked)) <= 2 * most.bit_length() + 1


def test_find_fewest_asks_nothing_where_nothing_is_allowed():
    assert find_fewest(lambda count: pytest.fail(f"asked {count}"), most=0) is None


def test_find_fewest_ends_with_a_number_that_held_even_where_more_may_hold_less():
    answers = {1: False, 2: False, 4: True, 3: False}
    assert find_fewest(answers.__getitem__, most=4) == 4


def test_a_profile_is_asked_for_the_products_of_its_layers(quantized, traced_embedder, tmp_path):
    graph_set = GraphSet(Precision.INT8, Target.AVX2, "int8")
    variants = (Variant("full", None), Variant("short", None, layers=(0,)))
    specialise = partial(
        write_graphs, variants=variants, folder=tmp_path, graph_set=graph_set, spec=traced_embedder.spec
    )
    made = Quantized(lower(quantized.qdq), quantized.folded)
    maker = Int8Maker(graph_set, made, specialise, SimpleNamespace(variants=variants), {})
    maker.check_products(maker.write())
    first = names_in_layers(quantizable_nodes(quantized.folded), (0,))
    second = names_in_layers(quantizable_nodes(quantized.folded), (1,))
    assert len(first) == len(second) == 6
    maker.check_products(maker.write((first[0], *second)), (first[0], *second))
    with pytest.raises(GateError, match=r"full\.int8\.onnx must run 18 products as INT8, got: 11 INT8 products\."):
        maker.check_products(maker.write((first[0], *second)))
    with pytest.raises(
        GateError, match=r"short\.int8\.onnx must have at least one INT8 product, got none: those of its"
    ):
        maker.check_products(maker.write(first), first)
