"""JSON files: read from a checkpoint, which may be anybody's, and written into a bundle."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dynbert_export.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["read_json", "read_json_object", "write_json"]


def read_json(path: Path) -> Any:
    """Return what a JSON file of a checkpoint holds.

    Args:
        path: The file.

    Returns:
        The decoded value.

    Raises:
        CheckpointError: If the file is missing, unreadable or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except OSError as err:
        raise CheckpointError(f"A checkpoint must have a readable {path.name}, got {path} ({err.strerror}).") from err
    except (ValueError, RecursionError) as err:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise CheckpointError(f"{path} must be JSON, got: {err}. Get the file again.") from err


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file of a checkpoint.

    Args:
        path: The file.

    Returns:
        The object.

    Raises:
        CheckpointError: If the file is missing, unreadable, no JSON or no object.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must hold a JSON object, got {type(value).__name__}. Get the file again.")
    return value


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file as people and Hugging Face's tools do: indented, with a newline at the end.

    Args:
        path: The file.
        value: What it is to hold.
    """
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
