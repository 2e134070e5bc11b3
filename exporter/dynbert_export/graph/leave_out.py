"""Leave out layers: an anytime graph in which only some layers run, those of a profile's ``layer_config``.

What enters a layer that is left out goes on to the next one (Fan et al. 2020, "Reducing Transformer Depth on Demand
with Structured Dropout"), and the layer drops nothing: its cut goes with it. What is left computes what PyTorch does
with the same ``layer_config``, and is an anytime graph again: it takes ``length_config`` with one entry a layer of the
model, of which it reads those of the layers that run, and ``freeze`` takes it with ``GraphSpec.layers`` set.

Where the last layer ran for one token (``single_token.py``) and is left out, the layer that becomes the last does so.

INT8 graphs are made of the INT8 anytime graph like all others, for which leaving out is exact too: no constant of a
layer is meant for a neighbour. SmoothQuant's factors stand in Muls of the layer that reads the states, and the one that
is folded away (``int8/smoothing.py``) is folded within its layer. So a bundle is quantised once, and its weights file
holds nothing twice. Static ranges then are those of the model with all layers, though a layer behind a left-out one is
given other states. Observing them anew was tried: all-MiniLM-L6-v2, not trained for it, mean cosine of INT8 to fp32
embeddings of the same layers on the built-in held-out texts, with these ranges and with new ones: layers 0,2,4,5 0.9964
and 0.9968; 0,3,5 0.9969 and 0.9977; 1 to 5 0.9950 and 0.9932; all 0.9926. That is next to nothing for ten seconds of
calibration each. The gates judge every profile by its own fp32 graph in any case.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dynbert_export.graph.cuts import list_cutting_layers, remove_cuts, unexpected
from dynbert_export.graph.editing import clean
from dynbert_export.graph.single_token import run_for_single_token

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

    from dynbert_export.graph.freeze import GraphSpec

__all__ = ["leave_out_layers"]

_STATES = re.compile(r"/(?:embeddings|encoder/layer\.(?P<layer>\d+)/output)/LayerNorm/LayerNormalization$")
"""End of the name of the node that makes what enters the first layer, or what leaves one."""


def leave_out_layers(model: ir.Model, layers: Sequence[int], spec: GraphSpec) -> ir.Model:
    """Return the anytime graph in which only these layers run.

    Several such graphs share one weights file (``weights_file.py``): their constants are those of ``model``.

    Args:
        model: The anytime graph, fp32 or INT8, with its ``kept_positions.N`` outputs; not changed.
        layers: Indices of the layers that run, ascending, at least one.
        spec: What the graph was traced for.

    Returns:
        The graph. Of its ``kept_positions.N`` outputs those of the layers that run and cut are left, under their
        numbers in the model.

    Raises:
        ExportError: If the graph does not have the form that ``cuts.py`` describes.
        ValueError: If ``layers`` are not some of the graph's in ascending order.
    """
    running, wanted = spec.running, tuple(layers)
    if not wanted or wanted != tuple(layer for layer in running if layer in wanted):
        raise ValueError(f"layers must be some of {running} in ascending order, got {wanted}.")
    left = model.clone()
    if wanted == running:
        return left
    graph = left.graph
    cutting = list_cutting_layers(graph, running)
    remove_cuts(graph, cutting, [layer in wanted for layer in cutting])
    _pass_states(graph, running, wanted)
    if running[-1] not in cutting and running[-1] not in wanted:
        clean(left)  # so that nothing but the layer itself reads what is changed
        run_for_single_token(graph, wanted[-1])
    clean(left)
    return left


def _pass_states(graph: ir.Graph, running: Sequence[int], wanted: Sequence[int]) -> None:
    """Let what reads the states that left a layer read those that entered it, where it is left out."""
    matches = [(_STATES.search(node.name or ""), node) for node in graph if node.op_type == "LayerNormalization"]
    found = {match["layer"]: node.outputs[0] for match, node in matches if match is not None}
    entering = _pick(found, None)
    for layer in running:
        leaving = _pick(found, str(layer))
        if layer in wanted:
            entering = leaving
        else:
            leaving.replace_all_uses_with(entering)


def _pick(found: dict[str | None, ir.Value], layer: str | None) -> ir.Value:
    if layer not in found:
        raise unexpected(f"a LayerNormalization must end {'the embeddings' if layer is None else f'layer {layer}'}")
    return found[layer]
