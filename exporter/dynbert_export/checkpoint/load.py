"""From ``--model`` to a checked checkpoint on disk: what it is, what it can be exported as, and loading it.

All that can be known without loading weights is checked first, so that a wrong model fails in a second: the config, the
task against the architecture, the names and shapes of the weights, the tokenizer's files. Code that comes with a
checkpoint is never run.

Feature extraction gives token states, from which the runtime makes embeddings, so the pooler is neither needed nor
read. Without sentence-transformers' files, embeddings are means of token states, not normalised: what
sentence-transformers itself makes of such a checkpoint.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.errors import DynbertError, InputError
from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert_export.checkpoint.embedding_files import EmbeddingFiles, read_embedding_files
from dynbert_export.checkpoint.source import find_checkpoint, read_json_object
from dynbert_export.checkpoint.weights import check_weights, find_weights, load_weights
from dynbert_export.errors import CheckpointError
from dynbert_export.options.vocabularies import TaskOption
from dynbert_export.tasks import ARCHITECTURES, HEADS, MIN_INPUT_TOKENS, find_task

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerFast

__all__ = ["Checkpoint", "load_checkpoint", "load_model", "load_tokenizer", "save_tokenizer"]

TOKENIZER_FILE = "tokenizer.json"

_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
)
_UNSUPPORTED = {
    "is_decoder": "Decoders cannot be exported.",
    "is_encoder_decoder": "Decoders cannot be exported.",
    "add_cross_attention": "Decoders cannot be exported.",
    "auto_map": "Models that bring their own code cannot be exported.",
    "quantization_config": "Export the model from before it was quantised.",
}
_POSITIONS = ("absolute", "relative_key", "relative_key_query")


@dataclass(frozen=True)
class Checkpoint:
    """A BERT on disk that can be exported, and what is known of it."""

    folder: Path
    name: str
    """Hub id, or the folder's name."""
    revision: str | None
    """The commit that a hub served; None for a folder."""
    config: BertConfig
    """Not to be changed; ``load_model`` gives the model a copy."""
    task: Task
    architecture: str
    """Class name of what is exported, e.g. ``BertForQuestionAnswering``."""
    labels: tuple[str, ...]
    """Names of the classes by index, of a text or of a token; empty for the other tasks."""
    problem_type: str | None
    """``single_label_classification``, ``multi_label_classification`` or ``regression``; text classification only."""
    max_length: int
    """Longest input in tokens, special tokens included."""
    pooling: Pooling | None
    """Feature extraction only."""
    lowercase: bool
    """Whether texts are lowercased before the tokenizer's own rules; ``load_tokenizer`` sees to it."""
    notes: tuple[str, ...]
    """What the caller should be told: choices that were made for want of information."""


def load_checkpoint(
    model: str, *, revision: str | None = None, task: TaskOption = TaskOption.AUTO, max_length: int | None = None
) -> Checkpoint:
    """Find a checkpoint, check it, and decide what it is exported as; its weights are not loaded yet.

    Args:
        model: Folder or hub id.
        revision: Branch, tag or commit of a hub id.
        task: What to export it as; ``auto`` decides by the architecture in its config.
        max_length: Longest input in tokens; None takes the shortest limit of model, tokenizer and
            sentence-transformers' files.

    Returns:
        The checkpoint.

    Raises:
        InputError: If there is a revision of a folder, or ``max_length`` is out of the model's range.
        CheckpointError: If there is no such checkpoint, a file of it is missing or broken, it is no BERT that can be
            exported, or it lacks what the task needs.
    """
    source = find_checkpoint(model, revision=revision)
    folder = source.folder
    config = _read_config(folder / "config.json")
    files = read_embedding_files(folder) if _may_embed(task, config) else None
    chosen = _choose_task(task, config, files)
    if chosen is not Task.FEATURE_EXTRACTION:
        files = None
    head = HEADS[chosen]
    if head.pairs.is_required and config.type_vocab_size < 2:
        raise CheckpointError(
            f"type_vocab_size must be at least 2 for {chosen.value}, got {config.type_vocab_size} in config.json: "
            "the tokenizer gives the second text type 1. Export it with --task feature-extraction."
        )
    if not (folder / TOKENIZER_FILE).is_file() and not (folder / "vocab.txt").is_file():
        raise CheckpointError(
            f"A checkpoint must have a tokenizer, {TOKENIZER_FILE} or vocab.txt, got neither in {folder}. "
            "Save the tokenizer beside the model with save_pretrained."
        )
    check_weights(find_weights(folder), _build_model(config, chosen, device="meta"))
    return Checkpoint(
        folder=folder,
        name=source.name,
        revision=source.revision,
        config=config,
        task=chosen,
        architecture=head.architecture,
        labels=_list_labels(config) if head.has_labels else (),
        problem_type=_find_problem_type(config) if chosen is Task.TEXT_CLASSIFICATION else None,
        max_length=_choose_max_length(max_length, folder, config, files),
        pooling=_choose_pooling(chosen, files),
        lowercase=files is not None and files.lowercase,
        notes=_write_notes(chosen, config, files),
    )


