"""What a search chooses between: a length config, and the layers that run under it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dynbert.lengths import LengthConfig

__all__ = ["Body", "Candidate", "resolve_key"]


@dataclass(frozen=True)
class Body:
    """What lengths act on: the facts of a model that decide what a length config means."""

    num_layers: int
    """Hidden layers."""
    cutting_layers: int
    """Layers that can drop tokens: all, or all but the last where the head reads CLS alone
    (``graph/single_token.py``)."""
    max_length: int
    """Longest input in tokens."""
    always_keep_cls_token: bool

    @property
    def has_single_token_layer(self) -> bool:
        """Whether the last layer runs for one token."""
        return self.cutting_layers < self.num_layers


@dataclass(frozen=True)
class Candidate:
    """One way to run the model."""

    lengths: LengthConfig
    """Tokens kept after each layer, one entry a layer of the model; those of layers that do not run say nothing."""
    layers: tuple[int, ...] | None = None
    """Indices of the layers that run, ascending; None for all."""

    def list_running(self, body: Body) -> tuple[int, ...]:
        """Return the layers that run.

        Args:
            body: The model's.

        Returns:
            Their indices, ascending.
        """
        return tuple(range(body.num_layers)) if self.layers is None else self.layers

    def list_cutting(self, body: Body) -> tuple[int, ...]:
        """Return the layers that run and can drop tokens.

        Args:
            body: The model's.

        Returns:
            Their indices, ascending. Where the last layer runs for one token, whichever runs last does.
        """
        running = self.list_running(body)
        return running[:-1] if body.has_single_token_layer else running

    def resolve(self, tokens: int, body: Body) -> tuple[int, ...]:
        """Return the tokens that leave each layer of ``list_cutting``.

        Args:
            tokens: In the input, at least 1.
            body: The model's.

        Returns:
            One count a layer, non-increasing. What leaves a layer enters the next one that runs.
        """
        counts = self.lengths.resolve(tokens, always_keep_cls_token=body.always_keep_cls_token)
        return tuple(counts[layer] for layer in self.list_cutting(body))

    def find_cuts(self, body: Body) -> tuple[bool, ...]:
        """Return which layers have a cut in the frozen graph: those that drop a token of some input.

        Args:
            body: The model's.

        Returns:
            One truth a layer of ``list_cutting``, as ``graph/freeze.py`` decides it.
        """
        everything = 1.0 if self.lengths.is_fractional else body.max_length
        lengths = [self.lengths.lengths[layer] for layer in self.list_cutting(body)]
        return tuple(
            after < min(entering, everything) for entering, after in zip((everything, *lengths), lengths, strict=False)
        )

    def is_full(self, body: Body) -> bool:
        """Return whether nothing is left out: no layer, and no token of any input.

        Args:
            body: The model's.

        Returns:
            Whether it is what the profile *full* runs.
        """
        return self.layers is None and not any(self.find_cuts(body))

    def __str__(self) -> str:
        layers = "" if self.layers is None else f" in layers {','.join(map(str, self.layers))}"
        return f"{self.lengths}{layers}"


def resolve_key(candidate: Candidate, tokens: Iterable[int], body: Body) -> str:
    """Return what two candidates have in common that do the same to some inputs, and so give the same answers.

    Args:
        candidate: The candidate.
        tokens: Lengths of the inputs.
        body: The model's.

    Returns:
        A digest of the counts at every length, 16 hexadecimal digits.
    """
    counts = [candidate.resolve(length, body) for length in sorted(set(tokens))]
    return hashlib.sha256(f"{candidate.layers} {counts}".encode()).hexdigest()[:16]
