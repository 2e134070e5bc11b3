"""Put dropped tokens back by whole rows: ScatterND in place of ScatterElements.

The trace scatters numbers one by one, each by an index of its own, as PyTorch does. The index is the same along a row,
and ScatterND copies rows at once: with ``(batch, token)`` for each row it gives the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from dynbert_export.graph.editing import add_initializer, clean, producer_of, replace_value

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["scatter_rows"]


def scatter_rows(model: ir.Model) -> ir.Model:
    """Scatter by rows wherever one index is spread over a row.

    Args:
        model: A graph that will not be frozen any more.

    Returns:
        An equal graph.
    """
    by_rows = model.clone()
    graph = by_rows.graph
    for node in tuple(graph):
        if node.op_type != "ScatterElements" or node.attributes.get_int("axis") != 1:
            continue
        spread = producer_of(node.inputs[1], "Expand")
        if spread is not None and producer_of(spread.inputs[0], "Unsqueeze") is not None:
            replace_value(node.outputs[0], _scatter(graph, node, spread.inputs[0]))
    clean(by_rows)
    return by_rows


def _scatter(graph: ir.Graph, node: ir.Node, positions: ir.Value | None) -> ir.Value:
    """Add the scatter of rows; ``positions`` is int64 ``[batch, rows, 1]``."""

    def add(op_type: str, inputs: Sequence[ir.Value | None], **attributes: int) -> ir.Value:
        added = ir.node(op_type, inputs, attributes=attributes, name=f"{node.name}/{op_type}")
        added.outputs[0].name = f"{added.name}_output"
        graph.append(added)
        return added.outputs[0]

    zero = add_initializer(graph, "rows/zero", np.array(0, dtype=np.int64))
    one = add_initializer(graph, "rows/one", np.array(1, dtype=np.int64))
    last_axes = add_initializer(graph, "rows/last_axes", np.array([1, 2], dtype=np.int64))
    shape = add("Shape", [positions])
    numbers = add("Range", [zero, add("Gather", [shape, zero], axis=0), one])
    batch = add("Expand", [add("Unsqueeze", [numbers, last_axes]), shape])
    return add("ScatterND", [node.inputs[0], add("Concat", [batch, positions], axis=2), node.inputs[2]])
