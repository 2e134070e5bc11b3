"""Accidents that happen to a bundle's files: seeded, small and large, with or without checksums that fit afterwards."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.manifest import MANIFEST_FILE, file_entry, list_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np

__all__ = ["KINDS", "Accident", "cause_accident"]


@dataclass(frozen=True)
class Accident:
    """What happened."""

    kind: str
    file: str


def cause_accident(bundle: Path, generator: np.random.Generator, *, fits: bool) -> Accident:
    """Change one file of a bundle, or swap two.

    Args:
        bundle: Folder of the bundle; a file of it is changed.
        generator: Of the accident.
        fits: Whether the manifest is to agree with the files afterwards, as far as that can be.

    Returns:
        What was done.
    """
    files = [*list_files(bundle), bundle / MANIFEST_FILE]
    path = files[generator.integers(len(files))]
    kind = list(KINDS)[generator.integers(len(KINDS))]
    if kind == "swapped":
        other = files[generator.integers(len(files))]
        ours, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(ours)
    elif kind == "removed":
        path.unlink()
    else:
        path.write_bytes(KINDS[kind](path.read_bytes(), generator))
    if fits:
        _make_fit(bundle)
    return Accident(kind, path.relative_to(bundle).as_posix())


def _flip_bits(raw: bytes, generator: np.random.Generator) -> bytes:
    changed = bytearray(raw)
    for _ in range(generator.integers(1, 9)):
        changed[generator.integers(len(raw))] ^= 1 << int(generator.integers(8))
    return bytes(changed)


def _overwrite(raw: bytes, generator: np.random.Generator) -> bytes:
    start = int(generator.integers(len(raw)))
    length = int(generator.integers(1, 65))
    block = bytes(length) if generator.integers(2) else generator.bytes(length)
    return raw[:start] + block + raw[start + length :]


def _insert(raw: bytes, generator: np.random.Generator) -> bytes:
    start = int(generator.integers(len(raw) + 1))
    return raw[:start] + generator.bytes(int(generator.integers(1, 17))) + raw[start:]


def _cut_out(raw: bytes, generator: np.random.Generator) -> bytes:
    start = int(generator.integers(len(raw)))
    return raw[:start] + raw[start + int(generator.integers(1, 65)) :]


def _truncate(raw: bytes, generator: np.random.Generator) -> bytes:
    return raw[: int(generator.integers(len(raw)))]


def _empty(raw: bytes, generator: np.random.Generator) -> bytes:
    del raw, generator
    return b""


def _untouched(raw: bytes, generator: np.random.Generator) -> bytes:
    del generator
    return raw


KINDS: dict[str, Callable[[bytes, np.random.Generator], bytes]] = {
    "flipped": _flip_bits,
    "overwritten": _overwrite,
    "inserted": _insert,
    "cut out": _cut_out,
    "truncated": _truncate,
    "emptied": _empty,
    "removed": _untouched,
    "swapped": _untouched,
}


def _make_fit(bundle: Path) -> None:
    """Make checksums, sizes and the manifest's digest what they would be had the files been written so."""
    path = bundle / MANIFEST_FILE
    try:
        record: Any = json.loads(path.read_bytes())
        entries = [*record["graphs"], *record["files"]]
        for entry in entries:
            found = file_entry(bundle / entry["file"])
            entry["sha256"], entry["bytes"] = found.sha256, found.bytes
        del record["digest"]
        canonical = json.dumps(record, sort_keys=True, separators=(",", ":"))
        record["digest"] = hashlib.sha256(canonical.encode("ascii")).hexdigest()
    except (OSError, ValueError, TypeError, KeyError):  # too broken to be made to fit
        return
    path.write_text(json.dumps(record), encoding="utf-8")
