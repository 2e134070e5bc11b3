"""Tables for people, as the ``dynbert`` command prints them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["format_table", "shorten"]

_TEXT_WIDTH = 48


def format_table(rows: Sequence[Sequence[str]], headers: Sequence[str] = ()) -> str:
    """Return rows under each other, columns aligned.

    Args:
        rows: The cells, as they are to be printed.
        headers: One a column; none for a table without a head.

    Returns:
        Lines of text.
    """
    from tabulate import tabulate  # only the command prints: importing dynbert does not pay for it

    # Numbers are formatted already: tabulate must not read 1.0000 as 1, or a file name as a number.
    return tabulate(rows, headers=headers, tablefmt="simple" if headers else "plain", disable_numparse=True)


def shorten(text: str, width: int = _TEXT_WIDTH) -> str:
    """Return a text as one line that fits into a table.

    Args:
        text: Any text.
        width: Most characters, at least 1.

    Returns:
        At most so many characters; a longer text ends with an ellipsis.
    """
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
