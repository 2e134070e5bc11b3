"""Checks between a caller's arrays and a graph: what is fed is int64, complete, and within the model's ranges.

A graph itself would answer a wrong id or an empty row with a number, an onnxruntime error or NaN, by its kernels; here
every such input is refused with a reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.manifest import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    from dynbert.lengths import LengthConfig
    from dynbert.manifest import ModelInfo

__all__ = [
    "ATTENTION_MASK",
    "INPUT_IDS",
    "INPUT_NAMES",
    "LENGTH_CONFIG",
    "TOKEN_TYPE_IDS",
    "add_lengths",
    "arrange_rows",
    "check_inputs",
    "input_axes",
    "length_input",
]

INPUT_IDS = "input_ids"
ATTENTION_MASK = "attention_mask"
TOKEN_TYPE_IDS = "token_type_ids"  # noqa: S105 - not a password
INPUT_NAMES = (INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS)
"""What a caller may pass."""
LENGTH_CONFIG = "length_config"
"""The anytime graph's further input, int64 [num_layers]."""


def input_axes(task: Task) -> tuple[str, ...]:
    """Return what the axes of a graph's inputs are; the one place where a task decides the shape of arrays.

    Args:
        task: What the graphs compute.

    Returns:
        Names of the axes, tokens last.
    """
    return ("batch", "choices", "tokens") if task is Task.MULTIPLE_CHOICE else ("batch", "tokens")


def arrange_rows(rows: Mapping[str, NDArray[np.int64]], task: Task) -> dict[str, NDArray[np.int64]]:
    """Return rows of tokens in the shape that the graphs of a task take.

    Args:
        rows: int64 arrays ``[rows, tokens]``.
        task: What the graphs compute.

    Returns:
        The same arrays; for multiple choice ``[rows, 1, tokens]``: each row becomes an example with one choice, whose
        score does not depend on other choices.
    """
    further = (1,) * (len(input_axes(task)) - 2)
    return {name: array.reshape(*array.shape[:-1], *further, array.shape[-1]) for name, array in rows.items()}


def length_input(config: LengthConfig, tokens: int, *, always_keep_cls_token: bool) -> NDArray[np.int64]:
    """Return what an anytime graph takes as ``LENGTH_CONFIG``.

    Args:
        config: One length a layer.
        tokens: In a row of the input, padding included.
        always_keep_cls_token: As the graph was traced.

    Returns:
        Tokens kept after each layer, int64 ``[layers]``.
    """
    return np.array(config.resolve(tokens, always_keep_cls_token=always_keep_cls_token), np.int64)


def add_lengths(
    inputs: Mapping[str, NDArray[np.int64]], config: LengthConfig | None, *, always_keep_cls_token: bool
) -> dict[str, NDArray[np.int64]]:
    """Return inputs with the lengths that an anytime graph takes; a graph that takes none leaves them out.

    Args:
        inputs: int64 arrays in the shape that the task's graphs take; not changed.
        config: One length a layer; None adds nothing.
        always_keep_cls_token: As the graph was traced.

    Returns:
        The inputs.
    """
    if config is None:
        return dict(inputs)
    tokens = inputs[INPUT_IDS].shape[-1]
    return {**inputs, LENGTH_CONFIG: length_input(config, tokens, always_keep_cls_token=always_keep_cls_token)}


def check_inputs(inputs: Mapping[str, ArrayLike], model: ModelInfo) -> dict[str, NDArray[np.int64]]:
    """Check a caller's arrays and complete them.

    Args:
        inputs: ``input_ids`` [batch, tokens], for multiple choice [batch, choices, tokens], of any integer dtype;
            optionally ``attention_mask`` (integers 0/1 or bool; default all ones) and ``token_type_ids`` (integers;
            default all zeros) of the same shape.
        model: Task and ranges to hold them to.

    Returns:
        All three as int64 in the shape of ``input_ids``. The caller's arrays are not changed.

    Raises:
        InputError: If a name, dtype, shape or value breaks a rule.
    """
    unknown = sorted(str(name) for name in set(inputs) - set(INPUT_NAMES))
    if unknown:
        raise InputError(f"Inputs must be among {', '.join(INPUT_NAMES)}, got {', '.join(unknown)}.")
    if INPUT_IDS not in inputs:
        raise InputError(f"Inputs must have {INPUT_IDS}, got {', '.join(inputs) or 'none'}.")
    ids = _check_ids(inputs[INPUT_IDS], model)
    shape = ids.shape
    mask = _check_like(ATTENTION_MASK, inputs[ATTENTION_MASK], shape, 2) if ATTENTION_MASK in inputs else None
    types = (
        _check_like(TOKEN_TYPE_IDS, inputs[TOKEN_TYPE_IDS], shape, model.type_vocab_size)
        if TOKEN_TYPE_IDS in inputs
        else None
    )
    if mask is not None and not mask.any(axis=-1).all():
        row = ", ".join(str(index) for index in np.argwhere(~mask.any(axis=-1))[0])
        raise InputError(f"{ATTENTION_MASK} must have at least one 1 in each row, got none in row {row}.")
    return {
        INPUT_IDS: ids,
        ATTENTION_MASK: np.ones(shape, np.int64) if mask is None else mask,
        TOKEN_TYPE_IDS: np.zeros(shape, np.int64) if types is None else types,
    }


def _check_ids(value: ArrayLike, model: ModelInfo) -> NDArray[np.int64]:
    array = _as_integers(INPUT_IDS, value)
    axes = input_axes(model.task)
    if array.ndim != len(axes) or 0 in array.shape:
        raise InputError(
            f"{INPUT_IDS} must have the shape [{', '.join(axes)}], each at least 1, got {list(array.shape)}."
        )
    if array.shape[-1] > model.max_length:
        raise InputError(
            f"{INPUT_IDS} must have at most {model.max_length} tokens a row, got {array.shape[-1]}. "
            "Truncate the input, or split it with a stride."
        )
    return _check_range(INPUT_IDS, array, model.vocab_size)


def _check_like(name: str, value: ArrayLike, shape: tuple[int, ...], limit: int) -> NDArray[np.int64]:
    array = _as_integers(name, value, allow_bool=name == ATTENTION_MASK)
    if array.shape != shape:
        raise InputError(f"{name} must have the shape of {INPUT_IDS}, {list(shape)}, got {list(array.shape)}.")
    return _check_range(name, array, limit)


def _as_integers(name: str, value: ArrayLike, *, allow_bool: bool = False) -> NDArray[Any]:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as err:  # rows of unequal length
        raise InputError(f"{name} must be a rectangular array of integers, got: {err}") from err
    kinds = "iub" if allow_bool else "iu"
    if array.dtype.kind not in kinds:
        rule = "an integer or bool" if allow_bool else "an integer"
        raise InputError(f"{name} must have {rule} dtype, got {array.dtype}.")
    return array


def _check_range(name: str, array: NDArray[Any], limit: int) -> NDArray[np.int64]:
    # Before the cast: a large uint64 would become a negative int64.
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= limit:
        raise InputError(f"{name} must be between 0 and {limit - 1}, got {low if low < 0 else high}.")
    return array.astype(np.int64)
