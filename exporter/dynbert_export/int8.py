"""From the fp32 anytime graph to the one that runs as INT8: smoothing, calibration, lowering."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dynbert.inputs import INPUT_IDS
from dynbert.manifest import Target
from dynbert_export.graph.names import LENGTH_INPUT
from dynbert_export.graph.smoothing import fold_smoothing
from dynbert_export.lower import lower
from dynbert_export.options import QuantizeOption

if TYPE_CHECKING:
    import onnx_ir as ir

    from dynbert_export.feeds import Feed
    from dynbert_export.job import Job
    from dynbert_export.quantize import QuantizationEngine

__all__ = ["quantize"]


def quantize(job: Job, anytime: ir.Model, engine: QuantizationEngine) -> ir.Model:
    """Return the anytime graph in INT8.

    Args:
        job: The export.
        anytime: The fp32 graph; not changed.
        engine: The quantiser.

    Returns:
        The graph with one INT8 operator a product.

    Raises:
        ExportError: If the engine fails, or leaves a product that cannot be lowered.
    """
    reduce_range = job.target is Target.AVX2
    if job.config.quantize is QuantizeOption.DYNAMIC:
        return lower(engine.quantize_dynamic(anytime, reduce_range=reduce_range))
    feeds = [_with_full_lengths(feed, job.spec.num_layers) for feed in job.texts.calibration]
    smoothed = fold_smoothing(engine.smooth(anytime, feeds, alpha=job.config.smooth_quant_alpha))
    return lower(engine.quantize_static(smoothed, feeds, reduce_range=reduce_range))


def _with_full_lengths(feed: Feed, num_layers: int) -> Feed:
    """Return a feed for the anytime graph that drops nothing: ranges must hold for every token."""
    return {**feed, LENGTH_INPUT: np.full(num_layers, feed[INPUT_IDS].shape[-1], dtype=np.int64)}
