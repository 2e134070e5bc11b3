"""onnxruntime sessions: one way to open them, and when.

Threads. By default each session has a pool of its own whose threads sleep between operators instead of spinning: idle
graphs then cost nothing, several graphs of a bundle do not slow each other down, and nothing outside dynbert changes.
onnxruntime's alternative, one pool for all sessions of the process, is a choice for the program that owns the process
(``share_threads``): once that pool exists, onnxruntime refuses every session of any library that does not ask for it,
and its threads spin. Measured with two threads on two cores, three graphs of 36 matrix products each, 128 tokens:
sleeping pools 14.2 ms, the shared pool 13.4 ms, spinning pools 13.4 ms for one graph and twice that for three by turns;
beside other busy processes sleeping pools 27 ms, the shared one 49 ms, spinning ones 67 to 100 ms.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dynbert.cpu import usable_cores
from dynbert.errors import BundleError, InputError
from dynbert.inputs import INPUT_NAMES, LENGTH_CONFIG
from dynbert.kept_values import add_outputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Graph", "GraphCache", "check_threads", "open_graph", "open_session", "share_threads"]

_PROVIDERS = ["CPUExecutionProvider"]
_DISABLED_OPTIMIZERS = ["SkipLayerNormFusion"]
"""The fused kernel takes up to 1.4 times as long as Add followed by LayerNormalization: ``dynbert bench`` shows
it where this is emptied."""
_LOG_ERRORS_ONLY = 3
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


class _SharedPool:
    """The pool that ``share_threads`` made, if it did."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.threads: int | None = None


_POOL = _SharedPool()


def share_threads(threads: int | None = None) -> int:
    """Let all onnxruntime sessions of this process compute on one pool of threads.

    For programs, at their start, and not for libraries: from then on onnxruntime refuses every session of the process
    that does not set ``use_per_session_threads = False``; dynbert's sessions do. The pool cannot be resized or undone.

    Args:
        threads: Threads that compute, the caller's included; None for the usable cores, or for the pool there is.

    Returns:
        Threads of the pool.

    Raises:
        InputError: If ``threads`` is no positive number, or the process has a pool of another size already.
    """
    _check_number(threads)
    import onnxruntime

    with _POOL.lock:
        if _POOL.threads is None:
            wanted = threads or usable_cores()
            try:
                onnxruntime.set_global_thread_pool_sizes(wanted, 1)
            except _onnxruntime_errors() as err:
                raise InputError(
                    f"share_threads must come before other code makes onnxruntime's shared pool, got: {err}. "
                    "Leave it out: dynbert's sessions join that pool by themselves."
                ) from err
            _POOL.threads = wanted
    check_threads(threads)
    return _POOL.threads


def check_threads(threads: int | None) -> None:
    """Check a number of threads that sessions are to compute on.

    Args:
        threads: The number, or None for the default.

    Raises:
        InputError: If it is no positive number, or the process shares a pool of another size.
    """
    _check_number(threads)
    if _POOL.threads is not None and threads not in {None, _POOL.threads}:
        raise InputError(
            f"threads must be None or {_POOL.threads}, the size of the pool that this process shares, got {threads}. "
            "The pool cannot be resized: choose another number in share_threads, or use another process."
        )


def open_session(
    path: Path,
    *,
    threads: int | None = None,
    optimized_model: Path | None = None,
    extra_outputs: Sequence[str] = (),
) -> Any:
    """Open a graph with the options that every dynbert session has: CPU only, no slow fusions, no spinning.

    Args:
        path: The ``.onnx`` file; its weights lie in the same folder.
        threads: Threads that compute, the caller's included; None for the usable cores, or for the pool that the
            process shares.
        optimized_model: Where to save the graph that onnxruntime made of it and really runs; None to save nothing.
        extra_outputs: Values inside the graph to give as well, as for ``kept_values.add_outputs``.

    Returns:
        The ``onnxruntime.InferenceSession``.

    Raises:
        BundleError: If onnxruntime cannot load the graph, or would not run it on the CPU.
        InputError: If ``threads`` is no positive number, or the process shares a pool of another size.
    """
    check_threads(threads)
    import onnxruntime

    try:
        source = _GraphSource(path, add_outputs(path.read_bytes(), extra_outputs) if extra_outputs else None)
        session = _create(source, threads, optimized_model)
    except InputError:  # a ValueError too
        raise
    except _onnxruntime_errors() as err:
        raise BundleError(
            f"{path} must be a graph that onnxruntime {onnxruntime.__version__} can load, got: {err}. "
            "Export the bundle again, or install the onnxruntime that its manifest names."
        ) from err
    if session.get_providers() != _PROVIDERS:
        raise BundleError(f"{path} must run on {_PROVIDERS[0]}, got {', '.join(session.get_providers())}.")
    return session


@dataclass(frozen=True)
class _GraphSource:
    """What a session is made of."""

    path: Path
    content: bytes | None
    """In place of the file's own, where that is to be run otherwise than it stands there."""


def _create(source: _GraphSource, threads: int | None, optimized_model: Path | None) -> Any:
    if _POOL.threads is not None:
        return _create_with(source, None, optimized_model)
    try:
        return _create_with(source, threads or usable_cores(), optimized_model)
    except RuntimeError as err:
        # Either the graph is at fault, or other code shares a pool: nothing tells but another try.
        try:
            joined = _create_with(source, None, optimized_model)
        except RuntimeError:
            raise err from None
        if threads is not None:
            raise InputError(
                f"threads must be None where other code has made onnxruntime's shared pool, got {threads}."
            ) from err
        return joined


