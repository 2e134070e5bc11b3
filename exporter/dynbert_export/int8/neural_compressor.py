"""INT8 by Neural Compressor: the only module that imports it.

The recipe matters more than the method. Neural Compressor's default static recipe ruins a BERT (mean cosine to fp32 of
0.94 on all-MiniLM-L6-v2); this one keeps 0.998 (``make demo`` shows today's agreement): only the encoder's matrix
products with constant weights, no quantised outputs, attention's own products in fp32, weights per output channel, and
SmoothQuant (Xiao et al. 2023, "SmoothQuant", equation 4) before it. Three steps, so that each can be tested alone:

1. ``smooth`` moves outliers of activations into weights: an exact fp32 -> fp32 rewrite that leaves a Mul before each
   quantised input; ``smoothing.py`` folds those that fold.
2. ``quantize_static`` quantises the weights and writes the portable QDQ form. It calibrates with minima and maxima,
   whose memory does not grow with the samples; ``ranges.py`` puts better ranges in their place, so that one sample will
   do. ``smooth`` keeps every activation it sees, so it gets at most ``SMOOTHING_TOKENS``.
3. ``lower.py`` turns QDQ into the operators that run as INT8.

Neural Compressor 3.7.1 reads ``onnx.mapping``, which current onnx has dropped: ``_onnx_mapping`` puts the two tables
it uses back while it runs.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import types
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as common_passes

from dynbert.inputs import INPUT_IDS
from dynbert_export.errors import ExportError
from dynbert_export.graph.editing import from_proto, producer_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from dynbert_export.data.feeds import Feed

__all__ = ["NeuralCompressor", "QuantizationEngine", "quantizable_nodes", "quantized_activations"]

logger = logging.getLogger(__name__)

SMOOTHING_TOKENS = 4096
"""Tokens that SmoothQuant sees at most: about 260 MB of activations for a MiniLM, 1 GB for a BERT-base."""

_WEIGHTS = {"dtype": ["int8"], "scheme": ["sym"], "granularity": ["per_channel"], "algorithm": ["minmax"]}
_ACTIVATIONS = {"dtype": ["uint8"], "scheme": ["asym"], "granularity": ["per_tensor"], "algorithm": ["minmax"]}
_FP32 = {"weight": {"dtype": ["fp32"]}, "activation": {"dtype": ["fp32"]}}
_EVERYTHING_BUT_MATMUL = "^((?!MatMul).)*$"
_ENCODER_SCOPE = "/encoder/"
_STANDARD_DOMAINS = ("", "com.microsoft")


class QuantizationEngine(Protocol):
    """What the pipeline needs of a quantiser."""

    def smooth(self, model: ir.Model, feeds: Sequence[Feed], *, alpha: float) -> ir.Model:
        """Return an equal fp32 model whose activations are easier to quantise."""

    def quantize_static(self, model: ir.Model, feeds: Sequence[Feed], *, reduce_range: bool) -> ir.Model:
        """Return the model in QDQ form, activation ranges from the feeds."""

    def quantize_dynamic(self, model: ir.Model, *, reduce_range: bool) -> ir.Model:
        """Return the model with INT8 weights and activations quantised while it runs."""


def quantizable_nodes(model: ir.Model) -> tuple[str, ...]:
    """Return the names of the nodes that become INT8: the encoder's MatMuls with a constant matrix.

    Args:
        model: A traced graph; node names carry the modules' names.

    Returns:
        The names, in graph order: six a layer.
    """
    return tuple(node.name or "" for node in model.graph if _is_encoder_matmul(node))


def quantized_activations(model: ir.Model) -> tuple[str, ...]:
    """Return the names of the values that are quantised: what those products read.

    Args:
        model: A traced graph, smoothed or not.

    Returns:
        The names, each once: four a layer, because query, key and value read the same.
    """
    names = [node.inputs[0].name or "" for node in model.graph if _is_encoder_matmul(node) and node.inputs[0]]
    return tuple(dict.fromkeys(names))


@dataclass(frozen=True)
class NeuralCompressor:
    """The engine: Neural Compressor's ONNX backend."""

    seed: int = 0
    """Seed of its tuning strategy; the recipe leaves nothing to tune, so this only pins its workspace state."""

    def smooth(self, model: ir.Model, feeds: Sequence[Feed], *, alpha: float) -> ir.Model:
        """Apply SmoothQuant with one scale for all products that read the same activation.

        Args:
            model: The fp32 graph; not changed.
            feeds: Calibration inputs, all of one shape.
            alpha: How much of the outliers moves into the weights, in [0, 1].

        Returns:
            An equal fp32 graph with one ``Mul`` before each smoothed activation's products.

        Raises:
            ExportError: If Neural Compressor fails.
        """
        with _neural_compressor():
            from neural_compressor.adaptor.ox_utils.smooth_quant import ORTSmoothQuant

            seen = _within_tokens(feeds, SMOOTHING_TOKENS)
            smoother = ORTSmoothQuant(_to_engine(model), _Loader(seen))
            smoothed = smoother.transform(
                alpha=alpha, folding=False, op_types=["MatMul"], scales_per_op=False, calib_iter=len(seen)
            )
            return _from_engine(smoothed.model)

    def quantize_static(self, model: ir.Model, feeds: Sequence[Feed], *, reduce_range: bool) -> ir.Model:
        """Calibrate on the feeds and write the QDQ form.

        Args:
            model: The fp32 graph, smoothed or not; not changed.
            feeds: Calibration inputs.
            reduce_range: Seven-bit weights, for CPUs whose u8s8 products saturate (plain AVX2 and AVX-512).

        Returns:
            The QDQ graph: u8 activations per tensor, s8 weights per output channel. Products alone read what is
            quantised.

        Raises:
            ExportError: If Neural Compressor finds no quantised model.
        """
        quantized = self._fit(model, feeds, approach="static", reduce_range=reduce_range)
        _quantize_for_products_only(quantized)
        return quantized

    def quantize_dynamic(self, model: ir.Model, *, reduce_range: bool) -> ir.Model:
        """Quantise the weights, and the activations at run time.

        Args:
            model: The fp32 graph; not changed.
            reduce_range: See ``quantize_static``.

        Returns:
            The graph with ``DynamicQuantizeLinear`` and ``MatMulInteger``.

        Raises:
            ExportError: If Neural Compressor finds no quantised model.
        """
        return self._fit(model, (), approach="dynamic", reduce_range=reduce_range)

    def _fit(self, model: ir.Model, feeds: Sequence[Feed], *, approach: str, reduce_range: bool) -> ir.Model:
        with _neural_compressor(), TemporaryDirectory(prefix="dynbert-inc-") as workspace:
            from neural_compressor import PostTrainingQuantConfig, quantization, set_random_seed, set_workspace

            set_workspace(workspace)
            set_random_seed(self.seed)
            recipes: dict[str, Any] = {"graph_optimization_level": "DISABLE_ALL"}
            if approach == "static":
                recipes["optypes_to_exclude_output_quant"] = ["MatMul", "Add", "Gather", "LayerNormalization"]
            config = PostTrainingQuantConfig(
                approach=approach,
                quant_format="QDQ" if approach == "static" else "default",
                calibration_sampling_size=[max(len(feeds), 1)],
                reduce_range=reduce_range,
                op_type_dict={
                    _EVERYTHING_BUT_MATMUL: _FP32,
                    "MatMul": {"weight": _WEIGHTS, "activation": _ACTIVATIONS},
                },
                op_name_dict={node.name: _FP32 for node in model.graph if _is_head_product(node)},
                recipes=recipes,
            )
            found = quantization.fit(_to_engine(model), config, calib_dataloader=_Loader(feeds) if feeds else None)
            if found is None:
                raise ExportError(
                    "Neural Compressor must return a quantised model, got none: its tuning rejected every "
                    "configuration. Try other calibration data, or --quantize dynamic."
                )
            return _from_engine(found.model)


