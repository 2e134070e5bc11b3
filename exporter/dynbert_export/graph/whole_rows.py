"""Drop tokens and put them back by whole rows: GatherND and ScatterND in place of GatherElements and ScatterElements.

The trace gathers and scatters a state number by number, each by an index of its own, as PyTorch does. The index is the
same along a row, and GatherND and ScatterND copy rows at once: they need the token alone and give the same, to the
last bit. What selects stays as it was traced: the mask and the positions are gathered element by element.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynbert_export.graph.editing import Builder, clean, producer_of, replace_value

if TYPE_CHECKING:
    import onnx_ir as ir

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
            build = Builder(graph, node.name or node.op_type)
            moved = _MOVES[node.op_type](build, node, spread.inputs[0])
            graph.insert_before(node, build.nodes)
            replace_value(node.outputs[0], moved)
    clean(by_rows)
    return by_rows


def _gather(build: Builder, node: ir.Node, positions: ir.Value | None) -> ir.Value:
    """Add the gathering of rows; ``positions`` is int64 ``[batch, rows, 1]``."""
    return build.add("GatherND", node.inputs[0], positions, batch_dims=1)


def _scatter(build: Builder, node: ir.Node, positions: ir.Value | None) -> ir.Value:
    """Add the scatter of rows; ScatterND knows no batches, so each row gets ``(batch, token)``."""
    zero, one = build.constant("zero", np.int64(0)), build.constant("one", np.int64(1))
    last_axes = build.constant("last_axes", np.array([1, 2], dtype=np.int64))
    shape = build.add("Shape", positions)
    numbers = build.add("Range", zero, build.add("Gather", shape, zero, axis=0), one)
    batch = build.add("Expand", build.add("Unsqueeze", numbers, last_axes), shape)
    rows = build.add("Concat", batch, positions, axis=2)
    return build.add("ScatterND", node.inputs[0], rows, node.inputs[2])


_MOVES = {"GatherElements": _gather, "ScatterElements": _scatter}
