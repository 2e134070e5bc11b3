"""A bundle's probe: a recorded input with each graph's outputs. The exporter writes it, ``dynbert verify`` reads it.

It is a ``.npz`` archive of ``input.NAME`` arrays and ``GRAPH_FILE/OUTPUT`` arrays.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from dynbert.session import Graph

__all__ = ["PROBE_FILE", "input_key", "output_key", "read_probe", "record_run", "write_probe"]

PROBE_FILE = "probe.npz"
"""What the exporter calls it; a manifest may say otherwise."""


def input_key(name: str) -> str:
    """Return the name of an input's array in the archive.

    Args:
        name: The graph's input.

    Returns:
        The name.
    """
    return f"input.{name}"


def output_key(file: str, name: str) -> str:
    """Return the name of an output's array in the archive.

    Args:
        file: Of the graph.
        name: The graph's output.

    Returns:
        The name.
    """
    return f"{file}/{name}"


def record_run(graph: Graph, inputs: Mapping[str, NDArray[np.int64]]) -> dict[str, NDArray[Any]]:
    """Run a graph, and return what a probe has of that.

    Args:
        graph: An open graph.
        inputs: int64 arrays; those that the graph does not declare are left out.

    Returns:
        The arrays of its inputs and outputs, by their names in the archive.

    Raises:
        BundleError: If the graph cannot be run.
    """
    taken = graph.select(inputs)
    recorded: dict[str, NDArray[Any]] = {input_key(name): array for name, array in taken.items()}
    return recorded | {output_key(graph.path.name, name): array for name, array in graph.run(taken).items()}


def write_probe(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a probe.

    Args:
        path: The file; ends in ``.npz``.
        arrays: By their names in the archive.
    """
    np.savez(path, **arrays)


def read_probe(path: Path) -> dict[str, NDArray[Any]]:
    """Read a probe.

    Args:
        path: The file.

    Returns:
        The arrays by their names in the archive.

    Raises:
        BundleError: If it is no archive of plain arrays.
    """
    try:
        # A .npy file of the same name would come back as an array; only an archive has arrays by name.
        if not zipfile.is_zipfile(path):
            raise BundleError("The probe must be a .npz archive, got another kind of file.")
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as err:  # RuntimeError: "is encrypted"
        raise BundleError(f"The probe must be a .npz archive of plain arrays, got: {err}.") from err
