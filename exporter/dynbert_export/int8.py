"""From the fp32 anytime graph to those that run as INT8: smoothing, calibration, lowering, embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynbert.inputs import INPUT_IDS
from dynbert_export.graph.embeddings import quantize_embeddings
from dynbert_export.graph.names import LENGTH_INPUT
from dynbert_export.graph.smoothing import fold_smoothing
from dynbert_export.lower import lower
from dynbert_export.options import QuantizeOption

if TYPE_CHECKING:
    import onnx_ir as ir

    from dynbert_export.feeds import Feed
    from dynbert_export.job import Job
    from dynbert_export.quantize import QuantizationEngine
    from dynbert_export.variants import GraphSet

__all__ = ["quantize"]


def quantize(job: Job, anytime: ir.Model, engine: QuantizationEngine) -> dict[GraphSet, ir.Model]:
    """Return the anytime graph in INT8, once for each number range that the bundle's targets need.

    Args:
        job: The export.
        anytime: The fp32 graph; not changed.
        engine: The quantiser.

    Returns:
        Set -> the graph with one INT8 operator a product, and INT8 embeddings.

    Raises:
        ExportError: If the engine fails, or leaves a product that cannot be lowered.
    """
    if job.config.quantize is QuantizeOption.DYNAMIC:
        quantized = {
            graph_set: engine.quantize_dynamic(anytime, reduce_range=_is_range_reduced(graph_set))
            for graph_set in job.int8_sets
        }
    else:
        feeds = [_with_full_lengths(feed, job.spec.num_layers) for feed in job.texts.calibration]
        smoothed = fold_smoothing(engine.smooth(anytime, feeds, alpha=job.config.smooth_quant_alpha))
        quantized = {
            graph_set: engine.quantize_static(smoothed, feeds, reduce_range=_is_range_reduced(graph_set))
            for graph_set in job.int8_sets
        }
    return {graph_set: quantize_embeddings(lower(model)) for graph_set, model in quantized.items()}


def _is_range_reduced(graph_set: GraphSet) -> bool:
    return graph_set.target is not None and not graph_set.target.is_full_range


def _with_full_lengths(feed: Feed, num_layers: int) -> Feed:
    """Return a feed for the anytime graph that drops nothing: ranges must hold for every token."""
    return {**feed, LENGTH_INPUT: np.full(num_layers, feed[INPUT_IDS].shape[-1], dtype=np.int64)}
