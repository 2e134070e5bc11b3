"""Which lengths and layers a batch is trained with: LengthDrop, LayerDrop and the sandwich rule, by a seed.

A step runs the full model, the smallest one, and some random ones between (the sandwich rule, Yu and Huang 2019,
"Universally Slimmable Networks", section 3.1). Random lengths are those of LengthDrop (Kim and Cho 2021,
"Length-Adaptive Transformer", section 3.1): each layer keeps a uniformly random number of the tokens that entered it,
at least the share ``1 - ratio_bound``; the smallest model keeps just that share in every layer. Or the smallest model's
lengths are given, and random ones drawn above them, for profiles that are no such staircase. Random models may leave
out layers as well (Fan et al. 2020, "LayerDrop").

What is drawn depends on the seed, the step and the batch within the step alone, not on a generator's state: so a
training that is resumed draws what the uninterrupted one would have drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dynbert.lengths import LengthConfig, minimum_fraction_tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dynbert_export.options.training import TrainingConfig

__all__ = [
    "SMALLEST",
    "DroppedModel",
    "LengthDrop",
    "make_length_drop",
    "sample_dropped",
    "smallest_fractions",
    "smallest_lengths",
]

SMALLEST = "smallest"
"""Name of the profile that a model is judged by where none was asked for: the least lengths that it is trained for."""


@dataclass(frozen=True)
class LengthDrop:
    """How much is dropped in training."""

    ratio_bound: float = 0.2
    """A layer drops at most this share of the tokens that enter it; in [0, 1). 0.2 is the paper's, for 12 layers."""
    least: LengthConfig | None = None
    """Fractions, one a layer: what the smallest model keeps, and no random one keeps less; None: by the bound."""
    random_models: int = 2
    """Models with random lengths a step, beside the full and the smallest one; at least 0."""
    layer_dropout: float = 0.0
    """Probability with which a random model leaves out a layer; in [0, 1)."""
    always_keep_cls_token: bool = True
    """Whether CLS is kept whatever its significance; it counts among the tokens."""


@dataclass(frozen=True)
class DroppedModel:
    """One of a step's models that are smaller than the full one."""

    lengths: LengthConfig
    """Token counts, one a layer."""
    layers: tuple[int, ...] | None = None
    """Indices of the layers that run; None for all."""


def make_length_drop(config: TrainingConfig) -> LengthDrop:
    """Return what the options of a training say about dropping.

    Args:
        config: The options.

    Returns:
        How much is dropped.
    """
    return LengthDrop(
        ratio_bound=config.ratio_bound,
        least=config.least_lengths,
        random_models=config.random_models,
        layer_dropout=config.layer_dropout,
        always_keep_cls_token=config.always_keep_cls_token,
    )


def smallest_lengths(tokens: int, num_layers: int, drop: LengthDrop) -> LengthConfig:
    """Return the lengths of the smallest model: every layer drops as much as it may of what enters it then.

    Args:
        tokens: Of the input, padding included; at least 1.
        num_layers: Hidden layers.
        drop: How much.

    Returns:
        Token counts, one a layer.
    """
    lengths = []
    for floor in _list_floors(tokens, num_layers, drop):
        tokens = _fewest(tokens, floor, drop)
        lengths.append(tokens)
    return LengthConfig(tuple(lengths))


def smallest_fractions(num_layers: int, drop: LengthDrop) -> LengthConfig:
    """Return the lengths of the smallest model as fractions of an input's length: what a training reaches down to.

    Args:
        num_layers: Hidden layers.
        drop: How much.

    Returns:
        ``least``, or ``(1 - ratio_bound) ** layer`` for layers counted from 1.
    """
    if drop.least is not None:
        return drop.least
    return LengthConfig(tuple(float((1.0 - drop.ratio_bound) ** layer) for layer in range(1, num_layers + 1)))


def sample_dropped(tokens: int, num_layers: int, drop: LengthDrop, *, seed: Sequence[int]) -> tuple[DroppedModel, ...]:
    """Return the dropped models of one batch: the smallest, then random ones.

    Args:
        tokens: Of the batch, padding included; at least 1.
        num_layers: Hidden layers.
        drop: How much.
        seed: Whole numbers that tell this batch from every other; equal ones draw equal models.

    Returns:
        ``1 + drop.random_models`` models.
    """
    generator = np.random.default_rng(seed)
    smallest = DroppedModel(smallest_lengths(tokens, num_layers, drop))
    sampled = (_sample_model(generator, tokens, num_layers, drop) for _ in range(drop.random_models))
    return (smallest, *sampled)


def _sample_model(generator: np.random.Generator, tokens: int, num_layers: int, drop: LengthDrop) -> DroppedModel:
    """Draw a model. A layer that is left out draws a length as the others do: which layers run changes no length."""
    lengths = []
    for floor in _list_floors(tokens, num_layers, drop):
        tokens = int(generator.integers(_fewest(tokens, floor, drop), tokens, endpoint=True))
        lengths.append(tokens)
    if not drop.layer_dropout:
        return DroppedModel(LengthConfig(tuple(lengths)))
    runs = generator.random(num_layers) >= drop.layer_dropout
    return DroppedModel(LengthConfig(tuple(lengths)), tuple(int(layer) for layer in np.flatnonzero(runs)))


def _list_floors(tokens: int, num_layers: int, drop: LengthDrop) -> Sequence[int | None]:
    """Return the fewest tokens of an input that each layer may keep; None where that depends on those that enter it."""
    if drop.least is None:
        return (None,) * num_layers
    return drop.least.resolve(tokens, always_keep_cls_token=drop.always_keep_cls_token)


def _fewest(entering: int, floor: int | None, drop: LengthDrop) -> int:
    """Return the fewest tokens that a layer may keep of those that enter it."""
    if floor is not None:
        return floor
    fewest = math.ceil(round(entering * (1.0 - drop.ratio_bound), 9))  # 10 * (1 - 0.2) is a little more than 8
    return max(fewest, minimum_fraction_tokens(entering, always_keep_cls_token=drop.always_keep_cls_token))
