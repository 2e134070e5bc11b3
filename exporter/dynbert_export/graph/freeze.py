"""Freeze a length config into the anytime graph: the graph of one profile.

The lengths become constants (or a few integer operators on the input's length, for fractions), and a layer that drops
nothing loses its cut: no sorting, no GatherElements, no ScatterElements. What is left computes the same as the
anytime graph with these lengths as its input. The cuts themselves: ``cuts.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from dynbert.inputs import LENGTH_CONFIG
from dynbert.lengths import FRACTION_SCALE, LengthConfig
from dynbert_export.graph.cuts import list_cutting_layers, remove_cuts, unexpected
from dynbert_export.graph.editing import Builder, add_initializer, clean
from dynbert_export.graph.names import is_kept_positions

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GraphSpec", "freeze", "hide_kept_positions", "show_kept_positions", "task_outputs"]


@dataclass(frozen=True)
class GraphSpec:
    """What a traced graph was made for, and what is left of it."""

    num_layers: int
    """Hidden layers."""
    max_length: int
    """Longest input in tokens; a layer that may keep as many drops nothing."""
    always_keep_cls_token: bool
    """Whether the graph keeps CLS whatever its significance."""
    layers: tuple[int, ...] | None = None
    """Indices of the layers that run, ascending, see ``leave_out.py``; None for all, as traced."""

    @property
    def running(self) -> tuple[int, ...]:
        """Indices of the layers that run."""
        return tuple(range(self.num_layers)) if self.layers is None else self.layers


def freeze(model: ir.Model, lengths: LengthConfig | None, spec: GraphSpec) -> ir.Model:
    """Return the graph of one length config.

    Args:
        model: The anytime graph, fp32 or lowered to INT8, with its ``kept_positions.N`` outputs.
        lengths: The config, one entry a layer of the model; None drops nothing.
        spec: What the graph was traced for, and which of its layers run.

    Returns:
        A graph without the ``length_config`` input. Its ``kept_positions.N`` outputs are those of the layers that
        may drop tokens.

    Raises:
        ExportError: If the graph does not have the form described above.
    """
    import onnxscript.optimizer

    frozen = _clone_with_constants(model)
    graph = frozen.graph
    cutting = list_cutting_layers(graph, spec.running)
    remove_cuts(graph, cutting, _find_drops(lengths, cutting, spec))
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


def _find_drops(lengths: LengthConfig | None, layers: Sequence[int], spec: GraphSpec) -> list[bool]:
    """Return for each of these layers whether it can drop a token of an input of at most the maximum length."""
    if lengths is None:
        return [False] * len(layers)
    everything = 1.0 if lengths.is_fractional else spec.max_length
    kept = [lengths.lengths[layer] for layer in layers]
    return [after < min(entering, everything) for entering, after in zip([everything, *kept], kept, strict=False)]


def _freeze_lengths(graph: ir.Graph, lengths: LengthConfig | None, spec: GraphSpec) -> None:
    """Put constants, or what the fractions are of the input's length, where the ``length_config`` input was."""
    length_input = next((value for value in graph.inputs if value.name == LENGTH_CONFIG), None)
    if length_input is None:
        raise unexpected(f"{LENGTH_CONFIG} must be an input")
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
