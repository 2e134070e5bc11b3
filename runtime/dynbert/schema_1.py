"""Bundles of schema 1, which are still read: as ones of schema 2, which ``schema_2.py`` takes on from there.

There, ``parity`` meant two things: fp32 graphs had what schema 2 calls so, INT8 graphs what it calls agreement, with
no near ties and without the metric's name. A manifest had no digest of itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from dynbert import schema_2
from dynbert.schema import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VERSION", "upgrade"]

VERSION = 1

_UNNAMED_METRIC = "agreement"
"""Of a bundle of which nothing was judged."""
_RIGHT_NAMES = {("regression", "label_agreement"): "closeness"}
"""Problem type and metric -> what schema 2 calls that: numbers are no labels."""


class _Parity(Struct, frozen=True, forbid_unknown_fields=True):
    inputs: int
    near_ties: int
    max_abs_difference: float
    agreement: float


class _Quality(Struct, frozen=True):
    metric: str


class _Graph(Struct, frozen=True):
    precision: Precision
    parity: _Parity
    quality: _Quality | None = None


class _Model(Struct, frozen=True):
    problem_type: str | None = None


class _Manifest(Struct, frozen=True):
    """What is read of the old schema; the rest is checked by the new one."""

    model: _Model
    graphs: tuple[_Graph, ...]


def upgrade(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest of schema 1 as one of schema 2.

    Args:
        record: The JSON object of ``manifest.json``; not changed.

    Returns:
        The JSON object.

    Raises:
        msgspec.ValidationError: If what changes does not follow schema 1.
    """
    old = msgspec.convert(record, _Manifest)
    metrics = [graph.quality.metric for graph in old.graphs if graph.quality is not None]
    metric = metrics[0] if metrics else _UNNAMED_METRIC
    graphs = []
    for graph, given in zip(old.graphs, record["graphs"], strict=True):
        kept = {key: value for key, value in given.items() if key != "parity"}
        if graph.quality is not None:
            kept["quality"] = {**given["quality"], "metric": _rename(graph.quality.metric, old.model)}
        graphs.append({**kept, **_measured(graph, _rename(metric, old.model))})
    return {**record, "schema_version": schema_2.VERSION, "graphs": graphs}


def _measured(graph: _Graph, metric: str) -> dict[str, Any]:
    """Return what a graph has in place of its old parity."""
    old = graph.parity
    both = {"inputs": old.inputs, "max_abs_difference": old.max_abs_difference}
    if graph.precision is Precision.FP32:
        return {"parity": {**both, "near_ties": old.near_ties, "selection_agreement": old.agreement}}
    return {"agreement": {**both, "metric": metric, "value": old.agreement}}


def _rename(metric: str, model: _Model) -> str:
    return _RIGHT_NAMES.get((model.problem_type or "", metric), metric)
