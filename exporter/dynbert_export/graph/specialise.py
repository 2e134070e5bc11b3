"""The exact rewrites of the traced graph, in the order in which they rely on one another."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from dynbert.manifest import Precision
from dynbert_export.graph.drop_early import drop_early
from dynbert_export.graph.flash import use_flash_attention
from dynbert_export.graph.freeze import freeze, hide_kept_positions
from dynbert_export.graph.kept_indices import find_first_token_layer, name_kept_indices
from dynbert_export.graph.leave_out import leave_out_layers
from dynbert_export.graph.reshapes import simplify_reshapes
from dynbert_export.graph.single_token import keep_single_token
from dynbert_export.graph.tying import share_tied_weights
from dynbert_export.graph.unpadded import skip_empty_mask
from dynbert_export.graph.weights_file import save_beside_weights, save_sharing_weights
from dynbert_export.graph.whole_rows import move_whole_rows

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx_ir as ir

    from dynbert_export.graph.freeze import GraphSpec
    from dynbert_export.variants import GraphSet, Variant

__all__ = ["rewrite", "write_beside_source", "write_graphs"]


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


def write_graphs(
    anytime: ir.Model,
    variants: tuple[Variant, ...],
    folder: Path,
    graph_set: GraphSet,
    spec: GraphSpec,
) -> Mapping[str, Path]:
    """Specialise the anytime graph for every variant and write all of them with one weights file.

    Variants that are anytime graphs may leave out layers too, and so may several of them.

    Args:
        anytime: The graph to specialise, fp32 or INT8.
        variants: What for.
        folder: Where to write.
        graph_set: What the graphs belong to; its label becomes part of the names.
        spec: What the graph was traced for.

    Returns:
        Variant's name -> file.
    """
    graphs = {variant.file_name(graph_set): _finish(anytime, variant, graph_set, spec) for variant in variants}
    paths = save_sharing_weights(graphs, folder, graph_set.weights_file)
    return {variant.name: path for variant, path in zip(variants, paths, strict=True)}


def write_beside_source(source: ir.Model, variant: Variant, path: Path, graph_set: GraphSet, spec: GraphSpec) -> None:
    """Specialise an anytime graph that was kept on disk, and write the result beside it, onto the same weights.

    Args:
        source: The graph, as ``sources.load_source`` gives it.
        variant: What for.
        path: The file to write, in the source's folder; appears whole.
        graph_set: What the graph belongs to.
        spec: What the source was traced for.
    """
    save_beside_weights(_finish(source, variant, graph_set, spec), path, graph_set.weights_file)


def _finish(anytime: ir.Model, variant: Variant, graph_set: GraphSet, spec: GraphSpec) -> ir.Model:
    """Return the graph of a variant as it is published."""
    if variant.layers is not None:
        anytime, spec = leave_out_layers(anytime, variant.layers, spec), replace(spec, layers=variant.layers)
    graph = anytime if variant.is_anytime else use_flash_attention(freeze(anytime, variant.lengths, spec))
    layers = range(spec.num_layers) if variant.layers is None else variant.layers
    graph = name_kept_indices(graph, first_token_layer=find_first_token_layer(anytime, layers))
    graph = share_tied_weights(move_whole_rows(hide_kept_positions(graph)))
    return skip_empty_mask(graph) if graph_set.precision is Precision.INT8 else graph
