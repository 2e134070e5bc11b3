"""From ``--model`` to a checked checkpoint on disk: what it is, what it can be exported as, and loading it.

All that can be known without loading weights is checked first, so that a wrong model fails in a second: the config, the
task against the architecture, the names and shapes of the weights, the tokenizer's files. Code that comes with a
checkpoint is never run.

Feature extraction makes embeddings of token states, so the pooler is neither needed nor read. Without
sentence-transformers' files, embeddings are means of token states, not normalised: what sentence-transformers itself
makes of such a checkpoint.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.errors import DynbertError, InputError
from dynbert.lengths import LengthConfig
from dynbert.manifest import Pooling, PoolingMode, Task
from dynbert.tokenization import TOKENIZER_FILE
from dynbert_export.checkpoint.config import find_architecture, find_problem_type, list_labels, read_config
from dynbert_export.checkpoint.embedding_files import EmbeddingFiles, PackageSettings, read_embedding_files
from dynbert_export.checkpoint.file_names import CONFIG_FILE, TOKENIZER_CONFIG_FILE
from dynbert_export.checkpoint.json_files import read_json_object
from dynbert_export.checkpoint.source import find_checkpoint
from dynbert_export.checkpoint.training_record import TRAINING_KEY, TrainingRecord
from dynbert_export.checkpoint.weights import check_weights, find_weights, load_weights
from dynbert_export.errors import CheckpointError
from dynbert_export.options.vocabularies import TaskOption
from dynbert_export.tasks import ARCHITECTURES, HEADS, MIN_INPUT_TOKENS, ProblemType, find_task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transformers import BertConfig, PreTrainedModel

__all__ = ["DEFAULT_POOLING", "Checkpoint", "choose_max_length", "load_checkpoint", "load_model"]

DEFAULT_POOLING = Pooling(mode=PoolingMode.MEAN, normalize=False)
"""Of a checkpoint without sentence-transformers' files."""


@dataclass(frozen=True)
class Checkpoint:
    """A BERT on disk that can be exported, and what is known of it."""

    folder: Path
    name: str
    """Hub id, or the folder's name."""
    revision: str | None
    """The commit that a hub served; None for a folder."""
    config: BertConfig
    """Not to be changed; ``load_model`` gives the model a copy. Without ``length_config``."""
    task: Task
    architecture: str
    """Class name of what is exported, e.g. ``BertForQuestionAnswering``."""
    labels: tuple[str, ...]
    """Names of the classes by index, of a text or of a token; empty for the other tasks."""
    problem_type: str | None
    """``single_label_classification``, ``multi_label_classification``, ``regression`` or ``ranking``; text
    classification only."""
    max_length: int
    """Longest input in tokens, special tokens included."""
    pooling: Pooling | None
    """Feature extraction only."""
    package: PackageSettings
    """What sentence-transformers does beside embedding; feature extraction only."""
    lowercase: bool
    """Whether texts are lowercased before the tokenizer's own rules; ``load_tokenizer`` sees to it."""
    length_config: LengthConfig | None
    """The lengths that its config starts a model with, no count above ``max_length``; None where it drops nothing."""
    training: TrainingRecord | None
    """What ``dynbert-train`` trained it to bear; None for a checkpoint from elsewhere."""
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
    config, lengths = read_config(folder / CONFIG_FILE)
    training = TrainingRecord.from_json(
        getattr(config, TRAINING_KEY, None), config.num_hidden_layers, folder / CONFIG_FILE
    )
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
    longest = choose_max_length(max_length, folder, config, files)
    return Checkpoint(
        folder=folder,
        name=source.name,
        revision=source.revision,
        config=config,
        task=chosen,
        architecture=head.architecture,
        labels=list_labels(config) if head.has_labels else (),
        problem_type=find_problem_type(config) if chosen is Task.TEXT_CLASSIFICATION else None,
        max_length=longest,
        pooling=_choose_pooling(chosen, files),
        package=files.package if files is not None else PackageSettings(),
        lowercase=files is not None and files.lowercase,
        length_config=_clamp(lengths, longest),
        training=training,
        notes=_write_notes(chosen, config, files),
    )


def load_model(checkpoint: Checkpoint, *, is_pooled: bool = False) -> PreTrainedModel:
    """Load a checkpoint into this package's BERT.

    Args:
        checkpoint: As from ``load_checkpoint``.
        is_pooled: Whether a model of feature extraction is to give embeddings in place of token states.

    Returns:
        The model, float32 whatever the file has, in evaluation mode. Feature extraction has no pooler.

    Raises:
        CheckpointError: If the weights cannot be read, or are not finite.
    """
    pooling = checkpoint.pooling if is_pooled else None
    model = _build_model(checkpoint.config, checkpoint.task, pooling=pooling, device="cpu")
    load_weights(find_weights(checkpoint.folder), model)
    model.train(mode=False)
    return model


