"""What the commands share: errors and warnings as lines for people, exit codes, and the options of labelled data.

Exit codes: 0 done, 1 something does not work, 2 a wrong option or input; each error class knows its own.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import click

from dynbert.errors import DynbertError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["column_options", "report_problems"]

_COLUMNS = {
    "--text-column": "the text, or of the question; several are joined: title,body. A number where no header is.",
    "--pair-column": "the second text.",
    "--label-column": "the label.",
}


def column_options(*, of: str = "") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command the options which say what the columns of labelled data mean.

    Args:
        of: The option that names the data, where the command has others as well.

    Returns:
        The decorator; the options are ``text_column``, ``pair_column``, ``label_column`` and ``choice_columns``.
    """
    about = f"{of}: column" if of else "Column"

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        options = [click.option(name, metavar="NAME", help=f"{about} of {what}") for name, what in _COLUMNS.items()]
        choices = f"{about}s of the choices. Repeatable."
        options.append(click.option("--choice-column", "choice_columns", multiple=True, metavar="NAME", help=choices))
        for option in reversed(options):  # click lists first what was added last
            command = option(command)
        return command

    return decorate


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
