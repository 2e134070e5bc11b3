"""A training as a picture: the losses, and the metric of every profile, by step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["plot_training"]

_LOSSES = {"loss": "sum", "full_loss": "full", "smallest_loss": "smallest, from full"}
"""Key in the log -> what the picture calls it."""


def plot_training(
    path: Path, entries: Sequence[Mapping[str, Any]], *, metric: str, before: Mapping[str, float]
) -> None:
    """Draw a training.

    Args:
        path: The picture, PNG.
        entries: Of the log.
        metric: What profiles are judged by.
        before: Profile -> how good it was before training.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, scores = figure.subplots(1, 2)
    for key, label in _LOSSES.items():
        points = [(entry["step"], entry[key]) for entry in entries if key in entry]
        if points:
            losses.plot(*zip(*points, strict=True), label=label)
    for profile, score in before.items():
        key = f"eval_{profile}_{metric}"
        points = [(0, score), *((entry["step"], entry[key]) for entry in entries if key in entry)]
        scores.plot(*zip(*points, strict=True), marker="o", label=profile)
    for axes, title in ((losses, "Loss"), (scores, metric.replace("_", " "))):
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.get_lines():
            axes.legend()
    figure.savefig(path, dpi=120)
