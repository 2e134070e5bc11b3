"""How long the data's inputs are, in a few numbers: what a candidate's time on the data is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynbert_export.searching.candidate import Body, Candidate
    from dynbert_export.searching.time_model import TimeModel

__all__ = ["DataLengths", "describe_lengths"]

_SAMPLE = 8
"""Lengths that stand for all: the middles of so many equal parts of the rows, put in order."""
_MARKS = (0.1, 0.5, 0.9, 1.0)


@dataclass(frozen=True)
class DataLengths:
    """Lengths of the rows that a graph runs, in tokens."""

    sample: tuple[int, ...]
    """Each stands for as many rows."""
    marks: tuple[int, ...]
    """The 10th, 50th and 90th percentile, and the longest."""
    distinct: tuple[int, ...]
    """Every length there is, ascending."""
    rows_per_input: float
    """Windows of long texts, and choices, are rows of one input."""

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return self.distinct[-1]

    def mean_seconds(self, model: TimeModel, candidate: Candidate, body: Body) -> float:
        """Return what an input takes on average, by the time model.

        Args:
            model: The costs.
            candidate: What runs, its lengths frozen.
            body: The model's.

        Returns:
            Seconds.
        """
        times = [model.predict(candidate, tokens, body) for tokens in self.sample]
        return self.rows_per_input * sum(times) / len(times)


def describe_lengths(rows_of_inputs: Sequence[Sequence[int]]) -> DataLengths:
    """Describe the lengths of data.

    Args:
        rows_of_inputs: For each input the tokens of its rows; at least one row in all.

    Returns:
        The description.
    """
    rows = np.sort([tokens for rows in rows_of_inputs for tokens in rows])
    middles = (np.arange(_SAMPLE) + 0.5) / _SAMPLE
    return DataLengths(
        sample=tuple(int(length) for length in np.quantile(rows, middles, method="inverted_cdf")),
        marks=tuple(dict.fromkeys(int(length) for length in np.quantile(rows, _MARKS, method="inverted_cdf"))),
        distinct=tuple(int(length) for length in np.unique(rows)),
        rows_per_input=len(rows) / len(rows_of_inputs),
    )
