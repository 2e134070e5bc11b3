"""The bundle's file contract, and the door to it: reading and writing ``manifest.json``, records, checks of files.

The manifest has the checksums of all files, and a digest of itself: what it says can be no more changed by accident
than what a graph computes.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Struct

from dynbert import schema_1, schema_2, schema_3
from dynbert.bundle_files import check_files, file_entry, list_files
from dynbert.errors import BundleError
from dynbert.schema import (
    ANYTIME,
    FULL,
    MANIFEST_FILE,
    MINIMUM_RUNTIME,
    SCHEMA_VERSION,
    Agreement,
    DataLatency,
    Difference,
    Embeddings,
    Evaluation,
    FileEntry,
    GraphEntry,
    Invariance,
    Latency,
    Manifest,
    MetricValue,
    ModelInfo,
    Parity,
    Pooling,
    PoolingMode,
    Precision,
    Probe,
    ProfileEntry,
    Quality,
    Target,
    Task,
    is_file_name,
    is_file_path,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "ANYTIME",
    "FULL",
    "MANIFEST_FILE",
    "MINIMUM_RUNTIME",
    "SCHEMA_VERSION",
    "Agreement",
    "DataLatency",
    "Difference",
    "Embeddings",
    "Evaluation",
    "FileEntry",
    "GraphEntry",
    "Invariance",
    "Latency",
    "Manifest",
    "MetricValue",
    "ModelInfo",
    "Parity",
    "Pooling",
    "PoolingMode",
    "Precision",
    "Probe",
    "ProfileEntry",
    "Quality",
    "Target",
    "Task",
    "check_files",
    "file_entry",
    "is_file_name",
    "is_file_path",
    "list_files",
    "manifest_record",
    "read_manifest",
    "write_manifest",
]

_DIGEST = "digest"
_UPGRADES = {older.VERSION: older.upgrade for older in (schema_1, schema_2, schema_3)}
"""Schema version -> what makes a record of the next version of its records."""


class _Header(Struct):
    """The two fields that every schema version keeps, so that an old reader can say what to install."""

    schema_version: Annotated[int, msgspec.Meta(ge=1)]
    minimum_runtime: str


def read_manifest(bundle: Path) -> Manifest:
    """Read and check ``manifest.json``; the other files are not touched.

    Args:
        bundle: Folder of the bundle.

    Returns:
        The manifest; one of an older schema as this one's.

    Raises:
        BundleError: If it is missing, malformed, of a newer schema, or not as it was written.
    """
    path = bundle / MANIFEST_FILE
    try:
        raw = path.read_bytes()
    except OSError as err:
        raise BundleError(
            f"A bundle must be a folder with a readable {MANIFEST_FILE}, got {bundle} ({err.strerror}). "
            "Make one with dynbert-export."
        ) from err
    try:
        return _decode(raw, path)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as err:
        raise BundleError(f"{path} must follow the bundle schema, got: {err}. Export the bundle again.") from err


def write_manifest(bundle: Path, manifest: Manifest) -> None:
    """Write ``manifest.json``, indented for people.

    Args:
        bundle: Folder of the bundle.
        manifest: What to write.
    """
    encoded = msgspec.json.encode(manifest_record(manifest))
    (bundle / MANIFEST_FILE).write_bytes(msgspec.json.format(encoded, indent=2) + b"\n")


def manifest_record(manifest: Manifest) -> dict[str, Any]:
    """Return a manifest as plain data, as ``manifest.json`` has it.

    Args:
        manifest: The manifest.

    Returns:
        The JSON object, with its digest.
    """
    record = msgspec.json.decode(msgspec.json.encode(manifest))
    return {**record, _DIGEST: _digest_of(record)}


def _decode(raw: bytes, path: Path) -> Manifest:
    """Return the manifest in the bytes of a file."""
    record = msgspec.json.decode(raw)
    header = msgspec.convert(record, _Header)
    if header.schema_version > SCHEMA_VERSION:
        raise BundleError(
            f"{path}: schema version must be at most {SCHEMA_VERSION} for dynbert {version('dynbert')}, "
            f"got {header.schema_version}. Install dynbert>={header.minimum_runtime}."
        )
    has_digest = header.schema_version > schema_1.VERSION
    stated = record.pop(_DIGEST, None) if has_digest else None
    upgraded = record
    for older in range(header.schema_version, SCHEMA_VERSION):
        upgraded = _UPGRADES[older](upgraded)
    manifest = msgspec.convert(upgraded, Manifest)
    if has_digest and stated != _digest_of(record):
        raise BundleError(
            f"{path} must be as it was written, got a digest that is not its own. Copy or export the bundle again."
        )
    return manifest


def _digest_of(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest's JSON object without its digest: ASCII, keys sorted, no spaces.

    Python's own encoder, because its form of numbers has not changed for long and will not.
    """
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