def load_model(checkpoint: Checkpoint) -> PreTrainedModel:
    """Load a checkpoint into this package's BERT.

    Args:
        checkpoint: As from ``load_checkpoint``.

    Returns:
        The model, float32 whatever the file has, in evaluation mode. Feature extraction has no pooler.

    Raises:
        CheckpointError: If the weights cannot be read, or are not finite.
    """
    model = _build_model(checkpoint.config, checkpoint.task, device="cpu")
    load_weights(find_weights(checkpoint.folder), model)
    model.train(mode=False)
    return model


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerFast:
    """Load a checkpoint's tokenizer in its fast form, made from ``vocab.txt`` where there is no ``tokenizer.json``.

    Args:
        checkpoint: As from ``load_checkpoint``.

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: If it is broken, has no fast form, has ids that the model has not, or has no mask token where
            the task is to foretell masked ones.
    """
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    folder = checkpoint.folder
    try:
        tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as err:  # tokenizers raises plain Exception for a file that it cannot read
        raise CheckpointError(f"A tokenizer must be readable, got in {folder}: {err}. Get its files again.") from err
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"A tokenizer must have a fast form, got {type(tokenizer).__name__} in {folder}. "
            f"Add a {TOKENIZER_FILE} to the checkpoint."
        )
    if HEADS[checkpoint.task].has_vocabulary and not _has_mask_token(tokenizer, folder):
        raise CheckpointError(
            f"A tokenizer must have a mask token for {checkpoint.task.value}, got none in {folder}. "
            "Get the tokenizer that the model was trained with."
        )
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= checkpoint.config.vocab_size:
        raise CheckpointError(
            f"Token ids must be below the vocab_size of {checkpoint.config.vocab_size} in config.json, got {largest} "
            f"from the tokenizer in {folder}. Get model and tokenizer of one checkpoint."
        )
    if checkpoint.lowercase:
        backend = tokenizer.backend_tokenizer
        own = [backend.normalizer] if backend.normalizer is not None else []
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    loaded: PreTrainedTokenizerFast = tokenizer
    return loaded


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Write ``tokenizer.json`` for the runtime, without truncation and padding, which are the runtime's to decide.

    Args:
        tokenizer: As from ``load_tokenizer``; stays as it is.
        folder: Where to write; must exist.

    Returns:
        The file.
    """
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    path = folder / TOKENIZER_FILE
    path.write_text(
        backend.to_str(pretty=True), encoding="utf-8"
    )  # its own save() raises plain Exception on a full disk
    return path


def _read_config(path: Path) -> BertConfig:
    """Return the config of a BERT encoder; anything else is refused."""
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
    try:
        config = BertConfig.from_dict(values)
    except (AttributeError, KeyError, TypeError, ValueError) as err:
        reason = str(err).rstrip(".")
        raise CheckpointError(f"{path} must be the config of a BERT, got: {reason}. Get the file again.") from err
    faults = _find_config_faults(config)
    if faults:
        raise CheckpointError(f"{path} must be the config of a BERT, got: {'; '.join(faults)}. Get the file again.")
    return config


def _find_config_faults(config: BertConfig) -> list[str]:
    """Return what no BERT can be built from; transformers itself takes any value here and fails much later."""
    from transformers.activations import ACT2FN

    values = {name: getattr(config, name) for name in _SIZES}
    faults = [
        f"{name} must be a whole number of at least 1, got {value!r}"
        for name, value in values.items()
        if not _is_int(value) or value < 1
    ]
    if faults:
        return faults
    if config.hidden_size % config.num_attention_heads:
        faults.append(
            f"hidden_size must be a multiple of num_attention_heads, got {config.hidden_size} and "
            f"{config.num_attention_heads}"
        )
    if config.max_position_embeddings < MIN_INPUT_TOKENS:
        faults.append(f"max_position_embeddings must be at least {MIN_INPUT_TOKENS}, got {values[_SIZES[5]]}")
    pad: Any = config.pad_token_id
    if not _is_int(pad) or not 0 <= pad < config.vocab_size:
        faults.append(f"pad_token_id must be an id of the vocabulary, got {pad!r}")
    if config.hidden_act not in ACT2FN:
        faults.append(f"hidden_act must be an activation of transformers, got {config.hidden_act!r}")
    if config.position_embedding_type not in _POSITIONS:
        faults.append(f"position_embedding_type must be one of {_POSITIONS}, got {config.position_embedding_type!r}")
    numbers = sorted(config.id2label or {})
    if numbers != list(range(config.num_labels)):
        faults.append(f"id2label must number the labels from 0, got {numbers}")
    return faults


def _has_mask_token(tokenizer: PreTrainedTokenizerFast, folder: Path) -> bool:
    """Return whether a tokenizer's files have its mask token; transformers appends one that they lack, untrained."""
    from tokenizers import Tokenizer

    path = folder / TOKENIZER_FILE
    if path.is_file():
        known = Tokenizer.from_file(str(path)).get_vocab()
    else:
        known = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    return tokenizer.mask_token in known


