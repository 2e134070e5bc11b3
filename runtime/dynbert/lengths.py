"""Length configs: how many tokens each layer keeps.

A length config is one number a layer (Kim and Cho 2021, "Length-Adaptive Transformer", section 3.1). It stands on
the light side of the import contract because both sides resolve it: the exporter when it freezes a config into
a graph, the runtime when a caller passes one to the anytime graph. Both must come to the same counts, so fractions
are resolved in integers (millionths), which numpy, torch and ONNX compute alike.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral, Real
from typing import TYPE_CHECKING

from dynbert.errors import LengthConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["FRACTION_SCALE", "Length", "LengthConfig", "minimum_fraction_tokens", "resolve_fraction"]

Length = int | float
"""Tokens kept (int >= 1) or the fraction of the input's length (float in (0, 1])."""

FRACTION_SCALE = 1_000_000
"""Fractions are exact to one millionth; finer digits are rounded away before the count is computed."""

_REMEDY = "Give one number a layer, e.g. 315,251,242,159,142,33 or 0.9,0.8,0.7,0.6,0.5,0.4."
_NUMBER = re.compile(r"[+-]?(\d{1,18}\.?\d{0,18}|\.\d{1,18})([eE][+-]?\d{1,3})?")


def minimum_fraction_tokens(sequence_length: int, *, always_keep_cls_token: bool) -> int:
    """Return the fewest tokens that a fraction resolves to.

    Args:
        sequence_length: Tokens in the input, at least 1.
        always_keep_cls_token: Whether CLS is kept whatever its significance; one other token then stays beside it.

    Returns:
        2 where CLS is kept and there is another token, else 1.
    """
    return min(2 if always_keep_cls_token else 1, sequence_length)


def resolve_fraction(fraction: float, sequence_length: int, *, always_keep_cls_token: bool) -> int:
    """Return the tokens that a fraction of a length stands for: rounded up, and never below the minimum.

    Args:
        fraction: In (0, 1].
        sequence_length: Tokens in the input, at least 1.
        always_keep_cls_token: See ``minimum_fraction_tokens``.

    Returns:
        The count, between ``minimum_fraction_tokens`` and ``sequence_length``.
    """
    numerator = round(fraction * FRACTION_SCALE)
    count = (numerator * sequence_length + FRACTION_SCALE - 1) // FRACTION_SCALE
    return max(count, minimum_fraction_tokens(sequence_length, always_keep_cls_token=always_keep_cls_token))


