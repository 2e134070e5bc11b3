"""Say in a graph's metadata which of its values hold the tokens that each layer keeps.

For whoever wants to see what a published graph drops: ``dynbert.kept_values`` makes outputs of them. The positions
among all tokens will not do. Where a head reads only what is left, as pooled ones do, nothing computes them; but a
layer that drops tokens always gathers by the indices of those that it keeps. They cost nothing: no node is added.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert.kept_values import KEPT_TOKENS, KeptValues, kept_indices_name
from dynbert_export.graph.editing import producer_of
from dynbert_export.graph.names import kept_positions_layer, kept_positions_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx_ir as ir

__all__ = ["find_first_token_layer", "name_kept_indices"]


def find_first_token_layer(anytime: ir.Model, layers: Sequence[int]) -> int | None:
    """Return the layer that runs for the first token alone, see ``single_token``.

    Args:
        anytime: An anytime graph, with its ``kept_positions.N`` outputs.
        layers: Indices of the layers that it has, ascending.

    Returns:
        The last one where it cuts nothing; else None.
    """
    outputs = {value.name for value in anytime.graph.outputs}
    return None if kept_positions_name(layers[-1]) in outputs else layers[-1]


def name_kept_indices(model: ir.Model, *, first_token_layer: int | None) -> ir.Model:
    """Give the indices that each layer keeps a name, and note it in the metadata.

    Args:
        model: A graph that still has its ``kept_positions.N`` outputs, one for each layer that may drop tokens.
        first_token_layer: As ``find_first_token_layer`` returns it.

    Returns:
        An equal graph. The first layer that drops keeps the name ``kept_positions.N``: its indices are the positions.
    """
    named = model.clone()
    cuts = {}
    for positions in named.graph.outputs:
        layer = kept_positions_layer(positions.name)
        if layer is None:
            continue
        lookup = producer_of(positions, "GatherElements")
        kept = None if lookup is None else lookup.inputs[1]
        if kept is not None:
            kept.name = kept_indices_name(layer)
        cuts[layer] = (kept or positions).name or ""
    named.metadata_props[KEPT_TOKENS] = KeptValues(cuts=cuts, first_token_layer=first_token_layer).encode()
    return named
