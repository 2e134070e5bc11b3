"""Opens a competitor's artifact in the way that its makers advise for one text at a time on one thread.

Each engine's package is imported where it is opened: a process loads its own competitor's and no other, so that its
memory is the competitor's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from dynbert.lengths import LengthConfig
from dynbert_bench.arrays import Arrays
from dynbert_bench.layout import BUNDLE, GRAPH_FILE, MODEL_FILE

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ENGINES", "Collect", "Prepare", "Run"]

Run: TypeAlias = Callable[[Any], Any]
"""Runs one prepared feed; what is timed."""
Prepare: TypeAlias = Callable[[Arrays], Any]
"""Turns a feed into what ``Run`` takes; not timed, like tokenisation."""
Collect: TypeAlias = Callable[[Any], Arrays]
"""Turns what ``Run`` returned into named arrays; not timed."""


def open_dynbert(artifact: Path, options: Mapping[str, Any]) -> tuple[Prepare, Run, Collect]:
    """Open a bundle as a user does; what is timed is the public ``run``, its checks of the input included.

    Args:
        artifact: Has the bundle.
        options: ``profile``, or ``length_config`` (as text).

    Returns:
        How to prepare a feed, run it, and read the result.
    """
    import dynbert

    model = dynbert.load(artifact / BUNDLE, threads=1, precision="int8")
    if "length_config" in options:
        lengths = LengthConfig.parse(options["length_config"])
        return dict, lambda feed: model.run(feed, length_config=lengths), dict
    return dict, lambda feed: model.run(feed, profile=options["profile"]), dict


def open_onnxruntime(artifact: Path, options: Mapping[str, Any]) -> tuple[Prepare, Run, Collect]:
    """Open a graph with onnxruntime's defaults: all of its optimisations, on one thread.

    Args:
        artifact: Has the graph.
        options: None.

    Returns:
        As ``open_dynbert``.
    """
    import onnxruntime

    del options
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(artifact / GRAPH_FILE, settings, providers=["CPUExecutionProvider"])
    taken = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return (
        lambda feed: {name: array for name, array in feed.items() if name in taken},
        lambda feed: session.run(None, feed),
        lambda results: dict(zip(names, results, strict=True)),
    )


def open_torch(artifact: Path, options: Mapping[str, Any]) -> tuple[Prepare, Run, Collect]:
    """Load a checkpoint into PyTorch, see ``make_models.open_model``.

    Args:
        artifact: The checkpoint.
        options: ``length_config`` (as text, or None).

    Returns:
        As ``open_dynbert``.
    """
    import torch

    from dynbert_bench.make_models import open_model, task_arrays

    torch.set_num_threads(1)
    run = open_model(artifact, options["length_config"])
    return lambda feed: {name: torch.from_numpy(array) for name, array in feed.items()}, run, task_arrays


def open_openvino(artifact: Path, options: Mapping[str, Any]) -> tuple[Prepare, Run, Collect]:
    """Compile a model for latency on one thread; one request, arrays shared and not copied.

    Args:
        artifact: Has the model.
        options: ``shape`` ([batch, tokens] for fixed shapes, or None), ``precision`` (``f32``, or None for what
            OpenVINO chooses: bf16 where the processor has it).

    Returns:
        As ``open_dynbert``.
    """
    import openvino
    from openvino import properties

    core = openvino.Core()
    model = core.read_model(artifact / MODEL_FILE)
    if options["shape"] is not None:
        model.reshape({value.get_any_name(): options["shape"] for value in model.inputs})
    settings: dict[Any, Any] = {
        properties.hint.performance_mode(): properties.hint.PerformanceMode.LATENCY,
        properties.inference_num_threads(): 1,
        properties.num_streams(): 1,
        properties.hint.enable_cpu_pinning(): False,  # the process is bound to its core already
    }
    if options["precision"] == "f32":
        settings[properties.hint.inference_precision()] = openvino.Type.f32
    compiled = core.compile_model(model, "CPU", settings)
    request = compiled.create_infer_request()
    names = [value.get_any_name() for value in compiled.outputs]
    taken = {name for value in compiled.inputs for name in value.get_names()}
    return (
        lambda feed: {name: array for name, array in feed.items() if name in taken},
        lambda feed: request.infer(feed, share_inputs=True, share_outputs=True),
        lambda results: {name: results[index].copy() for index, name in enumerate(names)},
    )


ENGINES: dict[str, Callable[[Path, Mapping[str, Any]], tuple[Prepare, Run, Collect]]] = {
    "dynbert": open_dynbert,
    "onnxruntime": open_onnxruntime,
    "torch": open_torch,
    "openvino": open_openvino,
}
"""Name -> how to open."""
