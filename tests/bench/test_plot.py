"""The plot is a picture."""

from __future__ import annotations

from dynbert_bench.plot import draw_plot
from tests.helpers.results import make_goal_rows, make_results


def test_plot_is_drawn(tmp_path):
    draw_plot(make_results(make_goal_rows()), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
