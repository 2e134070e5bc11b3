"""Writing what a search keeps: whole files, and one way to say that the disk refuses."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any

from dynbert_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["explain_disk", "write_json_whole"]


@contextlib.contextmanager
def explain_disk(place: Path) -> Iterator[None]:
    """Say what the disk refused.

    Args:
        place: Where something was to be written.

    Yields:
        Nothing.

    Raises:
        ExportError: In place of what the system raised.
    """
    try:
        yield
    except OSError as err:
        raise ExportError(
            f"{place} must be writable, got: {err.strerror or err}. Finished trials stay; the same command goes on."
        ) from err


def write_json_whole(path: Path, value: Any) -> None:
    """Write a JSON file that is there as a whole or not at all.

    Args:
        path: The file.
        value: What it is to hold.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        unfinished.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
