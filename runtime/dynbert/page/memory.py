"""What a bundle takes: on disk, by the manifest, and in memory, measured in a process of its own.

Memory is the proportional set size: pages that graphs map from one file count once. Only Linux tells it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from dynbert.errors import BundleError
from dynbert.graph_rows import size_text
from dynbert.manifest import ANYTIME, Precision
from dynbert.selection import select_graphs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynbert.manifest import GraphEntry, Manifest, Target

__all__ = ["FileRow", "MemoryRow", "MemoryUse", "list_files_by_use", "measure_memory"]

_SMAPS = Path("/proc/self/smaps_rollup")
_SECONDS = 600
_ONNX = ".onnx"
_WEIGHTS = "weights."
_RUN_TOKENS = 128


@dataclass(frozen=True)
class FileRow:
    """Some files of a bundle and their size together."""

    name: str
    files: str
    size: str
    share: int
    """Of the whole bundle, percent."""


def list_files_by_use(manifest: Manifest) -> tuple[tuple[FileRow, ...], str]:
    """Return what takes room on disk.

    Args:
        manifest: The bundle's.

    Returns:
        Weights, graphs of each number format, and the rest; and the sum of all.
    """
    total = sum(entry.bytes for entry in manifest.entries)
    rows = []

    def add(name: str, entries: Sequence[tuple[str, int]]) -> None:
        size = sum(bytes_ for _, bytes_ in entries)
        names = entries[0][0] if len(entries) == 1 else f"{len(entries)} files"
        rows.append(FileRow(name, names, size_text(size), round(100 * size / max(1, total))))

    for entry in manifest.files:
        if entry.file.startswith(_WEIGHTS):
            label = entry.file.removeprefix(_WEIGHTS).removesuffix(".bin")
            count = sum(graph.file.endswith(f".{label}{_ONNX}") for graph in manifest.graphs)
            add(f"Weights that {count} graphs share", [(entry.file, entry.bytes)])
    by_format: dict[str, list[tuple[str, int]]] = {}
    for graph in manifest.graphs:
        name = graph.precision.value if graph.target is None else f"{graph.precision.value} {graph.target.value}"
        by_format.setdefault(name, []).append((graph.file, graph.bytes))
    for name, entries in by_format.items():
        add(f"{name} graphs, one a profile", entries)
    rest = [(entry.file, entry.bytes) for entry in manifest.files if not entry.file.startswith(_WEIGHTS)]
    if rest:
        add("Tokenizer, configuration and records", rest)
    return tuple(rows), size_text(total)


@dataclass(frozen=True)
class MemoryRow:
    """What one step of opening a bundle adds to a process."""

    name: str
    megabytes: float
    share: int
    """Of what the process takes in the end, percent."""


@dataclass(frozen=True)
class MemoryUse:
    """Memory of a process that opens one profile after the other."""

    rows: tuple[MemoryRow, ...]
    total_megabytes: float
    number_formats: str
    """Of the graphs that were opened."""


def measure_memory(bundle: Path, manifest: Manifest, *, machine: Target | None, threads: int) -> MemoryUse | None:
    """Measure, in a new process, what the graphs take that this machine would run: open, and run once.

    Args:
        bundle: The bundle's folder.
        manifest: Its manifest.
        machine: Best INT8 instruction set of the machine.
        threads: Threads that compute.

    Returns:
        What was measured; None where the system does not tell.

    Raises:
        BundleError: If a graph cannot be opened or run.
    """
    if not _SMAPS.exists():
        return None
    graphs = {name: graph for name, graph in select_graphs(manifest, machine=machine).items() if name != ANYTIME}
    arguments = json.dumps([str(bundle.absolute()), threads, *(graph.file for graph in graphs.values())])
    command = [sys.executable, "-m", __name__, arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SECONDS)  # noqa: S603 - ours
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
    except subprocess.TimeoutExpired:
        done, reason = None, f"no answer within {_SECONDS} s"
    if done is None or done.returncode:
        raise BundleError(f"{bundle} must open in a process of its own, got: {reason}. Try dynbert verify.")
    return _as_rows(graphs, json.loads(done.stdout))


def _as_rows(graphs: Mapping[str, GraphEntry], kilobytes: Sequence[int]) -> MemoryUse:
    steps = [kilobytes[0], *(max(0, after - before) for before, after in pairwise(kilobytes))]
    total = max(1, sum(steps))
    names = ["Python, onnxruntime and dynbert", *graphs]
    rows = tuple(
        MemoryRow(name, step / 1e3, round(100 * step / total)) for name, step in zip(names, steps, strict=True)
    )
    formats = dict.fromkeys(
        Precision.FP32.value if graph.target is None else f"{graph.precision.value} {graph.target.value}"
        for graph in graphs.values()
    )
    return MemoryUse(rows, total / 1e3, ", ".join(formats))


def _open_all(bundle: Path, files: Sequence[str], *, threads: int) -> list[int]:
    """Open graphs one after the other, and run each once: what the new process does.

    Returns the process's proportional set size before the first and after each, in kB.
    """
    import numpy as np
    import onnxruntime  # noqa: F401 - what every bundle needs is no part of the first graph

    from dynbert.inputs import arrange_rows
    from dynbert.manifest import read_manifest
    from dynbert.session import open_graph
    from dynbert.sweep import random_rows

    model = read_manifest(bundle).model
    rows = random_rows(np.random.default_rng(0), (1, min(_RUN_TOKENS, model.max_length)), model)
    feed = arrange_rows(rows, model.task)
    sizes, opened = [_read_pss()], []
    for file in files:
        opened.append(open_graph(bundle / file, threads=threads))
        opened[-1].run(feed)
        sizes.append(_read_pss())
    return sizes


def _read_pss() -> int:
    lines = _SMAPS.read_text(encoding="ascii").splitlines()
    [size] = [int(line.split()[1]) for line in lines if line.startswith("Pss:")]
    return size


if __name__ == "__main__":
    folder, thread_count, *names = json.loads(sys.argv[1])
    print(json.dumps(_open_all(Path(folder), names, threads=thread_count)))  # noqa: T201 - the answer to the parent
