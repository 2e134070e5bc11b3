"""``config.json`` of a checkpoint: what it must be for a BERT encoder, and what it says of the head.

transformers takes any value here and fails much later, and without a word of the file; so all of it is checked first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dynbert.errors import LengthConfigError
from dynbert_export.checkpoint.json_files import read_json_object
from dynbert_export.errors import CheckpointError
from dynbert_export.tasks import ARCHITECTURES, MIN_INPUT_TOKENS, ProblemType

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import BertConfig

    from dynbert.lengths import LengthConfig

__all__ = ["find_architecture", "find_problem_type", "list_labels", "read_config"]

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
"""Settings that are whole numbers of at least 1."""
_UNSUPPORTED = {
    "is_decoder": "Decoders cannot be exported.",
    "is_encoder_decoder": "Decoders cannot be exported.",
    "add_cross_attention": "Decoders cannot be exported.",
    "auto_map": "Models that bring their own code cannot be exported.",
    "quantization_config": "Export the model from before it was quantised.",
}
_POSITIONS = ("absolute", "relative_key", "relative_key_query")


def read_config(path: Path) -> tuple[BertConfig, LengthConfig | None]:
    """Read the config of a BERT encoder; anything else is refused.

    Args:
        path: A ``config.json``.

    Returns:
        The config without its ``length_config``, with which a model would drop tokens unasked; and what that says,
        one entry a layer, or None where it drops nothing.

    Raises:
        CheckpointError: If the file is missing or broken, or its model is none that can be exported.
    """
    from transformers import BertConfig

    values = read_json_object(path)
    if values.get("model_type") != "bert":
        raise CheckpointError(
            f"Model must be a BERT, got model_type {values.get('model_type')!r} in {path}. "
            f"Supported are {', '.join(ARCHITECTURES)} and any BERT as feature-extraction."
        )
    for key, remedy in _UNSUPPORTED.items():
        if values.get(key):
            raise CheckpointError(f"{key} must not be set, got {values[key]!r} in {path}. {remedy}")
    lengths = values.pop("length_config", None)
    try:
        config = BertConfig.from_dict(values)
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        reason = str(err).rstrip(".")
        raise CheckpointError(f"{path} must be the config of a BERT, got: {reason}. Get the file again.") from err
    faults = _find_faults(config)
    if faults:
        raise CheckpointError(f"{path} must be the config of a BERT, got: {'; '.join(faults)}. Get the file again.")
    return config, _parse_lengths(lengths, config.num_hidden_layers, path)


def list_labels(config: BertConfig) -> tuple[str, ...]:
    """Return the names of the classes.

    Args:
        config: As from ``read_config``.

    Returns:
        The names by index.
    """
    return tuple(str(label) for _, label in sorted((config.id2label or {}).items()))


def find_architecture(config: BertConfig) -> str | None:
    """Return the class that the checkpoint was saved from.

    Args:
        config: As from ``read_config``.

    Returns:
        Its name; None where the config does not say.
    """
    architectures = config.architectures
    return str(architectures[0]) if isinstance(architectures, list) and architectures else None


def find_problem_type(config: BertConfig) -> str:
    """Return what the logits of a text classifier are.

    A lone logit of which the config says nothing is a ranker's, such as a cross-encoder's: only its order means
    something. Who trains one as a class or as a number with transformers has that in the config.

    Args:
        config: As from ``read_config``.

    Returns:
        The config's own word where it has one; else a ranker's for one logit, and one label out of several.
    """
    if config.problem_type is not None:
        return str(config.problem_type)
    return (ProblemType.RANKING if config.num_labels == 1 else ProblemType.SINGLE_LABEL).value


def _find_faults(config: BertConfig) -> list[str]:
    """Return why no BERT can be built."""
    from transformers.activations import ACT2FN

    sizes = {name: getattr(config, name) for name in _SIZES}
    faults = [
        f"{name} must be a whole number of at least 1, got {value!r}"
        for name, value in sizes.items()
        if not _is_int(value) or value < 1
    ]
    if faults:
        return faults
    if config.hidden_size % config.num_attention_heads:
        faults.append(
            f"hidden_size must be a multiple of num_attention_heads, got {config.hidden_size} and "
            f"{config.num_attention_heads}"
        )
    positions = config.max_position_embeddings
    if positions < MIN_INPUT_TOKENS:
        faults.append(f"max_position_embeddings must be at least {MIN_INPUT_TOKENS}, got {positions}")
    pad: Any = config.pad_token_id
    if not _is_int(pad) or not 0 <= pad < config.vocab_size:
        faults.append(f"pad_token_id must be an id of the vocabulary, got {pad!r}")
    faults += _find_number_faults(config)
    if config.hidden_act not in ACT2FN:
        faults.append(f"hidden_act must be an activation of transformers, got {config.hidden_act!r}")
    if config.position_embedding_type not in _POSITIONS:
        faults.append(f"position_embedding_type must be one of {_POSITIONS}, got {config.position_embedding_type!r}")
    numbers = sorted(config.id2label or {})
    if numbers != list(range(config.num_labels)):
        faults.append(f"id2label must number the labels from 0, got {numbers}")
    return faults


def _find_number_faults(config: BertConfig) -> list[str]:
    """Return what is wrong with numbers that only building or running the model would stumble over."""
    faults = []
    epsilon: Any = config.layer_norm_eps
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon < 1:
        faults.append(f"layer_norm_eps must be a number between 0 and 1, got {epsilon!r}")
    heads = range(config.num_attention_heads)
    for layer, pruned in (config.pruned_heads or {}).items():
        is_known = layer in range(config.num_hidden_layers) and isinstance(pruned, list)
        if not is_known or any(head not in heads for head in pruned):
            faults.append(f"pruned_heads must list heads that the layers have, got {pruned!r} for layer {layer}")
    return faults


def _parse_lengths(value: object, num_layers: int, path: Path) -> LengthConfig | None:
    """Return a config's lengths by the model's own rules: entries beyond its layers are ignored."""
    from dynbert_export.modeling.dropping import check_length_config

    try:
        return check_length_config(value, num_layers)  # type: ignore[arg-type]  # any JSON value; refused there
    except LengthConfigError as err:
        raise CheckpointError(
            f"length_config in {path} must be the lengths of {num_layers} layers, got: {err} "
            "Or take it out of the file."
        ) from err


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