def _list_labels(config: BertConfig) -> tuple[str, ...]:
    """Return the names of the classes by index."""
    return tuple(str(label) for _, label in sorted((config.id2label or {}).items()))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _find_architecture(config: BertConfig) -> str | None:
    """Return the class that the checkpoint was saved from, where its config says so."""
    architectures = config.architectures
    return str(architectures[0]) if isinstance(architectures, list) and architectures else None


def _may_embed(task: TaskOption, config: BertConfig) -> bool:
    """Return whether the export could be one of embeddings, so that sentence-transformers' files matter.

    Many an encoder of embeddings was saved with the heads of its pretraining. No other head stands beside such files.
    """
    if task is not TaskOption.AUTO:
        return task is TaskOption.FEATURE_EXTRACTION
    found = find_task(_find_architecture(config))
    return found is None or found is Task.FEATURE_EXTRACTION or HEADS[found].has_vocabulary


def _choose_task(option: TaskOption, config: BertConfig, files: EmbeddingFiles | None) -> Task:
    """Return the task; a head is never exported as something that it was not trained for."""
    architecture = _find_architecture(config)
    if option is TaskOption.AUTO:
        found = Task.FEATURE_EXTRACTION if files is not None else find_task(architecture)
        if found is None:
            raise CheckpointError(
                f"Architecture must be one of {', '.join(ARCHITECTURES)}, got {architecture or 'none'} in "
                "config.json. Pass --task feature-extraction to export its token states"
                + ("." if architecture else ", or the task that it was trained for.")
            )
        return found
    chosen = Task(option.value)
    if chosen is not Task.FEATURE_EXTRACTION and architecture and architecture not in HEADS[chosen].sources:
        raise CheckpointError(
            f"Architecture for {chosen.value} must be {' or '.join(HEADS[chosen].sources)}, got {architecture} in "
            "config.json. Fine-tune the model for the task, or export it with --task feature-extraction."
        )
    return chosen


def _build_model(config: BertConfig, task: Task, *, device: str) -> PreTrainedModel:
    """Return this package's model for a task, with weights that mean nothing yet."""
    import torch

    from dynbert_export import modeling

    settings = copy.deepcopy(config)
    try:
        with torch.device(device):
            if task is Task.FEATURE_EXTRACTION:
                return modeling.BertModel(settings, add_pooling_layer=False)
            model: PreTrainedModel = getattr(modeling, HEADS[task].architecture)(settings)
            return model
    except DynbertError as err:  # such as a length_config in config.json that breaks a rule
        raise CheckpointError(f"config.json must describe a model that can be built, got: {err}") from err


def _find_problem_type(config: BertConfig) -> str:
    """Return what transformers' pipelines would do with the logits: sigmoid for a lone one, else softmax."""
    if config.problem_type is not None:
        return str(config.problem_type)
    return "multi_label_classification" if config.num_labels == 1 else "single_label_classification"


def _choose_max_length(given: int | None, folder: Path, config: BertConfig, files: EmbeddingFiles | None) -> int:
    """Return the longest input in tokens."""
    positions: int = config.max_position_embeddings
    if given is not None:
        if not MIN_INPUT_TOKENS <= given <= positions:
            raise InputError(
                f"max_length must be at least {MIN_INPUT_TOKENS} and at most {positions}, the positions that the model "
                f"has, got {given}."
            )
        return given
    limits = [positions]
    tokenizer = folder / "tokenizer_config.json"
    if tokenizer.is_file():
        limits.append(read_json_object(tokenizer).get("model_max_length") or positions)
    if files is not None and files.max_length is not None:
        limits.append(files.max_length)
    # A tokenizer without a limit of its own says so with a huge number, some of them with a float.
    return max(int(min(limit for limit in limits if isinstance(limit, (int, float)))), MIN_INPUT_TOKENS)


def _choose_pooling(task: Task, files: EmbeddingFiles | None) -> Pooling | None:
    """Return how embeddings are made; None for the tasks that make none."""
    if task is not Task.FEATURE_EXTRACTION:
        return None
    return files.pooling if files is not None else Pooling(mode=PoolingMode.MEAN, normalize=False)


def _write_notes(task: Task, config: BertConfig, files: EmbeddingFiles | None) -> tuple[str, ...]:
    """Return what the caller should be told."""
    notes = []
    if task is Task.FEATURE_EXTRACTION and files is None:
        notes.append(
            "The checkpoint has no sentence-transformers files: embeddings are mean pooled and not normalised."
        )
    if files is not None and files.default_prompt is not None:
        prompt = files.default_prompt
        notes.append(
            f"sentence-transformers puts {prompt!r} before every text of this model. A bundle does not: add it."
        )
    if getattr(config, "count_padded_queries", False):
        notes.append("config.json sets count_padded_queries: which tokens are dropped then depends on padding.")
    return tuple(notes)