def _may_embed(task: TaskOption, config: BertConfig) -> bool:
    """Return whether the export could be one of embeddings, so that sentence-transformers' files matter.

    Many an encoder of embeddings was saved with the heads of its pretraining. No other head stands beside such files.
    """
    if task is not TaskOption.AUTO:
        return task is TaskOption.FEATURE_EXTRACTION
    found = find_task(find_architecture(config))
    return found is None or found is Task.FEATURE_EXTRACTION or HEADS[found].has_vocabulary


def _choose_task(option: TaskOption, config: BertConfig, files: EmbeddingFiles | None) -> Task:
    """Return the task; a head is never exported as something that it was not trained for."""
    architecture = find_architecture(config)
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


def _build_model(config: BertConfig, task: Task, *, pooling: Pooling | None = None, device: str) -> PreTrainedModel:
    """Return this package's model for a task, with weights that mean nothing yet."""
    import torch

    from dynbert_export import modeling

    settings = copy.deepcopy(config)
    try:
        with torch.device(device):
            if pooling is not None:
                return modeling.BertForSentenceEmbedding(settings, pooling)
            if task is Task.FEATURE_EXTRACTION:
                return modeling.BertModel(settings, add_pooling_layer=False)
            model: PreTrainedModel = getattr(modeling, HEADS[task].architecture)(settings)
            return model
    except DynbertError as err:  # such as num_labels for question answering
        raise CheckpointError(f"config.json must describe a model that can be built, got: {err}") from err


def choose_max_length(given: int | None, folder: Path, config: BertConfig, files: EmbeddingFiles | None) -> int:
    """Return the longest input in tokens.

    Args:
        given: By the caller; None for the shortest limit that model, tokenizer and sentence-transformers' files have.
        folder: The checkpoint.
        config: Its config.
        files: Its sentence-transformers files, where they count.

    Returns:
        Tokens, special ones included.

    Raises:
        InputError: If ``given`` is out of the model's range.
    """
    positions: int = config.max_position_embeddings
    if given is not None:
        if not MIN_INPUT_TOKENS <= given <= positions:
            raise InputError(
                f"max_length must be at least {MIN_INPUT_TOKENS} and at most {positions}, the positions that the model "
                f"has, got {given}."
            )
        return given
    limits = [positions]
    tokenizer = folder / TOKENIZER_CONFIG_FILE
    if tokenizer.is_file():
        limits.append(read_json_object(tokenizer).get("model_max_length") or positions)
    if files is not None and files.max_length is not None:
        limits.append(files.max_length)
    # A tokenizer without a limit of its own says so with a huge number, some of them with a float.
    return max(int(min(limit for limit in limits if isinstance(limit, (int, float)))), MIN_INPUT_TOKENS)


def _clamp(lengths: LengthConfig | None, max_length: int) -> LengthConfig | None:
    """Return lengths that keep the same tokens of every input, with no count above the longest one's."""
    if lengths is None or lengths.is_fractional:
        return lengths
    return LengthConfig(tuple(min(length, max_length) for length in lengths.lengths))


def _choose_pooling(task: Task, files: EmbeddingFiles | None) -> Pooling | None:
    """Return how embeddings are made; None for the tasks that make none."""
    if task is not Task.FEATURE_EXTRACTION:
        return None
    return files.pooling if files is not None else DEFAULT_POOLING


def _write_notes(task: Task, config: BertConfig, files: EmbeddingFiles | None) -> tuple[str, ...]:
    """Return what the caller should be told."""
    notes = []
    if task is Task.FEATURE_EXTRACTION and files is None:
        notes.append(
            "The checkpoint has no sentence-transformers files: embeddings are mean pooled and not normalised."
        )
    if files is not None:
        notes += _explain_package(files.package)
    is_guessed = task is Task.TEXT_CLASSIFICATION and config.problem_type is None
    if is_guessed and find_problem_type(config) == ProblemType.RANKING:
        notes.append(
            "The classifier has one logit and config.json states no problem_type: the score is the logit itself "
            "(ranking). State regression there, or multi_label_classification for a probability."
        )
    if getattr(config, "count_padded_queries", False):
        notes.append("config.json sets count_padded_queries: which tokens are dropped then depends on padding.")
    return tuple(notes)


def _explain_package(settings: PackageSettings) -> Iterator[str]:
    """Yield what sentence-transformers does around this model and the runtime does not."""
    prompt = settings.default_prompt
    if prompt is not None and settings.include_prompt:
        yield f"sentence-transformers puts {prompt!r} before every text of this model. A bundle does not: add it."
    elif prompt is not None:
        yield (
            f"sentence-transformers puts {prompt!r} before every text of this model, and leaves its tokens out of the "
            "pooling. A bundle does neither."
        )
    if settings.dimensions is not None:
        yield (
            f"sentence-transformers cuts this model's embeddings to {settings.dimensions} dimensions. A bundle does "
            "not: cut them."
        )
