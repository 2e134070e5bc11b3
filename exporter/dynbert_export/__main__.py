"""``python -m dynbert_export``: the ``dynbert-export`` command."""

from __future__ import annotations

from dynbert_export.cli import main

if __name__ == "__main__":
    main()