@dataclass(frozen=True)
class LengthConfig:
    """Tokens kept after each layer: all token counts, or all fractions; never increasing.

    Raises:
        LengthConfigError: On construction, when a rule is broken.
    """

    lengths: tuple[Length, ...]
    """One entry a layer. Ints are token counts (>= 1), floats fractions of the input's length in (0, 1]."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lengths", tuple(_normalize(item, index) for index, item in enumerate(self.lengths)))
        if not self.lengths:
            raise LengthConfigError(f"A length config must have at least one entry, got none. {_REMEDY}")
        kinds = {type(length) for length in self.lengths}
        if len(kinds) > 1:
            raise LengthConfigError(
                "A length config must be all token counts (ints) or all fractions (floats), "
                f"got {self}. Write 1.0 for everything only among fractions."
            )
        for index, (before, after) in enumerate(pairwise(self.lengths), start=1):
            if after > before:
                raise LengthConfigError(
                    f"A length config must not increase from layer to layer, got {after} after {before} "
                    f"at layer {index} of {self}. A dropped token cannot come back."
                )

    @classmethod
    def parse(cls, text: str) -> LengthConfig:
        """Read ``"315,251,242"``, ``"0.9, 0.8"`` or the reference's ``"(315, 251, 242)"``; nothing is evaluated.

        Args:
            text: Numbers separated by commas, in round or square brackets or in none.

        Returns:
            The config.

        Raises:
            LengthConfigError: If it is not such a list, or breaks a rule of length configs.
        """
        body = text.strip()
        for opening, closing in ("()", "[]"):
            if body.startswith(opening) and body.endswith(closing):
                body = body[1:-1].strip().removesuffix(",")
                break
        items = [item.strip() for item in body.split(",")]
        numbers: list[Length] = []
        for index, item in enumerate(items):
            if not _NUMBER.fullmatch(item):
                raise LengthConfigError(f"Length {index} must be a number, got {item!r} in {text!r}. {_REMEDY}")
            numbers.append(float(item) if any(mark in item for mark in ".eE") else int(item))
        return cls(tuple(numbers))

    @classmethod
    def of(cls, value: LengthConfig | str | Iterable[Length]) -> LengthConfig:
        """Return ``value`` as a config, whichever of the accepted forms it has.

        Args:
            value: A config, its text form, or an iterable of numbers (lists, tuples, numpy arrays, tensors of them).

        Returns:
            The config.

        Raises:
            LengthConfigError: If it is none of these, or breaks a rule of length configs.
        """
        if isinstance(value, LengthConfig):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        try:
            items = tuple(value)
        except TypeError as err:
            raise LengthConfigError(
                f"A length config must be a sequence of numbers, got {type(value).__name__}. {_REMEDY}"
            ) from err
        return cls(items)

    @classmethod
    def everything(cls, num_layers: int) -> LengthConfig:
        """Return the config that drops nothing.

        Args:
            num_layers: Hidden layers of the model.

        Returns:
            The fraction 1 for every layer.
        """
        return cls((1.0,) * num_layers)

    @property
    def is_fractional(self) -> bool:
        """Whether the entries are fractions of the input's length."""
        return isinstance(self.lengths[0], float)

    def check_layers(self, num_layers: int) -> None:
        """Check that there is one entry a layer.

        Args:
            num_layers: Hidden layers of the model.

        Raises:
            LengthConfigError: If the counts differ.
        """
        if len(self.lengths) != num_layers:
            raise LengthConfigError(
                f"A length config must have {num_layers} entries, one a layer, got {len(self.lengths)}: {self}."
            )

    def check_max_length(self, max_length: int) -> None:
        """Check that no count exceeds what the model can read.

        Args:
            max_length: Longest input in tokens.

        Raises:
            LengthConfigError: If one does.
        """
        if not self.is_fractional and self.lengths[0] > max_length:
            raise LengthConfigError(
                f"Lengths must be at most the maximum length of {max_length} tokens, got {self.lengths[0]}. "
                "Lower the length, or raise the maximum length where the model allows it."
            )

    def resolve(self, sequence_length: int, *, always_keep_cls_token: bool) -> tuple[int, ...]:
        """Return the tokens kept after each layer for an input of this length.

        Args:
            sequence_length: Tokens in the input (the second dimension of ``input_ids``), at least 1.
            always_keep_cls_token: Whether CLS is kept whatever its significance.

        Returns:
            One count a layer, each between 1 and ``sequence_length``.
        """
        if self.is_fractional:
            return tuple(
                resolve_fraction(length, sequence_length, always_keep_cls_token=always_keep_cls_token)
                for length in self.lengths
            )
        return tuple(min(int(length), sequence_length) for length in self.lengths)

    def __str__(self) -> str:
        return ",".join(str(length) for length in self.lengths)


def _normalize(item: object, index: int) -> Length:
    """Return a plain int or float, from Python, numpy or torch scalars; refuse anything else."""
    try:
        value = item.item() if hasattr(item, "item") else item  # numpy and torch scalars
    except (ValueError, RuntimeError) as err:  # numpy's and torch's way to say that there are several
        raise LengthConfigError(f"Length {index} must be a number, got {item!r}. {_REMEDY}") from err
    if isinstance(value, bool) or not isinstance(value, Real):
        raise LengthConfigError(f"Length {index} must be a number, got {value!r}. {_REMEDY}")
    if isinstance(value, Integral):
        if value < 1:
            raise LengthConfigError(f"Length {index} must be at least 1 token, got {value}. {_REMEDY}")
        return int(value)
    fraction = float(value)
    if not math.isfinite(fraction) or not 0.0 < fraction <= 1.0:
        raise LengthConfigError(
            f"Length {index} must be a whole number of tokens or a fraction in (0, 1], got {value}. {_REMEDY}"
        )
    return max(round(fraction * FRACTION_SCALE), 1) / FRACTION_SCALE
