"""Drop tokens and put them back by whole rows: GatherND and ScatterND in place of GatherElements and ScatterElements.

The trace gathers and scatters a state number by number, each by an index of its own, as PyTorch does. The index is the
same along a row, and GatherND and ScatterND copy rows at once: they need the token alone and give the same, to the
last bit. What selects stays as it was traced: the mask and the positions are gathered element by element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from dynbert_export.graph.editing import add_initializer, clean, producer_of, replace_value

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["move_whole_rows"]


def move_whole_rows(model: ir.Model) -> ir.Model:
    """Gather and scatter by rows wherever one index is spread over a row.

    Args:
        model: A graph that will not be frozen any more.

    Returns:
        An equal graph.
    """
    by_rows = model.clone()
    graph = by_rows.graph
    for node in tuple(graph):
        if node.op_type not in _MOVES or node.attributes.get_int("axis", 0) != 1:
            continue
        spread = producer_of(node.inputs[1], "Expand")
        if spread is not None and producer_of(spread.inputs[0], "Unsqueeze") is not None:
            replace_value(node.outputs[0], _MOVES[node.op_type](graph, node, spread.inputs[0]))
    clean(by_rows)
    return by_rows


def _gather(graph: ir.Graph, node: ir.Node, positions: ir.Value | None) -> ir.Value:
    """Add the gathering of rows; ``positions`` is int64 ``[batch, rows, 1]``."""
    return _add(graph, node, "GatherND", [node.inputs[0], positions], batch_dims=1)


def _scatter(graph: ir.Graph, node: ir.Node, positions: ir.Value | None) -> ir.Value:
    """Add the scatter of rows; ScatterND knows no batches, so each row gets ``(batch, token)``."""
    zero = add_initializer(graph, "rows/zero", np.array(0, dtype=np.int64))
    one = add_initializer(graph, "rows/one", np.array(1, dtype=np.int64))
    last_axes = add_initializer(graph, "rows/last_axes", np.array([1, 2], dtype=np.int64))
    shape = _add(graph, node, "Shape", [positions])
    numbers = _add(graph, node, "Range", [zero, _add(graph, node, "Gather", [shape, zero], axis=0), one])
    batch = _add(graph, node, "Expand", [_add(graph, node, "Unsqueeze", [numbers, last_axes]), shape])
    rows = _add(graph, node, "Concat", [batch, positions], axis=2)
    return _add(graph, node, "ScatterND", [node.inputs[0], rows, node.inputs[2]])


def _add(
    graph: ir.Graph, node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any
) -> ir.Value:
    """Add a node named after the one that it is for, and return its output; ``clean`` puts it in its place."""
    added = ir.node(op_type, inputs, attributes=attributes, name=f"{node.name}/{op_type}")
    added.outputs[0].name = f"{added.name}_output"
    graph.append(added)
    return added.outputs[0]


_MOVES = {"GatherElements": _gather, "ScatterElements": _scatter}
