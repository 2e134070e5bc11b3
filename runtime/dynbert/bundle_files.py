"""The files of a bundle on disk: which there are, and whether they are what the manifest says.

Every file lies in the bundle's folder, or in a folder of that (never deeper), under plain names; it has the size and
SHA-256 that the manifest states; it and its folder are no links. A bundle that breaks a rule is refused, never
repaired.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from dynbert.errors import BundleError
from dynbert.schema import MANIFEST_FILE, FileEntry

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["check_files", "file_entry", "list_files"]

_HASH_CHUNK_BYTES = 1 << 20


def file_entry(path: Path, bundle: Path | None = None) -> FileEntry:
    """Return the manifest's entry for a file on disk.

    Args:
        path: The file.
        bundle: Folder of the bundle; None for the folder that the file is in.

    Returns:
        Its name, size and checksum.
    """
    name = path.name if bundle is None else path.relative_to(bundle).as_posix()
    return FileEntry(file=name, sha256=_sha256(path), bytes=path.stat().st_size)


def list_files(bundle: Path) -> list[Path]:
    """Return every file in a folder and the folders in it, but the manifest.

    Args:
        bundle: Folder of the bundle.

    Returns:
        The files, ordered by path.
    """
    return sorted(path for path in bundle.rglob("*") if not path.is_dir() and path != bundle / MANIFEST_FILE)


def check_files(bundle: Path, entries: Iterable[FileEntry], *, checksums: bool = True) -> None:
    """Hold files to what the manifest says of them.

    Args:
        bundle: Folder of the bundle.
        entries: The files to check.
        checksums: Whether to read every byte; sizes are always checked.

    Raises:
        BundleError: At the first file that is missing, a link or in a linked folder, unreadable, of the wrong size or
            changed.
    """
    for entry in entries:
        path = bundle / entry.file
        if path.is_symlink() or not path.is_file() or ("/" in entry.file and path.parent.is_symlink()):
            raise BundleError(f"{path} must be a regular file of the bundle, got none. Copy or export it again.")
        size = path.stat().st_size
        if size != entry.bytes:
            raise BundleError(f"{path} must have {entry.bytes} bytes, got {size}. Copy or export the bundle again.")
        if checksums and _readable_sha256(path) != entry.sha256:
            raise BundleError(f"{path} must have SHA-256 {entry.sha256}, got another. Copy or export the bundle again.")


def _readable_sha256(path: Path) -> str:
    try:
        return _sha256(path)
    except OSError as err:
        raise BundleError(f"{path} must be readable, got: {err.strerror}. Check its permissions.") from err


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