class _Loader:
    """What Neural Compressor calls a dataloader: yields (inputs, label) and says its batch size."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.batch_size = 1
        self._feeds = feeds

    def __iter__(self) -> Iterator[tuple[dict[str, NDArray[np.int64]], int]]:
        return iter([(dict(feed), 0) for feed in self._feeds])


def _is_encoder_matmul(node: ir.Node) -> bool:
    if node.op_type != "MatMul" or _ENCODER_SCOPE not in (node.name or ""):
        return False
    weight = node.inputs[1]
    return weight is not None and weight.is_initializer()


def _is_head_product(node: ir.Node) -> bool:
    weight = node.inputs[1] if node.op_type in {"MatMul", "Gemm"} else None
    return weight is not None and weight.is_initializer() and not _is_encoder_matmul(node)


def _to_engine(model: ir.Model) -> onnx.ModelProto:
    """Return the model as a proto in which only the quantisable products have constant weights.

    Neural Compressor smooths and quantises every MatMul whose second input is an initializer. An Identity hides the
    weights of the others from it (heads: tiny, and the first to lose accuracy).
    """
    copy = model.clone()
    hidden: dict[ir.Value, ir.Value] = {}
    for node in tuple(copy.graph):
        weight = node.inputs[1] if _is_head_product(node) else None
        if weight is None:
            continue
        if weight not in hidden:  # one for all readers
            identity = ir.node("Identity", [weight], name=f"{node.name}/hidden_weight")
            copy.graph.insert_before(node, identity)
            hidden[weight] = identity.outputs[0]
        node.replace_input_with(1, hidden[weight])
    return ir.to_proto(copy)


def _from_engine(proto: onnx.ModelProto) -> ir.Model:
    """Return the proto as a model without the hiding Identities and the domains that onnxruntime adds on saving."""
    model = from_proto(proto)
    common_passes.IdentityEliminationPass()(model)
    for domain in set(model.opset_imports) - set(_STANDARD_DOMAINS):
        del model.opset_imports[domain]
    return model


def _quantize_for_products_only(model: ir.Model) -> None:
    """Let all but quantised products read the float value of what Neural Compressor gave a u8.

    A smoothed product reads a value of its own. Others share theirs, the output of a LayerNormalization, with the
    residual connection, to which Neural Compressor gives the rounded value too.
    """
    for node in model.graph:
        quantizer = producer_of(node.inputs[0], "QuantizeLinear") if node.op_type == "DequantizeLinear" else None
        value = quantizer.inputs[0] if quantizer is not None else None
        for reader, index in tuple(node.outputs[0].uses()) if value is not None else ():
            if reader.op_type != "MatMul" or producer_of(reader.inputs[1], "DequantizeLinear") is None:
                reader.replace_input_with(index, value)


def _within_tokens(feeds: Sequence[Feed], budget: int) -> list[Feed]:
    """Return the first feeds that hold at most ``budget`` tokens together, at least one."""
    chosen: list[Feed] = []
    tokens = 0
    for feed in feeds:
        tokens += feed[INPUT_IDS].size
        if chosen and tokens > budget:
            break
        chosen.append(feed)
    return chosen


@contextlib.contextmanager
def _neural_compressor() -> Iterator[None]:
    """Let Neural Compressor 3.7.1 run on current packages, and keep its chatter out of the user's terminal."""
    logger_ = logging.getLogger("neural_compressor")
    level = logger_.level
    with warnings.catch_warnings(), _onnx_mapping(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # pkg_resources, pandas and numpy deprecations that are not ours to mend
        import neural_compressor  # noqa: F401 -- sets its logger up, so that the level below stays

        logger_.setLevel(logging.ERROR)
        try:
            yield
        except ExportError:
            raise
        except Exception as err:
            raise ExportError(
                f"Neural Compressor {version('neural-compressor')} must quantise this graph, got "
                f"{type(err).__name__}: {err}. Try --quantize dynamic or none, and report it."
            ) from err
        finally:
            logger_.setLevel(level)


@contextlib.contextmanager
def _onnx_mapping() -> Iterator[None]:
    """Provide ``onnx.mapping`` (dropped in onnx 1.19), which Neural Compressor 3.7.1 still reads."""
    if hasattr(onnx, "mapping"):
        yield
        return
    mapping = types.ModuleType("onnx.mapping")
    tensor_types = [kind for kind in onnx.TensorProto.DataType.values() if kind != onnx.TensorProto.UNDEFINED]
    to_numpy = {kind: onnx.helper.tensor_dtype_to_np_dtype(kind) for kind in tensor_types}
    mapping.TENSOR_TYPE_TO_NP_TYPE = to_numpy  # type: ignore[attr-defined]
    mapping.NP_TYPE_TO_TENSOR_TYPE = {  # type: ignore[attr-defined]
        np.dtype(dtype): kind for kind, dtype in to_numpy.items()
    }
    onnx.mapping = mapping  # type: ignore[attr-defined]
    sys.modules["onnx.mapping"] = mapping
    try:
        yield
    finally:
        del onnx.mapping  # type: ignore[attr-defined]
        del sys.modules["onnx.mapping"]
