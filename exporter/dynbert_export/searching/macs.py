"""Operations of a candidate: what a search by counting chooses by, to compare with one by time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynbert_export.searching.candidate import Body, Candidate

__all__ = ["Widths", "count_macs"]


@dataclass(frozen=True)
class Widths:
    """The sizes of a BERT's products."""

    hidden: int
    intermediate: int


def count_macs(candidate: Candidate, tokens: int, body: Body, widths: Widths) -> int:
    """Return the multiply-accumulate operations of the encoder's products for one input.

    Of a layer that ``a`` tokens enter and ``b`` leave: queries, keys and values of ``a`` tokens, scores and values of
    ``a`` times ``a``, output projection and feed-forward of ``b``. A last layer for CLS alone has one query.

    Args:
        candidate: What runs.
        tokens: In the input.
        body: The model's.
        widths: Of its products.

    Returns:
        The count.
    """
    hidden = widths.hidden
    left = candidate.resolve(tokens, body)
    entering = (tokens, *left)
    passes = [(came, came, went) for came, went in zip(entering, left, strict=False)]
    if body.has_single_token_layer:
        passes.append((entering[-1], 1, 1))
    total = 0
    for came, asked, went in passes:
        total += hidden * hidden * (asked + 2 * came)
        total += 2 * hidden * asked * came
        total += went * (hidden * hidden + 2 * hidden * widths.intermediate)
    return total
