"""Makes the peers' graphs, each with the settings that its documentation gives for a BERT on this kind of processor.

At full length every peer starts from the graph that optimum makes of the checkpoint, which knows nothing of dynbert's
rewrites and which onnxruntime's optimizer knows how to fuse; OpenVINO's documentation converts PyTorch models directly,
so it may start from there too. With lengths they start from dynbert's fp32 graph of the profile: nobody else makes one.
The calibration inputs are those of dynbert's own export.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from dynbert.cpu import int8_target
from dynbert.manifest import Target
from dynbert_bench.layout import BUNDLE, GRAPH_FILE, MODEL_FILE
from dynbert_bench.make_models import load_transformers_model
from dynbert_export.checkpoint.load import load_checkpoint
from dynbert_export.checkpoint.tokenizer import load_tokenizer
from dynbert_export.data.files import load_texts
from dynbert_export.data.prepared import prepare_data

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dynbert_export.data.feeds import Feed

__all__ = [
    "make_fused",
    "make_openvino",
    "make_optimum_dynamic",
    "make_optimum_export",
    "make_source",
    "make_stock_static",
]

_OPSET = 17
_CALIBRATION_SAMPLES = 300
"""NNCF's default; the built-in texts give fewer, and then all are used."""


def make_source(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:
    """Write dynbert's fp32 graph of a profile as one file, which every tool can read.

    Args:
        folder: Where.
        settings: ``profile``.
        sources: ``bundle``.
    """
    model = onnx.load(sources["bundle"] / BUNDLE / f"{settings['profile']}.fp32.onnx")
    onnx.save(model, folder / GRAPH_FILE)


def make_optimum_export(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:
    """Write the graph that optimum makes of a checkpoint.

    Args:
        folder: Where.
        settings: ``task``, by optimum's name.
        sources: ``checkpoint``.
    """
    from optimum.exporters.onnx import main_export

    exported = folder / "optimum"
    main_export(
        str(sources["checkpoint"]),
        exported,
        task=settings["task"],
        opset=_OPSET,
        library_name="transformers",
        do_validation=False,  # the worker compares the outputs with PyTorch's
    )
    onnx.save(onnx.load(exported / "model.onnx"), folder / GRAPH_FILE)
    shutil.rmtree(exported)


def make_fused(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:
    """Run onnxruntime's transformer optimizer on a graph.

    Args:
        folder: Where.
        settings: ``heads`` and ``hidden`` of the model.
        sources: ``graph``.
    """
    from onnxruntime.transformers.optimizer import optimize_model

    fused = optimize_model(
        str(sources["graph"] / GRAPH_FILE),
        model_type="bert",
        num_heads=settings["heads"],
        hidden_size=settings["hidden"],
    )
    fused.save_model_to_file(str(folder / GRAPH_FILE))


def make_optimum_dynamic(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:
    """Quantise a graph with optimum's configuration for this processor, activations at run time.

    Args:
        folder: Where.
        settings: ``is_fused``: whether the graph has been through onnxruntime's transformer optimizer.
        sources: ``graph``.
    """
    from optimum.onnxruntime import AutoQuantizationConfig, ORTQuantizer

    configurations = {Target.AVX2: "avx2", Target.ARM64: "arm64", None: "avx2"}
    configure = getattr(AutoQuantizationConfig, configurations.get(int8_target(), "avx512_vnni"))
    configuration = configure(is_static=False, per_channel=True)
    if settings["is_fused"]:
        _quantize_fused(sources["graph"] / GRAPH_FILE, folder / GRAPH_FILE, configuration)
        return
    quantizer = ORTQuantizer.from_pretrained(sources["graph"], file_name=GRAPH_FILE)
    quantizer.quantize(save_dir=folder, quantization_config=configuration, file_suffix=None)


def _quantize_fused(graph: Path, result: Path, configuration: Any) -> None:
    """Quantise with a configuration of optimum's, but by onnxruntime itself.

    Optimum's ORTQuantizer fails on a graph with fused operators, whose types onnx cannot infer, and has no way to pass
    the option by which onnxruntime's quantiser is told what they are.
    """
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(
        str(graph),
        str(result),
        per_channel=configuration.per_channel,
        reduce_range=configuration.reduce_range,
        weight_type=configuration.weights_dtype,
        extra_options={
            "WeightSymmetric": configuration.weights_symmetric,
            "ActivationSymmetric": configuration.activations_symmetric,
            "DefaultTensorType": onnx.TensorProto.FLOAT,
        },
    )


def make_stock_static(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:
    """Quantise a graph with onnxruntime's own static quantiser: pre-processing, QDQ, weights per channel.

    Args:
        folder: Where.
        settings: ``operators`` (None for onnxruntime's default list), ``calibration``, ``max_length``.
        sources: ``graph`` and ``checkpoint``.
    """
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = folder / "prepared.onnx"
    quant_pre_process(str(sources["graph"] / GRAPH_FILE), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(folder / GRAPH_FILE),
        _Reader(_calibration_feeds(settings, sources["checkpoint"])),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=settings["operators"],
        per_channel=True,
        reduce_range=int8_target() in {Target.AVX2, None},
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    prepared.unlink()


def make_openvino(folder: Path, settings: Mapping[str, Any], sources: Mapping[str, Path]) -> None:
    """Convert a model to OpenVINO's form and quantise it with NNCF's settings for transformers.

    Args:
        folder: Where.
        settings: ``origin`` (``onnx`` or ``pytorch``), ``calibration``, ``max_length``.
        sources: ``graph`` and ``checkpoint``.
    """
    import nncf
    import openvino

    feeds = _calibration_feeds(settings, sources["checkpoint"])
    if settings["origin"] == "onnx":
        model = openvino.Core().read_model(sources["graph"] / GRAPH_FILE)
    else:
        model = _convert_pytorch(sources["checkpoint"], feeds[0])
    quantized = nncf.quantize(
        model,
        nncf.Dataset([dict(feed) for feed in feeds]),
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.PERFORMANCE,
        target_device=nncf.TargetDevice.CPU,
        subset_size=_CALIBRATION_SAMPLES,
    )
    openvino.save_model(quantized, folder / MODEL_FILE, compress_to_fp16=False)


def _convert_pytorch(checkpoint: Path, feed: Feed) -> Any:
    import openvino
    import torch

    model = load_transformers_model(checkpoint)
    example = {name: torch.from_numpy(array) for name, array in feed.items()}
    with torch.no_grad():
        converted = openvino.convert_model(model, example_input=example)
    for value in converted.inputs:
        value.node.set_partial_shape(openvino.PartialShape([-1, -1]))
        value.node.set_element_type(openvino.Type.i64)
    converted.validate_nodes_and_infer_types()
    return converted


def _calibration_feeds(settings: Mapping[str, Any], checkpoint_folder: Path) -> Sequence[Feed]:
    """Return the inputs that dynbert's own export of the same settings calibrates on."""
    checkpoint = load_checkpoint(str(checkpoint_folder), max_length=settings["max_length"])
    path = Path(settings["calibration"]) if settings["calibration"] else None
    texts = load_texts(path, checkpoint.task)
    tokenizer = load_tokenizer(checkpoint)
    return prepare_data(
        texts, tokenizer, checkpoint.task, samples=128, max_length=checkpoint.max_length, seed=0
    ).calibration


class _Reader:
    """What onnxruntime calls a calibration data reader."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds: Iterator[Feed] = iter(feeds)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next feed; None at the end."""
        feed = next(self._feeds, None)
        return dict(feed) if feed is not None else None
