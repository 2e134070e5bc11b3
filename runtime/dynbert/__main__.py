"""``python -m dynbert``: the ``dynbert`` command."""

from __future__ import annotations

from dynbert.cli import main

if __name__ == "__main__":
    main()
