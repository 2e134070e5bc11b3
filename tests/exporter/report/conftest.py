"""A toy bundle's manifest, whose graphs have latencies that tell them apart."""

from __future__ import annotations

import msgspec
import pytest

from dynbert.manifest import ANYTIME, Latency
from tests.helpers.bundles import make_bundle


@pytest.fixture
def manifest(tmp_path):
    """Each graph takes 1 ms more than the one before, from 1 ms on; the anytime graphs have no quality."""
    manifest = make_bundle(tmp_path / "toy").manifest
    graphs = tuple(
        msgspec.structs.replace(
            graph,
            latency=(Latency(tokens=16, batch=1, threads=1, median_ms=1.0 + index),),
            quality=None if graph.profile == ANYTIME else graph.quality,
        )
        for index, graph in enumerate(manifest.graphs)
    )
    return msgspec.structs.replace(manifest, graphs=graphs)
