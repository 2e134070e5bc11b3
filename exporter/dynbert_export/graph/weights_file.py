"""Graphs that share one weights file.

All graphs of one precision have the same large tensors. They are written once, to ``weights.PRECISION.bin``, and every
graph refers to its part of that file (ONNX external data). The file lies beside the graphs under a plain name: neither
onnx nor onnxruntime follows a path out of the folder. Offsets are aligned so that onnxruntime can map the file.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["save_beside_weights", "save_sharing_weights"]

_SHARED_FROM_BYTES = 1024
"""Smaller constants stay in the graph: shapes, scales, the lengths that make graphs differ."""
_ALIGNMENT_BYTES = 4096


def save_sharing_weights(models: Mapping[str, ir.Model], folder: Path, weights_file: str) -> list[Path]:
    """Write graphs and the one file that holds their large constants.

    Args:
        models: File name -> graph; not changed.
        folder: Where to write; must exist.
        weights_file: Plain name of the shared file.

    Returns:
        The graphs' paths, in their order.
    """
    copies = {name: model.clone() for name, model in models.items()}
    shared: dict[str, ir.TensorProtocol] = {}
    uses: list[tuple[ir.Value, str]] = []
    digests: dict[int, str] = {}
    for model in copies.values():
        for value in model.graph.initializers.values():
            tensor = value.const_value
            if tensor is None or tensor.nbytes < _SHARED_FROM_BYTES:
                continue
            if id(tensor) not in digests:  # clones share tensor objects: hash each once, whatever the number of graphs
                digests[id(tensor)] = _digest(tensor)
            key = digests[id(tensor)]
            shared.setdefault(key, tensor)
            uses.append((value, key))
    external = ir.external_data.convert_tensors_to_external(
        list(shared.values()), folder, weights_file, alignment=_ALIGNMENT_BYTES
    )
    by_key = dict(zip(shared, external, strict=True))
    for value, key in uses:
        stored = by_key[key]
        value.const_value = ir.ExternalTensor(
            location=weights_file,
            offset=stored.offset,
            length=stored.length,
            dtype=stored.dtype,
            shape=stored.shape,
            name=value.name or "",
            base_dir=folder,
        )
    paths = []
    for name, model in copies.items():
        ir.save(model, folder / name)
        paths.append(folder / name)
    return paths


def save_beside_weights(model: ir.Model, path: Path, weights_file: str) -> None:
    """Write a graph whose large constants are in a weights file that is there already.

    Args:
        model: The graph, made of one that was read from the folder.
        path: Where to write, in the folder of the weights; appears whole.
        weights_file: Plain name of the file.

    Raises:
        ValueError: If a large constant is not in that file.
    """
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if tensor is None or tensor.nbytes < _SHARED_FROM_BYTES:
            continue
        if not isinstance(tensor, ir.ExternalTensor) or tensor.location != weights_file:
            raise ValueError(f"Constants of {_SHARED_FROM_BYTES} bytes and more must be in {weights_file}, got {name}.")
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        ir.save(model, unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _digest(tensor: ir.TensorProtocol) -> str:
    digest = hashlib.sha256(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
    digest.update(tensor.tobytes())
    return digest.hexdigest()
