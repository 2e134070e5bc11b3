"""The cuts of an anytime graph: what each layer drops tokens by, and how a layer loses its cut.

How the traced graph does "drop and restore" (``modeling/dropping.py``, ``TokenTracker``), which is edited here:
layer ``i`` computes ``kept_i``, gathers its states, the mask and the votes by it, and ``positions_i`` =
``positions_(i-1)[kept_i]``. Before layer ``i`` drops, the states that entered it are scattered into the restored ones;
a last scatter puts the final states there. So a model of ``n`` layers has ``n`` ScatterElements in a chain, or none,
where nobody reads the restored states. A mean in the graph weighs the final states by the attention mask, gathered by
the last layer's positions: which tokens are left of all that there were. Relative position embeddings read the
positions too.

``freeze.py`` takes the cuts away that drop nothing, ``leave_out.py`` those of layers that do not run. "First", "before"
and "last" are among the layers that run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynbert_export.errors import ExportError
from dynbert_export.graph.editing import BROADCAST, Builder, producer_of, replace_value, trace_back
from dynbert_export.graph.names import kept_positions_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx_ir as ir

__all__ = ["list_cutting_layers", "remove_cuts", "unexpected"]


def list_cutting_layers(graph: ir.Graph, running: Sequence[int]) -> tuple[int, ...]:
    """Return the layers that cut: all, or all but a last one that runs for one token (``single_token.py``).

    Args:
        graph: An anytime graph, with its ``kept_positions.N`` outputs.
        running: Its layers, ascending.

    Returns:
        Their indices.
    """
    is_cutting = kept_positions_name(running[-1]) in {value.name for value in graph.outputs}
    return tuple(running if is_cutting else running[:-1])


def remove_cuts(graph: ir.Graph, layers: Sequence[int], stays: Sequence[bool]) -> None:
    """Take layers' cuts away, in place: nothing is dropped there, and nothing put back.

    Args:
        graph: An anytime graph, with its ``kept_positions.N`` outputs; those of layers that lose their cut go. To be
            cleaned.
        layers: The layers that cut, ascending.
        stays: For each of them, whether its cut stays.

    Raises:
        ExportError: If the graph does not have the form described above.
    """
    kept = [_find_kept(graph, layer, is_first=layer == layers[0]) for layer in layers]
    positions = [_find_positions(graph, layer) for layer in layers]
    _shorten_scatters(graph, stays)
    _pass_cuts(graph, kept, positions, stays)


def unexpected(rule: str) -> ExportError:
    """Return the error of a graph that this package cannot have made.

    Args:
        rule: What holds for every traced graph.

    Returns:
        The error.
    """
    return ExportError(f"The traced graph must have its known form: {rule}. This is a fault of dynbert; report it.")


def _find_kept(graph: ir.Graph, layer: int, *, is_first: bool) -> ir.Value:
    """Return ``kept_i``: what the layer's positions were gathered by, or, in the first layer, the positions."""
    positions = _find_positions(graph, layer)
    if is_first:
        return positions
    gather = producer_of(positions, "GatherElements")
    if gather is None or gather.inputs[1] is None:
        raise unexpected(f"{kept_positions_name(layer)} must come from GatherElements")
    return gather.inputs[1]


def _find_positions(graph: ir.Graph, layer: int) -> ir.Value:
    name = kept_positions_name(layer)
    for value in graph.outputs:
        if value.name == name:
            return value
    raise unexpected(f"{name} must be an output")


def _shorten_scatters(graph: ir.Graph, stays: Sequence[bool]) -> None:
    """Keep, of the chain of scatters, those before a layer that drops and the last one."""
    chain = [node for node in graph if node.op_type == "ScatterElements"]
    if not chain:  # the head reads the first token only, or those that are left
        return
    if len(chain) != len(stays):
        raise unexpected(f"there must be {len(stays)} ScatterElements, one a layer, got {len(chain)}")
    restored: ir.Value | None = None
    if stays[0]:
        restored = chain[0].inputs[0]
    for node, is_wanted in zip(chain, [*stays[1:], True], strict=True):
        updates, output = node.inputs[2], node.outputs[0]
        if updates is None:
            raise unexpected("ScatterElements must have updates")
        if not is_wanted:
            continue
        if restored is None:  # nothing was dropped so far: every state is current
            replace_value(output, updates)
            restored = updates if node is not chain[-1] else None
        else:
            node.replace_input_with(0, restored)
            restored = output


def _pass_cuts(graph: ir.Graph, kept: Sequence[ir.Value], positions: Sequence[ir.Value], stays: Sequence[bool]) -> None:
    """Let everything that was gathered by a layer which drops nothing pass, and name what is left of the positions."""
    by_layer, by_position = _group_gathers(graph, kept, positions)
    has_dropped = False
    for index, (value, is_cut) in enumerate(zip(positions, stays, strict=True)):
        if is_cut and not has_dropped and index > 0:  # positions among all tokens are the indices themselves
            replace_value(value, kept[index])
        if not is_cut:
            _drop_output(graph, value)
            _pass_data(node for node in by_layer[index] if node.outputs[0] is not value or has_dropped)
        if not is_cut and not has_dropped:  # relative position embeddings may read them
            _read_all_positions(graph, value)
        has_dropped = has_dropped or is_cut
    if not has_dropped:
        _pass_data(by_position)


def _group_gathers(
    graph: ir.Graph, kept: Sequence[ir.Value], positions: Sequence[ir.Value]
) -> tuple[list[list[ir.Node]], list[ir.Node]]:
    """Return the nodes that gather by each layer's kept tokens, and those that gather by the last one's positions."""
    by_layer: list[list[ir.Node]] = [[] for _ in kept]
    by_position: list[ir.Node] = []
    for node in [node for node in graph if node.op_type == "GatherElements"]:
        source = trace_back(node.inputs[1], *BROADCAST)
        layer = next((index for index, value in enumerate(kept) if value is source), None)
        if layer is not None:
            by_layer[layer].append(node)
        elif positions and source is positions[-1]:
            by_position.append(node)
        else:
            raise unexpected(f"{node.name} must gather by a layer's kept tokens, or by the last layer's positions")
    return by_layer, by_position


def _pass_data(gathers: Iterable[ir.Node]) -> None:
    """Let what reads gathered data read all of it."""
    for node in gathers:
        data = node.inputs[0]
        if data is not None:
            node.outputs[0].replace_all_uses_with(data)


def _read_all_positions(graph: ir.Graph, positions: ir.Value) -> None:
    """Let what reads the positions after a layer, nothing dropped so far, read those of all tokens: ``[1, tokens]``."""
    readers = [use for use in positions.uses() if use.node.op_type != "GatherElements"]
    if not readers:
        return
    build = Builder(graph, f"{positions.name}/all")
    zero, one = build.constant("zero", np.int64(0)), build.constant("one", np.int64(1))
    first_axis = build.constant("first_axis", np.array([0], np.int64))
    tokens = build.add("Squeeze", build.add("Shape", graph.inputs[0], start=-1))
    everything = build.add("Unsqueeze", build.add("Range", zero, tokens, one), first_axis)
    graph.insert_before(graph[0], build.nodes)
    for reader in readers:
        reader.node.replace_input_with(reader.idx, everything)


def _drop_output(graph: ir.Graph, value: ir.Value) -> None:
    graph.outputs.remove(value)
    value.name = f"{value.name}/removed"
