"""What is made once for all processes of a test run, by whichever of them asks first."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

__all__ = ["SharedFolders", "shared_folder"]

_Key = TypeVar("_Key", bound=str)


def shared_folder(factory: pytest.TempPathFactory, name: str) -> Path:
    """Return a folder that all of pytest-xdist's processes have in common; made if absent."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class SharedFolders(Mapping[_Key, "Path"]):
    """Folders by name, each made when it is first asked for, by one process; nobody may change them.

    Args:
        folder: Of ``shared_folder``.
        keys: The names.
        make: Told a name and the folder to make.
    """

    def __init__(self, folder: Path, keys: Iterable[_Key], make: Callable[[_Key, Path], object]) -> None:
        self._folder = folder
        self._keys = tuple(keys)
        self._make = make

    def __getitem__(self, key: _Key) -> Path:
        if key not in self._keys:
            raise KeyError(key)
        place = self._folder / str(key)
        with FileLock(self._folder / f"{key}.lock"):
            done = self._folder / f"{key}.done"
            if not done.exists():
                self._make(key, place)
                done.touch()
        return place

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
