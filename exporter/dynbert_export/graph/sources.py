"""The anytime graphs that profiles are made of, kept on disk, so that a search can freeze lengths without a new export.

A bundle's own anytime graph will not do: it moves states by whole rows and has no ``kept_positions`` any more, by which
``freeze`` finds what a layer drops.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from dynbert.errors import BundleError
from dynbert_export.graph.weights_file import save_sharing_weights

if TYPE_CHECKING:
    from pathlib import Path

    from dynbert_export.variants import GraphSet

__all__ = ["load_source", "save_source"]


def save_source(anytime: ir.Model, folder: Path, graph_set: GraphSet) -> Path:
    """Keep an anytime graph as ``freeze`` takes it.

    Args:
        anytime: The graph, fp32 or INT8.
        folder: Where to; made if absent.
        graph_set: What the graph belongs to; its label becomes part of the names.

    Returns:
        The graph's file; its weights lie beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    [path] = save_sharing_weights({_file_name(graph_set.label): anytime}, folder, graph_set.weights_file)
    return path


def load_source(folder: Path, label: str) -> ir.Model:
    """Read a graph that ``save_source`` kept.

    Args:
        folder: Where it is.
        label: Of the graph's set: ``fp32``, ``int8``, ``int8-avx2``.

    Returns:
        The graph; its weights stay in their file until they are read.

    Raises:
        BundleError: If there is none.
    """
    path = folder / _file_name(label)
    if not path.is_file():
        raise BundleError(f"{folder} must have the graph {path.name}, got none. Remove the folder to export it again.")
    return ir.load(path)


def _file_name(label: str) -> str:
    return f"source.{label}.onnx"