def _create_with(source: _GraphSource, own_threads: int | None, optimized_model: Path | None) -> Any:
    """Create a session with a pool of its own, or on the process's (None)."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_ERRORS_ONLY
    if optimized_model is not None:
        options.optimized_model_filepath = str(optimized_model)
    if own_threads is None:
        options.use_per_session_threads = False
    else:
        options.intra_op_num_threads = own_threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if source.content is not None:  # which does not say where its weights lie
        options.add_session_config_entry(_WEIGHTS_FOLDER, str(source.path.parent))
    return onnxruntime.InferenceSession(
        source.path if source.content is None else source.content,
        options,
        providers=_PROVIDERS,
        disabled_optimizers=_DISABLED_OPTIMIZERS,
        enable_fallback=0,  # it would print to standard output, and try the same provider again
    )


@dataclass(frozen=True)
class Graph:
    """An open graph: the one way to run one."""

    path: Path
    session: Any
    inputs: frozenset[str]
    """Names that the graph declares; an input that a graph does not use is not among them."""
    outputs: tuple[str, ...]
    metadata: Mapping[str, str]
    """What the file's maker noted in it."""

    def select(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the inputs that the graph declares.

        Args:
            inputs: Arrays by name.

        Returns:
            Those of them that it takes.
        """
        return {name: array for name, array in inputs.items() if name in self.inputs}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the graph; safe from several threads at once.

        Args:
            inputs: Checked arrays by name; those that the graph does not declare are left out.

        Returns:
            Outputs by name.

        Raises:
            BundleError: If onnxruntime fails.
        """
        feed = self.select(inputs)
        try:
            return dict(zip(self.outputs, self.session.run(None, feed), strict=True))
        except _onnxruntime_errors() as err:
            shapes = ", ".join(f"{name}{list(array.shape)}" for name, array in feed.items())
            raise BundleError(f"{self.path} must run on {shapes}, got: {err}. Try dynbert verify.") from err


def open_graph(
    path: Path, *, threads: int | None = None, any_inputs: bool = False, extra_outputs: Sequence[str] = ()
) -> Graph:
    """Open a graph and check that its inputs are ours.

    Args:
        path: The ``.onnx`` file.
        threads: As for ``open_session``.
        any_inputs: Whether it may have other inputs: a graph that is no bundle's.
        extra_outputs: As for ``open_session``.

    Returns:
        The open graph.

    Raises:
        BundleError: If it does not load, or declares an input that the runtime does not know.
        InputError: As for ``open_session``.
    """
    session = open_session(path, threads=threads, extra_outputs=extra_outputs)
    try:
        inputs = frozenset(item.name for item in session.get_inputs())
        outputs = tuple(item.name for item in session.get_outputs())
        metadata = dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as err:
        raise BundleError(f"{path} must have names in UTF-8, got: {err}. Export the bundle again.") from err
    known = (*INPUT_NAMES, LENGTH_CONFIG)
    unknown = sorted(inputs.difference(known))
    if unknown and not any_inputs:
        raise BundleError(f"{path} must have inputs among {', '.join(known)}, got {', '.join(unknown)}.")
    return Graph(path, session, inputs, outputs, metadata)


class GraphCache:
    """The open graphs of a bundle, each opened when it is first asked for. Safe from several threads at once.

    Args:
        bundle: The bundle's folder.
        threads: Threads that each graph computes on; None for the default of ``open_session``.
    """

    def __init__(self, bundle: Path, threads: int | None = None) -> None:
        self._bundle = bundle
        self._threads = threads
        self._graphs: dict[tuple[str, tuple[str, ...]], Graph] = {}
        # One lock for all: opening takes a multiple of a graph's memory for a moment, so not two at a time.
        self._lock = threading.Lock()

    def get(self, file: str, extra_outputs: tuple[str, ...] = ()) -> Graph:
        """Return the open graph of a file of the bundle.

        Args:
            file: Plain name from the manifest.
            extra_outputs: As for ``open_session``; a file is opened once for each choice of them.

        Returns:
            The graph; the same object at each call.

        Raises:
            BundleError: If it cannot be opened.
        """
        key = (file, extra_outputs)
        graph = self._graphs.get(key)
        if graph is None:
            with self._lock:
                graph = self._graphs.get(key)
                if graph is None:
                    path = self._bundle / file
                    graph = self._graphs[key] = open_graph(path, threads=self._threads, extra_outputs=extra_outputs)
        return graph


def _check_number(threads: int | None) -> None:
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads must be a whole number of at least 1, or None, got {threads!r}.")


@lru_cache(maxsize=1)
def _onnxruntime_errors() -> tuple[type[Exception], ...]:
    """Return what onnxruntime raises: exceptions of its own, without a common base, and builtin ones.

    The builtin ones are what its Python binding makes of C++'s; a ValueError is also a missing input, or a message with
    names that are no UTF-8.
    """
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    members = vars(state).values()
    own = [item for item in members if isinstance(item, type) and issubclass(item, Exception)]
    return (*own, OSError, RuntimeError, ValueError, IndexError, OverflowError, MemoryError)
