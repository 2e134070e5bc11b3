"""Freeze a length config into the anytime graph: the graph of one profile.

The lengths become constants (or a few integer operators on the input's length, for fractions), and a layer that drops
nothing loses its cut: no sorting, no GatherElements, no ScatterElements. What is left computes the same as the
anytime graph with these lengths as its input.

How the traced graph does "drop and restore" (``modeling/dropping.py``, ``TokenTracker``), which is edited here:
layer ``i`` computes ``kept_i``, gathers its states, the mask and the votes by it, and ``positions_i`` =
``positions_(i-1)[kept_i]``. Before layer ``i`` drops, the states that entered it are scattered into the restored ones;
a last scatter puts the final states there. So a model of ``n`` layers has ``n`` ScatterElements in a chain, or none,
where nobody reads the restored states. A mean in the graph weighs the final states by the attention mask, gathered by
the last layer's positions: which tokens are left of all that there were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from dynbert.inputs import LENGTH_CONFIG
from dynbert.lengths import FRACTION_SCALE, LengthConfig
from dynbert_export.errors import ExportError
from dynbert_export.graph.editing import (
    BROADCAST,
    Builder,
    add_initializer,
    clean,
    producer_of,
    replace_value,
    trace_back,
)
from dynbert_export.graph.names import is_kept_positions, kept_positions_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["GraphSpec", "freeze", "hide_kept_positions", "show_kept_positions", "task_outputs"]


@dataclass(frozen=True)
class GraphSpec:
    """What a traced graph was made for."""

    num_layers: int
    """Hidden layers."""
    max_length: int
    """Longest input in tokens; a layer that may keep as many drops nothing."""
    always_keep_cls_token: bool
    """Whether the graph keeps CLS whatever its significance."""


def freeze(model: ir.Model, lengths: LengthConfig | None, spec: GraphSpec) -> ir.Model:
    """Return the graph of one length config.

    Args:
        model: The anytime graph, fp32 or lowered to INT8, with its ``kept_positions.N`` outputs.
        lengths: The config; None drops nothing.
        spec: What the graph was traced for.

    Returns:
        A graph without the ``length_config`` input. Its ``kept_positions.N`` outputs are those of the layers that
        may drop tokens.

    Raises:
        ExportError: If the graph does not have the form described above.
    """
    import onnxscript.optimizer

    frozen = _clone_with_constants(model)
    graph = frozen.graph
    cutting = spec.num_layers - (1 if _has_single_token_layer(graph, spec) else 0)
    drops = _find_drops(lengths, spec)[:cutting]
    kept = [_find_kept(graph, layer) for layer in range(cutting)]
    _shorten_scatters(graph, drops)
    _remove_cuts(graph, kept, drops)
    _freeze_lengths(graph, lengths, spec)
    clean(frozen)
    onnxscript.optimizer.optimize(frozen, num_iterations=1, onnx_shape_inference=False)
    clean(frozen)
    return frozen


def hide_kept_positions(model: ir.Model) -> ir.Model:
    """Return the graph as it is published: without the ``kept_positions.N`` outputs.

    Args:
        model: Any graph of this package.

    Returns:
        The graph with the task's outputs; the positions keep their names inside it.
    """
    hidden = model.clone()
    outputs = hidden.graph.outputs
    outputs[:] = [value for value in outputs if not is_kept_positions(value.name)]
    clean(hidden)
    return hidden


def show_kept_positions(model: ir.Model) -> ir.Model:
    """Return a published graph with its ``kept_positions.N`` as outputs again, for verification.

    Args:
        model: A published graph.

    Returns:
        The graph; layers that drop nothing have no such output.
    """
    shown = model.clone()
    for node in shown.graph:
        for value in node.outputs:
            if is_kept_positions(value.name) and not value.is_graph_output():
                value.type = ir.TensorType(ir.DataType.INT64)
                shown.graph.outputs.append(value)
    return shown


def task_outputs(model: ir.Model) -> tuple[str, ...]:
    """Return the names of the outputs that a task has.

    Args:
        model: Any graph of this package.

    Returns:
        Every output's name but those of ``kept_positions.N``.
    """
    return tuple(value.name or "" for value in model.graph.outputs if not is_kept_positions(value.name))


def _clone_with_constants(model: ir.Model) -> ir.Model:
    """Return a copy that shares no Constant's tensor with the model: the optimiser gives those tensors names."""
    clone = model.clone()
    for node in clone.graph:
        value = node.attributes.get("value")
        if node.op_type == "Constant" and value is not None:
            tensor = value.as_tensor()
            node.attributes["value"] = ir.AttrTensor("value", ir.Tensor(tensor.numpy(), name=tensor.name))
    return clone


def _find_drops(lengths: LengthConfig | None, spec: GraphSpec) -> list[bool]:
    """Return for each layer whether it can drop a token of an input of at most the maximum length."""
    if lengths is None:
        return [False] * spec.num_layers
    everything = 1.0 if lengths.is_fractional else spec.max_length
    before = [everything, *lengths.lengths]
    return [after < min(entering, everything) for entering, after in zip(before, lengths.lengths, strict=False)]


def _has_single_token_layer(graph: ir.Graph, spec: GraphSpec) -> bool:
    """Return whether the last layer runs for one token and cuts nothing, see ``single_token.py``."""
    return kept_positions_name(spec.num_layers - 1) not in {value.name for value in graph.outputs}


