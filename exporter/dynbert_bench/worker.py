"""The child process: makes one artifact, or loads one competitor and runs bursts of it. See ``protocol.py``."""

from __future__ import annotations

import gc
import importlib
import itertools
import logging
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from dynbert_bench.protocol import Burst, BurstRequest, MakeSpec, MeasureSpec, Ready

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["main", "make", "measure"]

_MIN_RUNS = 3
_PSS_FILE = Path("/proc/self/smaps_rollup")
_MAKERS = {
    "checkpoint": ("make_models", "make_checkpoint"),
    "given-checkpoint": ("make_models", "copy_checkpoint"),
    "inputs": ("make_models", "make_inputs"),
    "reference": ("make_models", "make_reference"),
    "bundle": ("make_graphs", "make_bundle"),
    "product": ("make_graphs", "make_product"),
    "source": ("make_peers", "make_source"),
    "optimum-export": ("make_peers", "make_optimum_export"),
    "fused": ("make_peers", "make_fused"),
    "optimum-dynamic": ("make_peers", "make_optimum_dynamic"),
    "stock-static": ("make_peers", "make_stock_static"),
    "openvino": ("make_peers", "make_openvino"),
}
"""Kind of artifact -> module and function."""


def make(spec: MakeSpec) -> None:
    """Make an artifact.

    Args:
        spec: What, from what, where.
    """
    sources = {name: Path(folder) for name, folder in spec.sources.items()}
    _find_maker(spec.kind)(Path(spec.folder), spec.settings, sources)


def measure(spec: MeasureSpec, requests: TextIO, answers: TextIO) -> None:
    """Load a competitor and run bursts until the requests end.

    Args:
        spec: What to load, and the feeds.
        requests: Gives a ``BurstRequest`` a line.
        answers: Gets a ``Ready``, then a ``Burst`` for each request.
    """
    if spec.core is not None:
        os.sched_setaffinity(0, {spec.core})
    start = time.perf_counter()
    from dynbert_bench.arrays import read_arrays, write_arrays
    from dynbert_bench.engines import ENGINES

    prepare, run, collect = ENGINES[spec.engine](Path(spec.artifact), spec.options)
    load_seconds = time.perf_counter() - start
    feeds = [prepare(feed) for feed in read_arrays(Path(spec.inputs))]
    write_arrays(Path(spec.outputs), [collect(run(feed)) for feed in feeds])
    _run_burst(run, feeds, spec.warm_up_seconds)
    gc.collect()
    gc.disable()  # as timeit does: a collection in one competitor's burst would say nothing about the competitor
    _answer(answers, Ready(load_seconds=load_seconds, pss_bytes=_pss_bytes()))
    for line in requests:
        request = msgspec.json.decode(line, type=BurstRequest)
        _answer(answers, _run_burst(run, feeds, request.seconds))


def _run_burst(run: Callable[[Any], Any], feeds: Sequence[Any], seconds: float) -> Burst:
    times: list[float] = []
    turns = itertools.cycle(feeds)
    first_cpu, first = time.process_time(), time.perf_counter()
    while len(times) < _MIN_RUNS or time.perf_counter() - first < seconds:
        feed = next(turns)
        start = time.perf_counter()
        run(feed)
        times.append(time.perf_counter() - start)
    cpu_seconds = time.process_time() - first_cpu
    return Burst(seconds=tuple(times), cpu_seconds=cpu_seconds, pss_bytes=_pss_bytes())


def _pss_bytes() -> int | None:
    """Return the proportional set size: resident memory, shared pages divided among those that share them."""
    try:
        lines = _PSS_FILE.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:")), None)


def _answer(stream: TextIO, message: Ready | Burst) -> None:
    stream.write(msgspec.json.encode(message).decode() + "\n")
    stream.flush()


def _find_maker(kind: str) -> Callable[[Path, Mapping[str, Any], Mapping[str, Path]], None]:
    """Return what makes a kind of artifact; no other maker is imported."""
    module, function = _MAKERS[kind]
    maker: Callable[[Path, Mapping[str, Any], Mapping[str, Path]], None] = getattr(
        importlib.import_module(f"dynbert_bench.{module}"), function
    )
    return maker


def main() -> None:
    """Run ``make SPEC`` or ``measure SPEC``."""
    logging.basicConfig(level=logging.WARNING)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever packages print goes to the log
    command, file = sys.argv[1:]
    content = Path(file).read_bytes()
    if command == "make":
        make(msgspec.json.decode(content, type=MakeSpec))
    else:
        measure(msgspec.json.decode(content, type=MeasureSpec), sys.stdin, answers)


if __name__ == "__main__":
    main()
