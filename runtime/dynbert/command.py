"""What the commands share: errors and warnings as lines for people, and exit codes.

Exit codes: 0 done, 1 something does not work, 2 a wrong option or input; each error class knows its own.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

import click

from dynbert.errors import DynbertError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["report_problems"]


@contextlib.contextmanager
def report_problems(*, debug: bool) -> Iterator[None]:
    """Print the errors that dynbert raises on purpose, and all warnings, as one line each on standard error.

    Args:
        debug: Whether errors are to keep their traceback.

    Yields:
        Nothing.

    Raises:
        SystemExit: In place of a ``DynbertError``, with its exit code.
    """
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: click.echo(f"Warning: {message}", err=True)
        try:
            yield
        except DynbertError as err:
            if debug:
                raise
            click.echo(f"Error: {err}", err=True)
            raise SystemExit(err.exit_code) from err
