"""Bundles of schema 3, which are still read. There, every profile ran all layers, and no graph had evaluations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynbert.schema import MINIMUM_RUNTIME, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VERSION", "upgrade"]

VERSION = 3


def upgrade(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest of schema 3 as one of this schema.

    Args:
        record: The JSON object of ``manifest.json``, without its digest; not changed.

    Returns:
        The JSON object.
    """
    return {**record, "schema_version": SCHEMA_VERSION, "minimum_runtime": MINIMUM_RUNTIME}
