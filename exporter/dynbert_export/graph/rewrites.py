"""The exact rewrites of the traced graph, in the order in which they rely on one another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert_export.graph.drop_early import drop_early
from dynbert_export.graph.reshapes import simplify_reshapes
from dynbert_export.graph.single_token import keep_single_token

if TYPE_CHECKING:
    import onnx_ir as ir

    from dynbert_export.graph.freeze import GraphSpec

__all__ = ["rewrite"]


def rewrite(model: ir.Model, spec: GraphSpec) -> ir.Model:
    """Return a graph that computes the same with less work.

    Args:
        model: The traced fp32 graph; not changed.
        spec: What it was traced for.

    Returns:
        The graph. Where nothing but CLS is read of the last layer, that layer has no ``kept_positions`` output.
    """
    rewritten = drop_early(simplify_reshapes(model))
    if not spec.always_keep_cls_token:
        return rewritten
    return keep_single_token(rewritten, num_layers=spec.num_layers)
