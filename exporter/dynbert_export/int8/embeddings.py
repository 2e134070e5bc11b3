"""Embedding tables in INT8: four times smaller files.

``Gather(table, ids)`` over fp32 ``[rows, hidden]`` becomes ``Cast(Gather(table_s8, ids)) * Gather(scales, ids)``: s8
numbers, symmetric, and one fp32 scale a row, so that a rare word with large numbers costs no other word a digit. A
value is off by half its row's scale at most. Only the rows that a text has are ever made float: looking up comes
first, so there is nothing constant that onnxruntime could fold back into a float table when it opens the graph
(DequantizeLinear before Gather would be).

A table is rewritten where that saves a share of the graph's constants that is worth a rounding error:
``LEAST_SAVING``. The words are half of an INT8 BERT. Positions are 512 rows and token types two: one per cent of it
together, for an error in every token of every text, so they stay as they are.

A table that something else reads too stays as well: its reader wants floats. So does one whose numbers stand in the
graph once more, transposed, for a product: the decoder of a masked language model, which is to share one float table
with the lookup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from dynbert_export.graph.editing import Builder, add_initializer, clean, constant_array, replace_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["LEAST_SAVING", "quantize_embeddings"]

LEAST_SAVING = 0.05
"""Least part of the graph's constants that a table's rewriting must save, in bytes."""
_LARGEST = 127
"""Of a symmetric s8."""
_SAVED = 0.75
"""Of an fp32 table; the scales are next to nothing."""


def quantize_embeddings(model: ir.Model, *, least_saving: float = LEAST_SAVING) -> ir.Model:
    """Return a graph whose large embedding tables are INT8.

    Args:
        model: The anytime graph, lowered or fp32; not changed.
        least_saving: Least share of the constants' bytes to save by one table, in [0, 1].

    Returns:
        The graph; equal but for a rounding error of at most half a row's scale.
    """
    quantized = model.clone()
    constants = [value.const_value for value in quantized.graph.initializers.values()]
    total = sum(constant.nbytes for constant in constants if constant is not None)
    for table in tuple(quantized.graph.initializers.values()):
        readers = _lookups(table)
        array = constant_array(table)
        if readers and array is not None and _SAVED * array.nbytes >= least_saving * total:
            _rewrite(quantized.graph, table, array.astype(np.float32), readers)
    clean(quantized)
    return quantized


def quantize_rows(table: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise each row by its largest number.

    Args:
        table: float32 ``[rows, hidden]``.

    Returns:
        s8 ``[rows, hidden]`` and float32 ``[rows, 1]``: their product is off by at most half the scale.
    """
    largest = np.abs(table).max(axis=1, keepdims=True)
    # A row of zeros, as padding's may be, takes any scale; one next to nothing must not underflow to zero.
    scales = np.maximum(largest / _LARGEST, np.finfo(np.float32).tiny).astype(np.float32)
    return np.clip(np.rint(table / scales), -_LARGEST, _LARGEST).astype(np.int8), scales


def _lookups(table: ir.Value) -> list[ir.Node]:
    """Return the Gathers of a float matrix's rows; none where anything else reads it, or a transposed copy of it."""
    if table.dtype is not ir.DataType.FLOAT or table.shape is None or len(table.shape) != 2 or table.is_graph_output():
        return []
    uses = table.uses()
    readers = [use.node for use in uses if _is_lookup(use.node) and use.idx == 0]
    return readers if len(readers) == len(uses) and not _has_transposed_copy(table) else []


def _has_transposed_copy(table: ir.Value) -> bool:
    """Return whether a constant of the table's graph is the table transposed."""
    array = constant_array(table)
    others = () if table.graph is None or array is None else table.graph.initializers.values()
    return array is not None and any(
        other is not table
        and other.dtype is table.dtype
        and other.shape is not None
        and tuple(other.shape) == array.shape[::-1]
        and np.array_equal(array.T, constant_array(other))  # type: ignore[arg-type]
        for other in others
    )


def _is_lookup(node: ir.Node) -> bool:
    axis = node.attributes.get("axis")
    return node.op_type == "Gather" and constant_array(node.inputs[1]) is None and (axis is None or axis.as_int() == 0)


def _rewrite(graph: ir.Graph, table: ir.Value, array: NDArray[np.float32], readers: list[ir.Node]) -> None:
    numbers, scales = quantize_rows(array)
    numbers_value = add_initializer(graph, f"{table.name}/int8", numbers)
    scales_value = add_initializer(graph, f"{table.name}/scales", scales)
    for reader in readers:
        ids, looked_up = reader.inputs[1], reader.outputs[0]
        build = Builder(graph, f"{reader.name or looked_up.name}/int8")
        rows = build.add("Gather", numbers_value, ids)
        row_scales = build.add("Gather", scales_value, ids)
        product = build.add("Mul", build.add("Cast", rows, to=ir.DataType.FLOAT), row_scales)
        graph.insert_after(reader, build.nodes)
        replace_value(looked_up, product)
