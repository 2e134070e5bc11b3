"""Weights of BERT as it was first published: TensorFlow 1 checkpoints.

Names are translated by rules and looked up among the model's parameters, rather than followed attribute by attribute:
a variable without a place is then reported whole, and cannot end up in half of one.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from dynbert_export.errors import CheckpointError, MissingPackageError

if TYPE_CHECKING:
    from transformers import BertConfig, PreTrainedModel

    Model = TypeVar("Model", bound=PreTrainedModel)

__all__ = ["load_tf_weights_in_bert", "translate_tf_name"]

logger = logging.getLogger(__name__)

_TRAINING_STATE = re.compile(r"(^|/)(adam_[mv]|AdamWeightDecayOptimizer(_\d+)?|global_step)(/|$)")
_RULES = (
    (r"/layer_(\d+)/", r"/layer/\1/"),
    (r"(_embeddings)$", r"\1/weight"),
    (r"(^|/)(kernel|gamma|output_weights)$", r"\1weight"),
    (r"(^|/)(beta|output_bias)$", r"\1bias"),
    (r"^cls/squad/", "qa_outputs/"),
    (r"^(weight|bias)$", r"classifier/\1"),  # the original classifier has no scope of its own
)


def translate_tf_name(name: str) -> str | None:
    """Return what a variable of a TensorFlow checkpoint is called here.

    Args:
        name: For instance ``bert/encoder/layer_0/output/dense/kernel``.

    Returns:
        For instance ``bert.encoder.layer.0.output.dense.weight``; None for the state of an optimizer.
    """
    if _TRAINING_STATE.search(name):
        return None
    for pattern, replacement in _RULES:
        name = re.sub(pattern, replacement, name)
    return name.replace("/", ".")


def _read_variables(path: str) -> dict[str, Any]:
    """Return the arrays of a checkpoint by their names, without the state of optimizers."""
    try:
        import tensorflow as tf
    except ImportError as err:
        raise MissingPackageError(
            f"TensorFlow must be installed to read the TensorFlow checkpoint {path}, got none. "
            "Run: pip install 'dynbert[tf]'"
        ) from err
    try:
        reader = tf.train.load_checkpoint(path)
        names = sorted(reader.get_variable_to_shape_map())
        return {name: reader.get_tensor(name) for name in names if translate_tf_name(name) is not None}
    except (ValueError, tf.errors.OpError) as err:
        raise CheckpointError(
            f"The TensorFlow checkpoint must be the path of its files without .index or .data, got {path}: {err}"
        ) from err


def load_tf_weights_in_bert(
    model: Model,
    config: BertConfig,  # noqa: ARG001 -- the reference's public signature
    tf_checkpoint_path: str | os.PathLike[str],
) -> Model:
    """Copy the weights of a TensorFlow 1 checkpoint into a model.

    Variables without a place in the model, and parameters that the checkpoint lacks, are logged as warnings: so loads a
    checkpoint with one head into a model with another. Needs the extra ``tf``.

    Args:
        model: Any BERT of this package; changed in place.
        config: Not used, the model has its own.
        tf_checkpoint_path: The files' common path, without ``.index`` and ``.data-00000-of-00001``; or their folder.

    Returns:
        The model.

    Raises:
        MissingPackageError: If TensorFlow is not installed. An ``ImportError`` too.
        CheckpointError: If the checkpoint cannot be read, has no weight of the model, or has one of another shape; or
            if the model is on the meta device. The model is then as it was.
    """
    path = os.path.abspath(tf_checkpoint_path)  # noqa: PTH100 -- a prefix of file names, no file
    parameters = dict(model.named_parameters())
    if any(parameter.is_meta for parameter in parameters.values()):
        raise CheckpointError(
            "The model must have its weights in memory, got one without, as from_pretrained(from_tf=True) makes it. "
            "Build the model from its config and call load_tf_weights_in_bert with it."
        )
    arrays, unused, faults = {}, [], []
    for tf_name, array in _read_variables(path).items():
        name = translate_tf_name(tf_name) or ""
        name = name if name in parameters else name.removeprefix(f"{model.base_model_prefix}.")
        if name not in parameters:
            unused.append(tf_name)
            continue
        arrays[name] = torch.from_numpy(array.T if tf_name.endswith("kernel") else array)
        if arrays[name].shape != parameters[name].shape:
            faults.append(f"{tf_name} is {list(arrays[name].shape)}, {name} {list(parameters[name].shape)}")
    if faults or not arrays:
        found = "; ".join(faults) if faults else f"none of {', '.join(unused) or 'its variables'}"
        raise CheckpointError(f"The TensorFlow checkpoint {path} must have the weights of this model, got {found}.")
    with torch.no_grad():
        for name, tensor in arrays.items():
            parameters[name].copy_(tensor)
    missing = sorted(parameters.keys() - arrays.keys())
    for what, names in (("were not used", unused), ("are not in it and stay as they were", missing)):
        if names:
            logger.warning("Weights that %s: TensorFlow checkpoint %s: %s", what, path, ", ".join(names))
    return model
