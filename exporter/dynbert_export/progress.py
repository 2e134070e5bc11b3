"""What a long export tells its caller while it runs."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Progress", "SilentProgress"]


class Progress(Protocol):
    """A listener; the command line prints, a library caller may log or ignore."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Enter a stage of the export; it ends, or fails, with the block."""

    def note(self, message: str) -> None:
        """Tell something that the caller should know, such as a choice made for want of information."""


class SilentProgress:
    """Tells nothing."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:  # noqa: ARG002 -- the protocol's signature
        """Run the block."""
        yield

    def note(self, message: str) -> None:
        """Ignore the message."""
