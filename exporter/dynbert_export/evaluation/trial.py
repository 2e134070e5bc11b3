"""Trial runs of graphs that nobody publishes: of a candidate, or with more outputs than it will have."""

from __future__ import annotations

import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from dynbert.session import open_graph
from dynbert_export.graph.weights_file import save_sharing_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import onnx_ir as ir

    from dynbert_export.data.feeds import Feed
    from dynbert_export.evaluation.agreement import Outputs

__all__ = ["opened"]


@contextlib.contextmanager
def opened(model: ir.Model, *, threads: int | None) -> Iterator[Callable[[Feed], Outputs]]:
    """Open a graph from a temporary folder, whatever its size, and let it be run.

    Args:
        model: The graph; not changed.
        threads: Threads that compute; None for the usable cores.

    Yields:
        From a feed, of which inputs that the graph does not have are left out, to its outputs.
    """
    with TemporaryDirectory(prefix="dynbert-trial-") as folder:
        [path] = save_sharing_weights({"trial.onnx": model}, Path(folder), "weights.bin")
        yield open_graph(path, threads=threads, any_inputs=True).run
