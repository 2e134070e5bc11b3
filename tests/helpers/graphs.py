"""Traced tiny models, and plain ways to run a graph: in memory, in PyTorch, with its operators counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx.parser
import onnx_ir as ir

from dynbert.inputs import LENGTH_CONFIG, arrange_rows, length_input
from dynbert.lengths import LengthConfig
from dynbert.manifest import PoolingMode
from dynbert_export.checkpoint.load import Checkpoint, load_checkpoint, load_model
from dynbert_export.graph.freeze import GraphSpec
from dynbert_export.graph.names import kept_positions_layer
from dynbert_export.graph.tracing import trace
from dynbert_export.int8.neural_compressor import NeuralCompressor
from dynbert_export.int8.smoothing import fold_smoothing
from tests.helpers.checkpoints import make_checkpoint, write_sentence_transformers_files

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dynbert.manifest import Pooling, Task

__all__ = [
    "QuantizedModel",
    "TracedModel",
    "assert_informative",
    "assert_same_answers",
    "count_operators",
    "kept_by",
    "make_feed",
    "parse_graph",
    "quantize_tiny_model",
    "run_graph_in_memory",
    "run_torch",
    "serialize",
    "trace_tiny_embedder",
    "trace_tiny_model",
    "with_lengths",
]


@dataclass(frozen=True)
class TracedModel:
    """A tiny checkpoint, the PyTorch model of it, and the anytime graph. Not to be changed: tests share it."""

    checkpoint: Checkpoint
    model: Any
    graph: ir.Model
    spec: GraphSpec

    @property
    def vocab_size(self) -> int:
        return self.checkpoint.config.vocab_size

    def arrange(self, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return rows of tokens in the shape that the task takes."""
        return arrange_rows(feed, self.checkpoint.task)


def trace_tiny_model(folder: Path, task: Task, *, always_keep_cls_token: bool = True, **config: Any) -> TracedModel:
    """Write a tiny checkpoint and trace it; of feature extraction the token states."""
    return _trace(make_checkpoint(folder, task, **config), always_keep_cls_token=always_keep_cls_token)


def trace_tiny_embedder(
    folder: Path, pooling: Pooling, *, always_keep_cls_token: bool = True, **config: Any
) -> TracedModel:
    """Write a tiny checkpoint of feature extraction, and trace it with its embeddings pooled."""
    make_checkpoint(folder, **config)
    modes = {PoolingMode.MEAN: "mean_tokens", PoolingMode.CLS: "cls_token"}
    write_sentence_transformers_files(folder, mode=modes[pooling.mode], normalize=pooling.normalize)
    return _trace(folder, always_keep_cls_token=always_keep_cls_token, is_pooled=True)


def _trace(folder: Path, *, always_keep_cls_token: bool, is_pooled: bool = False) -> TracedModel:
    checkpoint = load_checkpoint(str(folder))
    model = load_model(checkpoint, is_pooled=is_pooled)
    graph = trace(model, checkpoint.task, opset=17, always_keep_cls_token=always_keep_cls_token, is_pooled=is_pooled)
    spec = GraphSpec(checkpoint.config.num_hidden_layers, checkpoint.max_length, always_keep_cls_token)
    return TracedModel(checkpoint, model, graph, spec)


@dataclass(frozen=True)
class QuantizedModel:
    """What each step of quantisation makes of an anytime graph. Not to be changed: tests share it."""

    feeds: tuple[dict[str, Any], ...]
    """What it was calibrated on."""
    smoothed: ir.Model
    folded: ir.Model
    qdq: ir.Model
    dynamic: ir.Model
    """As Neural Compressor writes it, with MatMulInteger."""


def quantize_tiny_model(traced: TracedModel) -> QuantizedModel:
    """Quantise with seven-bit weights, whose products are exact on every processor."""
    engine = NeuralCompressor()
    feeds = tuple(
        with_lengths(traced.arrange(make_feed(1, 32, vocab_size=traced.vocab_size, seed=seed)), None, traced.spec)
        for seed in range(6)
    )
    smoothed = engine.smooth(traced.graph, feeds, alpha=0.7)
    folded = fold_smoothing(smoothed)
    return QuantizedModel(
        feeds,
        smoothed,
        folded,
        engine.quantize_static(folded, feeds, reduce_range=True),
        engine.quantize_dynamic(traced.graph, reduce_range=True),
    )


def parse_graph(text: str, opset: int = 17, **initializers: np.ndarray) -> ir.Model:
    """Return the graph of ONNX's text syntax, ``(inputs) => (outputs) {nodes}``, with these constants."""
    domains = f'["" : {opset}, "com.microsoft" : 1]'
    proto = onnx.parser.parse_model(f"<ir_version: 8, opset_import: {domains}> toy {text}")
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in initializers.items())
    return ir.from_proto(proto)


