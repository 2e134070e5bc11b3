"""What a long export tells its caller while it runs."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Progress", "SilentProgress", "StepProgress"]


class Progress(Protocol):
    """A listener; the command line prints, a library caller may log or ignore."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Enter a stage of the export; it ends, or fails, with the block."""

    def note(self, message: str) -> None:
        """Tell something that the caller should know, such as a choice made for want of information."""


class StepProgress(Progress, Protocol):
    """A listener to what has many steps as well."""

    def steps(self, name: str) -> AbstractContextManager[Callable[[int, int, str], None]]:
        """Enter a stage of many steps; what it gives is told of steps done, steps in all, and what there is to say."""


class SilentProgress:
    """Tells nothing."""

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:  # noqa: ARG002 -- the protocol's signature
        """Run the block."""
        yield

    @contextlib.contextmanager
    def steps(self, name: str) -> Iterator[Callable[[int, int, str], None]]:  # noqa: ARG002 -- the protocol's signature
        """Run the block."""
        yield lambda done, total, said: None  # noqa: ARG005  (the protocol's signature)

    def note(self, message: str) -> None:
        """Ignore the message."""
