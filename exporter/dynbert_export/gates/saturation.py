"""The proof that the kernels of a graph's target add its products up exactly, weight by weight.

x86 without VNNI multiplies u8 activations by s8 weights with ``vpmaddubsw``: it adds two products, of neighbouring
rows of the weight, into 16 bits, and clips what does not fit. (AVX-512 without VNNI and SSE do the same; what comes
after it is 32 bits wide.) With weights in [-127, 127] the worst pair is 255 * 254 = 64770, twice what fits. A sum of
two cannot leave the 16 bits whatever the activations are, if no two weights of one column and of one sign have
absolute values that add up to more than ``LARGEST_PAIR``: an activation is 255 at most, and one of 0 takes out a
weight of the other sign. Weights of seven bits, [-64, 64], keep this by their definition.

The rows that the kernels pair are 2i and 2i + 1. The gate asks it of any two rows: it costs nothing, and then holds
for every order in which a kernel may pack its rows.

The other targets take all of [-127, 127], but not -128: VNNI, AMX and arm64's dot products add up in 32 bits, but the
NEON kernel that onnxruntime has for arm64 without dot products subtracts 128 from the activations and adds two products
in 16 bits. 2 * 128 * 127 = 32512 fits there, 2 * 128 * 128 does not.

Attention scores have keys where other products have weights. What a ``Clip`` leaves of them is held to the same rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from dynbert_export.errors import GateError
from dynbert_export.graph.editing import LAYOUT, constant_array, producer_of, trace_back
from dynbert_export.graph.int8_operator import INT8_OPERATOR, int8_products

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from dynbert.manifest import Target

__all__ = ["LARGEST_PAIR", "check_no_saturation", "largest_pair"]

LARGEST_PAIR = np.iinfo(np.int16).max // np.iinfo(np.uint8).max
"""128: 255 * 128 = 32640 fits into 16 bits, 255 * 129 does not."""
_LARGEST_WEIGHT = 127


def check_no_saturation(path: Path, *, target: Target) -> int:
    """See that no product of a graph can leave the 16 bits that its target's kernels add pairs up in.

    Args:
        path: A published INT8 graph.
        target: What it is for.

    Returns:
        The weights that were checked.

    Raises:
        GateError: If a weight is no s8 constant, or there is none to check; if it has, for AVX2, two values of one sign
            in a column that are too large together, or, for the others, a value of -128.
    """
    rule = "s8 weights must be in [-127, 127]"
    if not target.is_full_range:
        rule = f"any two s8 weights of one column and sign must add up to at most {LARGEST_PAIR}"
    faults, found = [], 0
    for name, weight in _weights(ir.load(path)):
        found += 1
        if weight is None or weight.dtype != np.int8:
            faults.append(f"{name} with weights that are {'not known' if weight is None else weight.dtype}")
        elif target.is_full_range and weight.astype(np.int64).min() < -_LARGEST_WEIGHT:
            faults.append(f"{name} with a weight of -128")
        elif not target.is_full_range and (pair := largest_pair(weight.astype(np.int8))) > LARGEST_PAIR:
            faults.append(f"{name} with a pair of {pair}")
    if not found:
        faults.append(f"no {INT8_OPERATOR}")
    if faults:
        raise GateError(
            f"{path.name}: {rule} for {target.value}, got {'; '.join(faults)}. "
            "This is a fault of the quantiser: export with another --target and report it."
        )
    return found


def largest_pair(weight: NDArray[np.int8]) -> int:
    """Return the largest sum of the absolute values of two weights of one column and one sign.

    Args:
        weight: s8 ``[rows, columns]``.

    Returns:
        The sum; with one row, that row's largest absolute value.
    """
    wide = weight.astype(np.int64)
    return max(_top_two(np.maximum(wide, 0)), _top_two(np.maximum(-wide, 0)))


def _top_two(magnitudes: NDArray[np.int64]) -> int:
    largest = np.partition(magnitudes, max(0, len(magnitudes) - 2), axis=0)[-2:]
    return int(largest.sum(axis=0).max(initial=0))


def _weights(model: ir.Model) -> Iterator[tuple[str, NDArray[np.generic] | None]]:
    for node, product in int8_products(model):
        weight = constant_array(product.weight)
        yield node.name or INT8_OPERATOR, _clipped(product.weight) if weight is None else weight


def _clipped(value: ir.Value) -> NDArray[np.generic] | None:
    """Return a column with each end of what a value is clipped to twice, the worst pairs; None where it is not."""
    clip = producer_of(trace_back(value, *LAYOUT), "Clip")
    ends = [] if clip is None else [constant_array(end) for end in clip.inputs[1:3]]
    arrays = [end.reshape(1) for end in ends if end is not None]
    return np.concatenate([*arrays, *arrays])[:, np.newaxis] if len(arrays) == 2 else None
