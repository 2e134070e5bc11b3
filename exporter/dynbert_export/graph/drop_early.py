"""Drop early: cut before the attention's output projection, not after it.

The trace cuts where the reference does, behind the LayerNormalization that ends a layer's attention. What lies between
the attention's context and that point (projection, bias, residual, LayerNormalization) works on each token by itself,
so cutting the context and the residual instead gives the same and leaves the dropped tokens out of all of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert_export.graph.attention import match_dense
from dynbert_export.graph.editing import Builder, clean, only_consumer, producer_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx_ir as ir

__all__ = ["drop_early"]


def drop_early(model: ir.Model) -> ir.Model:
    """Move every cut of a layer's states in front of its attention's output projection.

    Args:
        model: The traced fp32 graph.

    Returns:
        An equal graph. A cut that does not have the traced form stays where it is.
    """
    moved = model.clone()
    for node in tuple(moved.graph):
        if node.op_type == "GatherElements":
            _move(moved.graph, node)
    clean(moved)
    return moved


def _move(graph: ir.Graph, cut: ir.Node) -> None:
    norm = producer_of(cut.inputs[0], "LayerNormalization")
    if norm is None or only_consumer(norm.outputs[0], "GatherElements") is not cut:
        return
    residual_add = producer_of(norm.inputs[0], "Add")
    found = None if residual_add is None else next(_projections(residual_add), None)
    if residual_add is None or found is None:
        return
    product, residual_index = found
    for reader, place in ((product, 0), (residual_add, residual_index)):
        build = Builder(graph, f"{reader.name}/cut")
        reader.replace_input_with(place, build.like(cut, reader.inputs[place], cut.inputs[1]))
        graph.insert_before(product, build.nodes)
    cut.outputs[0].replace_all_uses_with(norm.outputs[0])


def _projections(residual_add: ir.Node) -> Iterator[tuple[ir.Node, int]]:
    """Yield the product of a projection that one input is, and the residual's place: the other one.

    Only a square projection: the cut's index is as wide as the states.
    """
    for place, value in enumerate(residual_add.inputs):
        dense = match_dense(value)
        if dense is None or only_consumer(dense.bias_add.outputs[0], "Add") is not residual_add:
            continue
        if dense.weight.shape[0] == dense.weight.shape[1]:
            yield dense.product, 1 - place
