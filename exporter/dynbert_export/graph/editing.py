"""Small steps that several rewrites share.

Why rewrites are loops over nodes with these steps: ``whole_rows`` was written in three ways (onnx-ir 1.1, onnxscript
0.7.2) and run on all-MiniLM-L6-v2, traced and frozen to fractions, 406 nodes, median of five by hand. As it stands: 27
lines of code, 34 ms, of which copying and cleaning take 28. By onnxscript's pattern rewriter: 26 lines, 54 ms; where an
index is shared it finds nothing, and says nothing, unless its rules are told not to remove nodes. By onnx-ir's
``tape``: 29 lines, 29 ms. All three graphs answer the same to the last bit, and only ours names nodes after their
place. Nor would ``passes.Sequential`` shorten ``specialise.py``: it wants a class a pass, and the order there depends
on the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common as common_passes

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

__all__ = [
    "BROADCAST",
    "LAYOUT",
    "Builder",
    "add_initializer",
    "clean",
    "constant_array",
    "from_proto",
    "only_consumer",
    "producer_of",
    "replace_value",
    "trace_back",
]

BROADCAST = ("Unsqueeze", "Expand", "Identity", "Reshape", "Cast")
"""Operators between the kept tokens of a layer and the index of a GatherElements."""
LAYOUT = ("Reshape", "Transpose")
"""Operators that put the same numbers elsewhere."""
_COMPARED_NUMBERS = 2**16
"""Constants with more stand in a graph once; hashing weights again in every step took half of the time of freezing."""


def from_proto(proto: onnx.ModelProto) -> ir.Model:
    """Return a model whose constants are arrays: those of a proto are decoded again whenever they are looked at.

    Args:
        proto: The model.

    Returns:
        The same model.
    """
    model = ir.from_proto(proto)
    for value in model.graph.initializers.values():
        if value.const_value is not None:
            value.const_value = ir.Tensor(value.const_value.numpy(), name=value.name)
    return model


def producer_of(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """Return the node that makes ``value`` where it is one of these operators, else None.

    Args:
        value: Any value, or None for an absent optional input.
        *op_types: Names of operators.

    Returns:
        The node or None.
    """
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type in op_types else None


def only_consumer(value: ir.Value, *op_types: str) -> ir.Node | None:
    """Return the one node that reads ``value`` where it is one of these operators, else None.

    Args:
        value: Any value; a graph output counts as read elsewhere.
        *op_types: Names of operators.

    Returns:
        The node or None.
    """
    uses = value.uses()
    if value.is_graph_output() or len(uses) != 1:
        return None
    node = next(iter(uses)).node
    return node if node.op_type in op_types else None


def trace_back(value: ir.Value | None, *op_types: str) -> ir.Value | None:
    """Return where ``value`` comes from, looking through the first input of these operators.

    Args:
        value: Any value.
        *op_types: Operators that only reshape or copy.

    Returns:
        The first value that another operator makes.
    """
    while (node := producer_of(value, *op_types)) is not None:
        value = node.inputs[0]
    return value


def constant_array(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return the array of an initializer or Constant, or None where the value is no constant.

    Args:
        value: Any value, or None for an absent optional input.

    Returns:
        The array; do not change it.
    """
    if value is None or value.is_graph_input():
        return None
    # Not onnx-ir's get_const_tensor, which gives the tensor a name that clones of the model share.
    constant = producer_of(value, "Constant")
    attribute = None if constant is None else constant.attributes.get("value")
    tensor = value.const_value if attribute is None else attribute.as_tensor()
    return None if tensor is None else tensor.numpy()


def add_initializer(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """Register a constant under a name that the graph does not have yet.

    Args:
        graph: The graph.
        name: Wanted name; a number is appended where it is taken.
        array: Its value.

    Returns:
        The new value.
    """
    free, number = name, 0
    while free in graph.initializers:
        number += 1
        free = f"{name}_{number}"
    tensor = ir.Tensor(np.asarray(array, order="C"), name=free)  # ascontiguousarray makes scalars rows
    value = ir.Value(name=free, const_value=tensor, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype))
    graph.register_initializer(value)
    return value


