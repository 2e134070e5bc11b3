"""Constant shapes: where a Reshape keeps the batch and states the rest, say so by a constant.

The trace reads the batch off the tensor and puts a shape together with four operators. ONNX has a short form for it: a
0 in the shape keeps the input's size. It spares the other rewrites the detour, and the graphs some hundred operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynbert_export.graph.editing import add_initializer, clean, constant_array, producer_of, trace_back

if TYPE_CHECKING:
    import onnx_ir as ir
    from numpy.typing import NDArray

__all__ = ["simplify_reshapes"]


def simplify_reshapes(model: ir.Model) -> ir.Model:
    """Give every Reshape that keeps the first size of its input a constant shape.

    Args:
        model: The traced graph.

    Returns:
        An equal graph.
    """
    simple = model.clone()
    for node in tuple(simple.graph):
        shape = _find_shape(node) if node.op_type == "Reshape" else None
        if shape is not None:
            node.replace_input_with(1, add_initializer(simple.graph, f"{node.name}/shape", shape))
    clean(simple)
    return simple


def _find_shape(reshape: ir.Node) -> NDArray[np.int64] | None:
    """Return ``[0, ...]`` where the shape is the input's first size and constants."""
    concat = producer_of(reshape.inputs[1], "Concat")
    if concat is None or not concat.inputs or _int(reshape, "allowzero"):
        return None
    gather = producer_of(trace_back(concat.inputs[0], "Unsqueeze"), "Gather")
    shape = None if gather is None else producer_of(gather.inputs[0], "Shape")
    index = None if gather is None else constant_array(gather.inputs[1])
    rest = [constant_array(value) for value in concat.inputs[1:]]
    if shape is None or shape.inputs[0] is not reshape.inputs[0] or _int(shape, "start"):
        return None
    if index is None or index.size != 1 or index.item() != 0:
        return None
    if any(array is None or array.size != 1 or array.item() == 0 for array in rest):
        return None
    return np.array([0, *(int(array.item()) for array in rest if array is not None)], dtype=np.int64)


def _int(node: ir.Node, name: str) -> int:
    value = node.attributes.get_int(name)
    return 0 if value is None else value