def _find_kept(graph: ir.Graph, layer: int) -> ir.Value:
    """Return ``kept_i``: what the layer's positions were gathered by, or, in the first layer, the positions."""
    positions = _find_positions(graph, layer)
    if layer == 0:
        return positions
    gather = producer_of(positions, "GatherElements")
    if gather is None or gather.inputs[1] is None:
        raise _unexpected(f"{kept_positions_name(layer)} must come from GatherElements")
    return gather.inputs[1]


def _find_positions(graph: ir.Graph, layer: int) -> ir.Value:
    name = kept_positions_name(layer)
    for value in graph.outputs:
        if value.name == name:
            return value
    raise _unexpected(f"{name} must be an output")


def _shorten_scatters(graph: ir.Graph, drops: Sequence[bool]) -> None:
    """Keep, of the chain of scatters, those before a layer that drops and the last one."""
    chain = [node for node in graph if node.op_type == "ScatterElements"]
    if not chain:  # the head reads the first token only, or those that are left
        return
    if len(chain) != len(drops):
        raise _unexpected(f"there must be {len(drops)} ScatterElements, one a layer, got {len(chain)}")
    restored: ir.Value | None = None
    if drops[0]:
        restored = chain[0].inputs[0]
    for node, is_wanted in zip(chain, [*drops[1:], True], strict=True):
        updates, output = node.inputs[2], node.outputs[0]
        if updates is None:
            raise _unexpected("ScatterElements must have updates")
        if not is_wanted:
            continue
        if restored is None:  # nothing was dropped so far: every state is current
            replace_value(output, updates)
            restored = updates if node is not chain[-1] else None
        else:
            node.replace_input_with(0, restored)
            restored = output


def _remove_cuts(graph: ir.Graph, kept: Sequence[ir.Value], drops: Sequence[bool]) -> None:
    """Let everything that was gathered by a layer which drops nothing pass, and name what is left of the positions."""
    positions = [_find_positions(graph, layer) for layer in range(len(kept))]
    by_layer, by_position = _group_gathers(graph, kept, positions)
    has_dropped = False
    for layer, is_drop in enumerate(drops):
        value = positions[layer]
        if is_drop and not has_dropped and layer > 0:  # positions among all tokens are the indices themselves
            replace_value(value, kept[layer])
        if not is_drop:
            _drop_output(graph, value)
            _pass_data(node for node in by_layer[layer] if node.outputs[0] is not value or has_dropped)
        has_dropped = has_dropped or is_drop
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
            raise _unexpected(f"{node.name} must gather by a layer's kept tokens, or by the last layer's positions")
    return by_layer, by_position


def _pass_data(gathers: Iterable[ir.Node]) -> None:
    """Let what reads gathered data read all of it."""
    for node in gathers:
        data = node.inputs[0]
        if data is not None:
            node.outputs[0].replace_all_uses_with(data)


def _drop_output(graph: ir.Graph, value: ir.Value) -> None:
    graph.outputs.remove(value)
    value.name = f"{value.name}/removed"


def _freeze_lengths(graph: ir.Graph, lengths: LengthConfig | None, spec: GraphSpec) -> None:
    """Put constants, or what the fractions are of the input's length, where the ``length_config`` input was."""
    length_input = next((value for value in graph.inputs if value.name == LENGTH_CONFIG), None)
    if length_input is None:
        raise _unexpected(f"{LENGTH_CONFIG} must be an input")
    graph.inputs.remove(length_input)
    length_input.name = f"{LENGTH_CONFIG}/removed"
    if lengths is not None and lengths.is_fractional:
        frozen = _resolve_fractions(graph, lengths, always_keep_cls_token=spec.always_keep_cls_token)
    else:
        counts = (1,) * spec.num_layers if lengths is None else lengths.lengths  # without drops nothing reads them
        frozen = add_initializer(graph, LENGTH_CONFIG, np.array(counts, dtype=np.int64))
    length_input.replace_all_uses_with(frozen)


def _resolve_fractions(graph: ir.Graph, lengths: LengthConfig, *, always_keep_cls_token: bool) -> ir.Value:
    """Add ``dynbert.lengths.resolve_fraction`` for every layer at once, in the same integers."""
    millionths = np.array([round(float(x) * FRACTION_SCALE) for x in lengths.lengths], dtype=np.int64)
    build = Builder(graph, LENGTH_CONFIG)
    fractions = build.constant("millionths", millionths)
    scale = build.constant("scale", np.array([FRACTION_SCALE], dtype=np.int64))
    round_up = build.constant("round_up", np.array([FRACTION_SCALE - 1], dtype=np.int64))
    fewest = build.constant("fewest", np.array([2 if always_keep_cls_token else 1], dtype=np.int64))
    tokens = build.add("Shape", graph.inputs[0], start=-1)
    count = build.add("Div", build.add("Add", build.add("Mul", fractions, tokens), round_up), scale)
    resolved = build.add("Max", count, build.add("Min", fewest, tokens))
    graph.insert_before(graph[0], build.nodes)
    return resolved


def _unexpected(rule: str) -> ExportError:
    return ExportError(f"The traced graph must have its known form: {rule}. This is a fault of dynbert; report it.")
