"""What can happen to a file on its way to a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["damage_changed", "damage_folder", "damage_linked", "damage_missing", "damage_truncated"]


def damage_missing(path: Path) -> None:
    """Lose it."""
    path.unlink()


def damage_truncated(path: Path) -> None:
    """Lose its last byte."""
    path.write_bytes(path.read_bytes()[:-1])


def damage_changed(path: Path) -> None:
    """Flip its last bit."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


def damage_linked(path: Path) -> None:
    """Put a link to the same content in its place."""
    target = path.with_suffix(".moved")
    path.rename(target)
    path.symlink_to(target)


def damage_folder(path: Path) -> None:
    """Put a folder in its place."""
    path.unlink()
    path.mkdir()
