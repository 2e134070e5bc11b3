"""What the long commands show on the terminal: stages with their time, steps with the time left, notes."""

from __future__ import annotations

import contextlib
import signal
import time
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from enum import StrEnum

__all__ = ["TerminalProgress", "choice_of", "terminated_like_interrupted"]


def choice_of(options: type[StrEnum]) -> click.Choice[str]:
    """Return the type of an option with a closed vocabulary.

    Args:
        options: The vocabulary.

    Returns:
        click's type.
    """
    return click.Choice([option.value for option in options])


class TerminalProgress:
    """Prints each stage with its time, a bar where there are many steps, and notes as warnings."""

    def __init__(self, console: Any) -> None:
        """Make a listener.

        Args:
            console: rich's, on standard error.
        """
        self._console = console

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show that a stage runs, and then how long it took."""
        start = time.perf_counter()
        with self._console.status(name):
            yield
        self._done(name, start)

    @contextlib.contextmanager
    def steps(self, name: str) -> Iterator[Callable[[int, int, str], None]]:
        """Show how many of many steps are done, and the time left."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        start = time.perf_counter()
        columns = (
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
        )
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(name, total=None, said="")
            yield lambda done, total, said: bar.update(task, completed=done, total=total, said=said)
        self._done(name, start)

    def note(self, message: str) -> None:
        """Print a note."""
        self._console.print(f"Note: {message}", style="yellow", markup=False)

    def _done(self, name: str, start: float) -> None:
        self._console.print(f"{name:<40} {time.perf_counter() - start:6.1f} s", markup=False)


@contextlib.contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """Let a polite kill clean up as Ctrl-C does.

    Yields:
        Nothing.
    """
    before: Callable[..., Any] | int | None = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