class Builder:
    """Makes the new nodes of one place in a graph, and names them after it: ``SCOPE/OPERATOR``."""

    def __init__(self, graph: ir.Graph, scope: str) -> None:
        self.graph = graph
        self.scope = scope
        self.nodes: list[ir.Node] = []
        """In the order in which they were made; in no graph until they are inserted."""

    def add(
        self, op_type: str, *inputs: ir.Value | None, name: str | None = None, domain: str = "", **attributes: Any
    ) -> ir.Value:
        """Make a node with one output.

        Args:
            op_type: Its operator.
            *inputs: What it reads; None for an absent optional input.
            name: Its name; None for the scope's and the operator's, with a number where that was given before.
            domain: Of the operator.
            **attributes: Its attributes.

        Returns:
            Its output.
        """
        if name is None:
            before = sum(node.op_type == op_type for node in self.nodes)
            name = f"{self.scope}/{op_type}" + (f"_{before}" if before else "")
        node = ir.node(op_type, inputs, domain=domain, attributes=attributes, name=name)
        node.outputs[0].name = f"{name}_output"
        self.nodes.append(node)
        return node.outputs[0]

    def like(self, node: ir.Node, *inputs: ir.Value | None) -> ir.Value:
        """Make a node that does to its inputs what another one does to its own.

        Args:
            node: Whose operator and attributes to take.
            *inputs: What to read.

        Returns:
            Its output.
        """
        attributes: dict[str, Any] = dict(node.attributes)
        return self.add(node.op_type, *inputs, domain=node.domain, **attributes)

    def first(self, value: ir.Value | None, *, axis: int) -> ir.Value:
        """Make the cut that keeps the first of an axis.

        Args:
            value: What to cut.
            axis: Whose size becomes 1.

        Returns:
            The node's output.
        """
        bounds = (("start", 0), ("end", 1), ("axis", axis))
        return self.add("Slice", value, *(self.constant(name, np.array([x], np.int64)) for name, x in bounds))

    def constant(self, name: str, array: NDArray[np.generic] | np.generic) -> ir.Value:
        """Register a constant of the graph.

        Args:
            name: What stands behind the scope in its name.
            array: Its value.

        Returns:
            The new value.
        """
        return add_initializer(self.graph, f"{self.scope}/{name}", np.asarray(array))


def replace_value(value: ir.Value, replacement: ir.Value) -> None:
    """Let everything that reads ``value`` read ``replacement``; a graph output keeps its name, type and shape.

    Args:
        value: Afterwards unused, under another name where it was a graph output.
        replacement: Takes its place.
    """
    replacement.type = replacement.type or value.type
    replacement.shape = value.shape if replacement.shape is None else replacement.shape
    is_output, name = value.is_graph_output(), value.name
    value.replace_all_uses_with(replacement, replace_graph_outputs=True)
    if is_output:
        value.name, replacement.name = f"{name}/replaced", name


def clean(model: ir.Model) -> None:
    """Sort the graph and remove, in place, what nothing uses and what stands there twice, but for large constants.

    Args:
        model: The model to tidy.
    """
    _make_contiguous(model)
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.DeduplicateHashedInitializersPass(size_limit=_COMPARED_NUMBERS)(model)
    common_passes.CommonSubexpressionEliminationPass()(model)
    common_passes.RemoveUnusedNodesPass()(model)
    common_passes.TopologicalSortPass()(model)


def _make_contiguous(model: ir.Model) -> None:
    """Copy constants that are views, such as folded transpositions: onnx-ir hashes contiguous arrays only."""
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if isinstance(tensor, ir.Tensor) and not tensor.numpy().flags.c_contiguous:
            value.const_value = ir.Tensor(np.ascontiguousarray(tensor.numpy()), name=tensor.name)
