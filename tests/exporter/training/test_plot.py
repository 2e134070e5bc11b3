"""The picture of a training has a line for each loss and each profile."""

from __future__ import annotations

import pytest

from dynbert_export.training.plot import plot_training

_PNG = b"\x89PNG\r\n"
_ENTRIES = [
    {"step": 1, "loss": 2.0},
    {"step": 2, "loss": 1.0, "full_loss": 0.7, "smallest_loss": 0.1},
    {"step": 2, "eval_full_f1": 0.5, "eval_my_way_f1": 0.4, "eval_full_loss": 9.0, "eval_score": 0.45},
    {"step": 3, "loss": 0.5, "full_loss": 0.4, "smallest_loss": 0.05},
    {"step": 3, "final_full_f1": 0.9, "final_score": 0.9},
]


@pytest.fixture
def drawn(monkeypatch):
    """Hold the lines of the pictures that are drawn: label -> points."""
    from matplotlib.figure import Figure

    lines = {}
    real = Figure.savefig

    def savefig(self, *arguments, **options):
        for axes in self.axes:
            lines.update({line.get_label(): list(zip(*line.get_data(), strict=True)) for line in axes.get_lines()})
        return real(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    return lines


def test_losses_and_profiles_are_lines(tmp_path, drawn):
    path = tmp_path / "training.png"
    plot_training(path, _ENTRIES, metric="f1", before={"full": 0.2, "my_way": 0.1})
    assert path.read_bytes().startswith(_PNG)
    assert drawn == {
        "sum": [(1, 2.0), (2, 1.0), (3, 0.5)],
        "full": [(0, 0.2), (2, 0.5)],
        "smallest, from full": [(2, 0.1), (3, 0.05)],
        "my_way": [(0, 0.1), (2, 0.4)],
    } | {"full": drawn["full"]}
    assert len(drawn["full"]) == 2


def test_a_training_without_entries_has_a_picture(tmp_path, drawn):
    plot_training(tmp_path / "training.png", [], metric="f1", before={"full": 0.2})
    assert drawn == {"full": [(0, 0.2)]}
