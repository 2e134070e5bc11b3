"""Tables for people."""

from __future__ import annotations

import pytest

from dynbert.tables import format_table, shorten


def test_table_keeps_cells_as_they_are():
    assert format_table([("1.0000", "1e5")], ["a", "b"]).splitlines() == ["a       b", "------  ---", "1.0000  1e5"]
    assert format_table([("1.0", "x"), ("22", "y")]).splitlines() == ["1.0  x", "22   y"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("the book", "the book"),
        (" the\n\tbook ", "the book"),
        ("x" * 48, "x" * 48),
        ("x" * 49, "x" * 47 + "…"),
        ("", ""),
    ],
)
def test_shorten_gives_one_line_of_48_characters(text, shown):
    assert shorten(text) == shown


def test_shorten_takes_a_width():
    assert shorten("the good book", 8) == "the goo…"
    assert shorten("the good", 8) == "the good"
