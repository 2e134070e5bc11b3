"""A listener that tells nothing lets errors through."""

from __future__ import annotations

import pytest

from dynbert_export.progress import SilentProgress


def test_silence_runs_the_block_and_hides_no_error(capsys):
    progress = SilentProgress()
    progress.note("a note")
    with pytest.raises(ValueError, match="a fault"), progress.stage("a stage"):
        raise ValueError("a fault")
    assert capsys.readouterr() == ("", "")
