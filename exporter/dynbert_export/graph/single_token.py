"""One token in the last layer: what a head on the pooled state reads of it.

Such a head reads the last hidden state of CLS alone. Where CLS is never dropped it is the first token of every layer,
so nothing needs to be put back, and the last layer's queries, output projection and feed-forward are needed for one
token only; its keys and values for all. No profile drops anything in that layer any more: it has nothing left to drop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert_export.graph.attention import match_dense, match_mixture
from dynbert_export.graph.editing import (
    BROADCAST,
    LAYOUT,
    Builder,
    clean,
    constant_array,
    only_consumer,
    producer_of,
    trace_back,
)
from dynbert_export.graph.int8_operator import INT8_OPERATOR
from dynbert_export.graph.names import kept_positions_name

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["keep_single_token", "run_for_single_token"]

_QUANTIZERS = ("QuantizeLinear", "DynamicQuantizeLinear")


def keep_single_token(model: ir.Model, *, num_layers: int) -> ir.Model:
    """Run the last layer for CLS alone, where the head reads nothing else.

    Args:
        model: The traced fp32 graph of a model that always keeps CLS, cuts moved by ``drop_early``.
        num_layers: Hidden layers.

    Returns:
        An equal graph, without ScatterElements and without the last layer's ``kept_positions`` output. A graph whose
        head reads other tokens too stays as it is.
    """
    trimmed = model.clone()
    graph = trimmed.graph
    last = next((node for node in reversed(list(graph)) if node.op_type == "ScatterElements"), None)
    pooled = None if last is None else only_consumer(last.outputs[0], "Gather")
    if last is None or pooled is None or not _reads_first_token(pooled):
        return trimmed
    if not run_for_single_token(graph, num_layers - 1):
        return trimmed
    pooled.replace_input_with(0, last.inputs[2])
    clean(trimmed)
    return trimmed


def run_for_single_token(graph: ir.Graph, layer: int) -> bool:
    """Let a layer's queries, and what comes after them, be those of the first token alone, in place.

    Args:
        graph: An anytime graph, fp32 or lowered to INT8, in which nobody reads any other token of the states that leave
            the layer. To be cleaned.
        layer: Index of the last layer that runs.

    Returns:
        Whether it was done; a layer of another form stays as it is. The layer's ``kept_positions`` is then no output
        any more.
    """
    cuts = _find_cuts(graph, layer)
    query = None if cuts is None else _find_query(cuts[0])
    context = None if cuts is None else cuts[0].inputs[0]
    if cuts is None or context is None or query is None:
        return False
    context_cut, residual_cut = cuts
    states, activation = residual_cut.inputs[0], query.inputs[0]
    if trace_back(activation, "Mul", *_QUANTIZERS) is not states:  # Mul: a smoothing
        return False
    build = Builder(graph, "single_token")
    first = build.first(states, axis=1)  # [batch, 1, hidden]
    query.replace_input_with(0, first if activation is states else build.first(activation, axis=1))
    graph.insert_before(query, build.nodes)
    context_cut.outputs[0].replace_all_uses_with(context)
    residual_cut.outputs[0].replace_all_uses_with(first)
    graph.outputs[:] = [value for value in graph.outputs if value.name != kept_positions_name(layer)]
    return True


def _reads_first_token(node: ir.Node) -> bool:
    """Return whether a Gather takes index 0 of the tokens."""
    index = constant_array(node.inputs[1])
    return node.attributes.get_int("axis", 0) == 1 and index is not None and index.item() == 0


def _find_cuts(graph: ir.Graph, layer: int) -> tuple[ir.Node, ir.Node] | None:
    """Return the layer's cuts of context and residual, where ``drop_early`` has put them."""
    positions = next((value for value in graph.outputs if value.name == kept_positions_name(layer)), None)
    gather = producer_of(positions, "GatherElements")
    kept = positions if gather is None else gather.inputs[1]
    cuts = [
        node
        for node in graph
        if node.op_type == "GatherElements" and node is not gather and trace_back(node.inputs[1], *BROADCAST) is kept
    ]
    contexts = [node for node in cuts if only_consumer(node.outputs[0], "MatMul", *_QUANTIZERS)]
    residuals = [node for node in cuts if only_consumer(node.outputs[0], "Add")]
    return (contexts[0], residuals[0]) if len(contexts) == len(residuals) == 1 else None


def _find_query(context_cut: ir.Node) -> ir.Node | None:
    """Return the query projection of the attention whose context is cut; None where its form is another."""
    mixture = match_mixture(trace_back(context_cut.inputs[0], *LAYOUT))
    masked = None if mixture is None else mixture.softmax.inputs[0]
    # Relative positions too: they are added second.
    scores = producer_of(trace_back(masked, "Add", "Div"), "MatMul", INT8_OPERATOR)
    projected = None if scores is None else trace_back(scores.inputs[0], *LAYOUT, *_QUANTIZERS)
    dense = match_dense(projected)
    return producer_of(projected, INT8_OPERATOR) if dense is None else dense.product
