"""Files of labelled data for the tests."""

from __future__ import annotations

import pytest


@pytest.fixture
def write(tmp_path):
    """Return a function that writes a file, from text or bytes."""

    def write_file(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file
