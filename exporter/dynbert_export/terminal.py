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

_LINES = 20
"""Lines about many steps where the output is no terminal."""


def choice_of(options: type[StrEnum]) -> click.Choice[str]:
    """Return the type of an option with a closed vocabulary.

    Args:
        options: The vocabulary.

    Returns:
        click's type.
    """
    return click.Choice([option.value for option in options])


class TerminalProgress:
    """Prints each stage with its time, a bar where there are many steps (lines in a log file), and notes."""

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
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            task = bar.add_task(name, total=None, said="")
            lines = _Lines(self._console, name)

            def update(done: int, total: int, said: str) -> None:
                bar.update(task, completed=done, total=total, said=said)
                if not self._console.is_terminal:
                    lines.update(done, total, said)

            yield update
        self._done(name, start)

    def note(self, message: str) -> None:
        """Print a note."""
        self._console.print(f"Note: {message}", style="yellow", markup=False)

    def _done(self, name: str, start: float) -> None:
        self._console.print(f"{name:<40} {time.perf_counter() - start:6.1f} s", markup=False)


class _Lines:
    """Tells of many steps in a log file, where a bar cannot move: a line each twentieth of them."""

    def __init__(self, console: Any, name: str) -> None:
        self._console = console
        self._name = name
        self._first: tuple[int, float] | None = None
        self._told = 0

    def update(self, done: int, total: int, said: str) -> None:
        """Print a line if it is time for one."""
        now = time.perf_counter()
        if self._first is None:  # a resumed training does not begin at 0
            self._first = (done, now)
            self._told = done * _LINES // max(total, 1)
        part = done * _LINES // max(total, 1)
        if part == self._told:
            return
        self._told = part
        first, start = self._first
        left = (now - start) / (done - first) * (total - done)
        line = f"{self._name} {done}/{total}, {left:.0f} s left" + (f", {said}" if said else "")
        self._console.print(line, markup=False)


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
