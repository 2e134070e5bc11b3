"""Bundles of schema 2, which are still read: as ones of schema 3.

There, the graphs of every embedding bundle gave token states, and the manifest did not say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from dynbert import schema_3
from dynbert.schema import Embeddings, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["VERSION", "upgrade"]

VERSION = 2


class _Model(Struct, frozen=True):
    task: Task


class _Manifest(Struct, frozen=True):
    """What is read of the old schema; the rest is checked by the new one."""

    model: _Model


def upgrade(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest of schema 2 as one of schema 3.

    Args:
        record: The JSON object of ``manifest.json``, without its digest; not changed.

    Returns:
        The JSON object.

    Raises:
        msgspec.ValidationError: If what changes does not follow schema 2.
    """
    old = msgspec.convert(record, _Manifest)
    is_embedder = old.model.task is Task.FEATURE_EXTRACTION
    embeddings = Embeddings.TOKEN_STATES.value if is_embedder else None
    model = {**record["model"], "embeddings": embeddings}
    return {**record, "schema_version": schema_3.VERSION, "model": model}