def serialize(model: ir.Model) -> bytes:
    """Return the model as bytes, equal for equal models."""
    return ir.to_proto(model).SerializeToString(deterministic=True)


def count_operators(model: ir.Model) -> Counter[str]:
    """Return how many nodes of each operator the graph has."""
    return Counter(node.op_type for node in model.graph)


def make_feed(batch: int, tokens: int, *, vocab_size: int = 200, seed: int = 0) -> dict[str, np.ndarray]:
    """Return random ids; the first text is full, the others end earlier and earlier."""
    generator = np.random.default_rng([seed, batch, tokens])
    ends = [max(1, tokens - row * tokens // batch) for row in range(batch)]
    mask = (np.arange(tokens)[None] < np.array(ends)[:, None]).astype(np.int64)
    ids = generator.integers(1, vocab_size, (batch, tokens), dtype=np.int64)
    types = generator.integers(0, 2, (batch, tokens), dtype=np.int64)
    return {"input_ids": ids * mask, "attention_mask": mask, "token_type_ids": types * mask}


def with_lengths(feed: Mapping[str, np.ndarray], lengths: LengthConfig | None, spec: GraphSpec) -> dict[str, Any]:
    """Return the feed of an anytime graph."""
    config = LengthConfig.everything(spec.num_layers) if lengths is None else lengths
    tokens = feed["input_ids"].shape[-1]
    return {**feed, LENGTH_CONFIG: length_input(config, tokens, always_keep_cls_token=spec.always_keep_cls_token)}


def run_graph_in_memory(
    model: ir.Model, *feeds: Mapping[str, np.ndarray], optimize: bool = True
) -> list[dict[str, Any]]:
    """Run a graph that was never written to a file; inputs that it does not declare are left out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(serialize(model), options, providers=["CPUExecutionProvider"])
    inputs = {value.name for value in session.get_inputs()}
    names = [value.name for value in session.get_outputs()]
    return [dict(zip(names, session.run(None, {name: feed[name] for name in inputs}), strict=True)) for feed in feeds]


def run_torch(
    traced: TracedModel,
    feed: Mapping[str, np.ndarray],
    lengths: LengthConfig | None,
    *,
    layers: tuple[int, ...] | None = None,
) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Run the PyTorch model eagerly; return its outputs and what each layer run kept (everything without lengths)."""
    import torch

    with torch.inference_mode():
        result = traced.model(
            **{name: torch.from_numpy(array) for name, array in feed.items()},
            length_config=() if lengths is None else lengths,
            layer_config=layers,
            always_keep_cls_token=traced.spec.always_keep_cls_token,
            return_dict=True,
        )
    kept = result.kept_positions
    outputs = {name: tensor.numpy() for name, tensor in result.items() if isinstance(tensor, torch.Tensor)}
    tokens = feed["input_ids"].shape[-1]
    everything = np.broadcast_to(np.arange(tokens), (feed["input_ids"].size // tokens, tokens))
    if kept is None:
        return outputs, [everything] * (traced.spec.num_layers if layers is None else len(layers))
    return outputs, [positions.numpy() for positions in kept]


def kept_by(outputs: Mapping[str, np.ndarray]) -> dict[int, np.ndarray]:
    """Return the kept positions among a graph's outputs: layer -> positions."""
    layers = {name: kept_positions_layer(name) for name in outputs}
    return {layer: outputs[name] for name, layer in layers.items() if layer is not None}


def assert_same_answers(traced: TracedModel, after: ir.Model) -> None:
    """Compare a rewritten graph with the traced one on random inputs: short, long, alone, padded, several configs."""
    configs = (None, LengthConfig((20, 10, 5)), LengthConfig((0.9, 0.4, 0.2)), LengthConfig((64, 9, 9)))
    feeds = [
        with_lengths(traced.arrange(make_feed(batch, tokens)), config, traced.spec)
        for config in configs
        for tokens in (1, 2, 7, 20, 64)
        for batch in (1, 4)
    ]
    names = {value.name for value in after.graph.outputs}
    assert names
    for wanted, got in zip(run_graph_in_memory(traced.graph, *feeds), run_graph_in_memory(after, *feeds), strict=True):
        assert set(got) == names
        for name in names:
            if wanted[name].dtype == np.float32:
                assert_informative(wanted[name])
            np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=2e-5, err_msg=name)


def assert_informative(array: np.ndarray) -> None:
    """Refuse a comparison that could not fail: of nothing, of one number, of numbers that are none."""
    assert array.size
    assert np.isfinite(array).all()
    if array.size > 1:
        assert np.ptp(array) > 1e-3
