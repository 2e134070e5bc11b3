"""Where a published graph holds the tokens that its layers keep, and how to look at them without changing the file.

The graphs give what the task asks for and nothing else. Which values inside them hold the kept tokens is said in their
metadata. Those values become outputs of a graph that is opened from bytes: serialised protobuf messages that stand one
after another are one message (repeated fields append, messages merge; "Last One Wins" in protobuf's "Encoding"), so an
ONNX model with outputs alone is put behind the file's bytes, and no package for ONNX is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from dynbert.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["KEPT_TOKENS", "KeptValues", "add_outputs", "kept_indices_name", "read_kept_values"]

KEPT_TOKENS = "dynbert.kept_tokens"
"""The key of a graph's ONNX metadata whose value is a ``KeptValues`` in JSON."""

_INT64_TENSOR = b"\x0a\x02\x08\x07"  # TypeProto: tensor_type (1) { elem_type (1): INT64 (7) }
_VALUE_NAME, _VALUE_TYPE = 1, 2  # of ValueInfoProto
_GRAPH_OUTPUT = 12  # of GraphProto
_MODEL_GRAPH = 7  # of ModelProto

Layer = Annotated[int, Meta(ge=0)]


class KeptValues(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which values of a graph hold the tokens that its layers keep."""

    cuts: dict[Layer, str]
    """Index of each layer that may drop tokens -> name of an int64 value ``[rows, kept]``: ascending indices among the
    tokens that entered the layer. A layer that is not here keeps all of them."""
    first_token_layer: Layer | None = None
    """Index of the last layer where it runs for the first token alone, because the head reads nothing else."""

    def encode(self) -> str:
        """Return the JSON that the metadata has."""
        return msgspec.json.encode(self).decode()

    def trace_row(self, outputs: Mapping[str, NDArray[Any]], tokens: int) -> dict[int, NDArray[np.int64]]:
        """Return the positions that are left of one row after each layer that drops tokens.

        Args:
            outputs: What the graph gave for the row: the value of each cut by its name, int64 ``[kept]``.
            tokens: Tokens in the row, padding included.

        Returns:
            Layer's index -> ascending positions among all tokens of the row, int64 ``[kept]``.

        Raises:
            BundleError: If a value is not what it should be.
        """
        left = np.arange(tokens)
        positions = {}
        for layer, name in sorted(self.cuts.items()):
            kept = outputs[name]
            is_ascending = kept.ndim == 1 and kept.dtype == np.int64 and bool((np.diff(kept) > 0).all())
            if not (is_ascending and kept.size and kept[0] >= 0 and kept[-1] < left.size):
                raise BundleError(
                    f"{name} must be ascending indices below {left.size}, at least one, "
                    f"got {kept.dtype} {np.array2string(kept, threshold=8)}. Export the bundle again."
                )
            left = left[kept]
            positions[layer] = left
        if self.first_token_layer is not None:
            positions[self.first_token_layer] = left[:1]
        return positions


def kept_indices_name(layer: int) -> str:
    """Return what the exporter calls the value that holds a layer's kept tokens, where it has no other name yet.

    Args:
        layer: Index of the layer.

    Returns:
        The name.
    """
    return f"kept_indices.{layer}"


def read_kept_values(metadata: Mapping[str, str], num_layers: int) -> KeptValues | None:
    """Read what a graph's metadata says of the tokens that its layers keep.

    Args:
        metadata: The graph's, key -> value.
        num_layers: Hidden layers of the model.

    Returns:
        What it says; None where it says nothing, as that of graphs before schema 4.

    Raises:
        BundleError: If it cannot be read.
    """
    if KEPT_TOKENS not in metadata:
        return None
    try:
        values = msgspec.json.decode(metadata[KEPT_TOKENS], type=KeptValues)
    except msgspec.DecodeError as err:
        raise BundleError(f"The metadata {KEPT_TOKENS} must name values by layers, got: {err}.") from err
    highest = max((*values.cuts, values.first_token_layer or 0))
    if highest >= num_layers:
        raise BundleError(f"The metadata {KEPT_TOKENS} must name layers below {num_layers}, got {highest}.")
    return values


def add_outputs(model: bytes, names: Sequence[str]) -> bytes:
    """Return a serialised ONNX model that gives some values of its graph as further outputs.

    Args:
        model: The model's bytes.
        names: Values of its outermost graph, int64 tensors of any shape; none twice, none an output already.

    Returns:
        The longer bytes.
    """
    values = (_field(_VALUE_NAME, name.encode()) + _field(_VALUE_TYPE, _INT64_TENSOR) for name in names)
    return model + _field(_MODEL_GRAPH, b"".join(_field(_GRAPH_OUTPUT, value) for value in values))


def _field(number: int, content: bytes) -> bytes:
    """Return a length-delimited field of a protobuf message; ``number`` is below 16."""
    length, size = len(content), b""
    while length > 0x7F:
        size += bytes([length & 0x7F | 0x80])
        length >>= 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content
