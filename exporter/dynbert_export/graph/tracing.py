"""From the PyTorch model to the anytime graph: traced once, with the length config as an input.

The TorchScript exporter, not ``torch.export``: it takes two seconds where the other takes fifteen, and it turns an
int64 input tensor into slice bounds without being told anything about them. Optimum names the inputs, outputs and
dynamic axes, so that its ORTModel classes can run the graphs, and makes the example inputs. Only pooled embeddings are
not for those classes: they ask for token states.

The graph has one more output per layer than is published: ``kept_positions.N``, by which ``graph/freeze.py`` finds each
layer's cut and ``gates/parity.py`` compares token selection.
"""

from __future__ import annotations

import io
import warnings
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import onnx
from onnx_ir.passes import common as common_passes

from dynbert.inputs import INPUT_IDS, LENGTH_CONFIG, TOKEN_TYPE_IDS
from dynbert_export.graph.editing import clean, from_proto
from dynbert_export.graph.names import kept_positions_name
from dynbert_export.tasks import HEADS, POOLED_OUTPUTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    import onnx_ir as ir
    from transformers import PreTrainedModel

    from dynbert.manifest import Task
    from dynbert_export.tasks import Axes

__all__ = ["trace"]


def trace(
    model: PreTrainedModel, task: Task, *, opset: int, always_keep_cls_token: bool, is_pooled: bool = False
) -> ir.Model:
    """Trace a model into one graph that runs every length config, batch and length.

    Args:
        model: One of this package's models, in evaluation mode.
        task: What it computes.
        opset: Version of the ONNX operators.
        always_keep_cls_token: Whether the graph keeps CLS whatever its significance.
        is_pooled: Whether the model, one of feature extraction, gives embeddings.

    Returns:
        The graph: int64 inputs ``input_ids``, ``attention_mask``, ``token_type_ids``, each ``[batch, sequence]`` (for
        multiple choice ``[batch, choices, sequence]``), and ``length_config`` ``[layers]``; the task's float outputs,
        then ``kept_positions.N``, one row a sequence.
    """
    import torch
    from optimum.exporters.onnx import model_configs  # noqa: F401  -- registers the ONNX configs below
    from optimum.exporters.tasks import TasksManager

    head = HEADS[task]
    onnx_config = TasksManager.get_exporter_config_constructor(
        exporter="onnx", model_type="bert", task=head.optimum_task, library_name="transformers"
    )(model.config)
    outputs: Axes = POOLED_OUTPUTS if is_pooled else head.outputs or onnx_config.outputs
    num_layers = model.config.num_hidden_layers
    example = onnx_config.generate_dummy_inputs(framework="pt")
    inputs = {name: example[name] for name in onnx_config.inputs}
    inputs[TOKEN_TYPE_IDS] = torch.zeros_like(inputs[TOKEN_TYPE_IDS])  # optimum assumes two types; some have one
    tokens = inputs[INPUT_IDS].shape[-1]
    lengths = torch.arange(tokens - 1, tokens - 1 - num_layers, -1).clamp(min=2)
    kept = [kept_positions_name(layer) for layer in range(num_layers)]
    axes: dict[str, Mapping[int, str]] = {**onnx_config.inputs, **outputs}
    rows = "rows" if inputs[INPUT_IDS].dim() > 2 else "batch_size"
    axes |= {name: {0: rows, 1: f"kept_{layer}"} for layer, name in enumerate(kept)}
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter is deprecated, and warns of every shape that it makes a value
        torch.onnx.export(
            _adapter(model, tuple(inputs), tuple(outputs), always_keep_cls_token=always_keep_cls_token),
            (*inputs.values(), lengths),
            buffer,  # type: ignore[arg-type]  # the exporter writes to streams, its annotation says paths
            dynamo=False,
            opset_version=opset,
            input_names=[*inputs, LENGTH_CONFIG],
            output_names=[*outputs, *kept],
            dynamic_axes=axes,
        )
    graph = from_proto(onnx.load_from_string(buffer.getvalue()))
    graph.producer_name, graph.producer_version = "dynbert", version("dynbert")
    common_passes.ClearMetadataAndDocStringPass()(graph)  # the exporter notes where in which file a node was made
    clean(graph)
    return graph


def _adapter(
    model: PreTrainedModel, inputs: tuple[str, ...], outputs: tuple[str, ...], *, always_keep_cls_token: bool
) -> Any:
    """Return a module of positional tensors: what the exporter calls."""
    import torch

    class Adapter(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            *given, lengths = tensors
            result = self.model(
                **dict(zip(inputs, given, strict=True)),
                length_config=lengths,
                always_keep_cls_token=always_keep_cls_token,
                return_dict=True,
            )
            return (*(result[name] for name in outputs), *result.kept_positions)

    return Adapter().eval()  # else the exporter would leave the model in training mode
