"""From ``--model`` to a model that can be trained: with the checkpoint's own head, or with a new one for the task.

What a checkpoint must be is what an export asks of it (``checkpoint/``): a BERT that brings no code, safe files, a fast
tokenizer. Only the head may be missing, or be one of another task: it is then made anew, and a note says so.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from dynbert.errors import InputError
from dynbert.inputs import INPUT_NAMES
from dynbert.manifest import Pooling, Task
from dynbert_export.checkpoint.config import find_architecture, find_problem_type, list_labels, read_config
from dynbert_export.checkpoint.embedding_files import EmbeddingFiles, read_embedding_files
from dynbert_export.checkpoint.file_names import CONFIG_FILE
from dynbert_export.checkpoint.load import DEFAULT_POOLING, choose_max_length
from dynbert_export.checkpoint.source import find_checkpoint
from dynbert_export.checkpoint.tokenizer import load_tokenizer
from dynbert_export.checkpoint.weights import (
    HEAD_PREFIXES,
    POOLER_PREFIX,
    check_weights,
    find_weights,
    list_weights,
    load_weights,
)
from dynbert_export.errors import CheckpointError
from dynbert_export.options.vocabularies import TrainingTaskOption
from dynbert_export.tasks import HEADS, ProblemType, find_task

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import BertConfig, PreTrainedModel, PreTrainedTokenizerFast

    from dynbert.scoring.examples import LabelledData
    from dynbert_export.checkpoint.source import Source

__all__ = [
    "TRAINED_TASKS",
    "Start",
    "Teacher",
    "build_model",
    "find_start",
    "fit_head",
    "load_teacher",
    "load_training_tokenizer",
]

TRAINED_TASKS = tuple(Task(option.value) for option in TrainingTaskOption if option is not TrainingTaskOption.AUTO)
"""The tasks that can be trained: those with labels, and embeddings."""


@dataclass(frozen=True)
class Start:
    """What a training starts from."""

    source: Source
    config: BertConfig
    """Not to be changed; without ``length_config``."""
    task: Task
    has_head: bool
    """Whether the checkpoint was trained for the task, so that its labels are those of the data."""
    labels: tuple[str, ...]
    """Names of the head's classes by index; empty where they come with the data."""
    problem_type: str | None
    """Of a text classifier with a head; None else."""
    max_length: int
    layers: tuple[int, ...]
    """Indices of the checkpoint's layers that are trained, ascending; the others are left out."""
    files: EmbeddingFiles | None
    """What sentence-transformers' files say; embeddings only."""

    @property
    def pooling(self) -> Pooling:
        """How embeddings are made."""
        return self.files.pooling if self.files is not None else DEFAULT_POOLING

    @property
    def notes(self) -> tuple[str, ...]:
        """What the caller should be told."""
        if self.has_head:
            return ()
        return (f"The checkpoint has no head for {self.task.value}: it gets a new one.",)

    @property
    def folder(self) -> Path:
        """Where the checkpoint's files are."""
        return self.source.folder

    @property
    def lowercase(self) -> bool:
        """Whether texts are lowercased before the tokenizer's own rules."""
        return self.files is not None and self.files.lowercase


@dataclass(frozen=True)
class Teacher:
    """A checkpoint that teaches."""

    model: PreTrainedModel
    """In evaluation mode, without gradients."""
    pooling: Pooling
    """How its embeddings are made."""


def find_start(
    model: str,
    *,
    revision: str | None = None,
    task: TrainingTaskOption,
    max_length: int | None = None,
    layers: tuple[int, ...] | None = None,
) -> Start:
    """Find a checkpoint and decide what it is trained for; no weights are read yet.

    Args:
        model: Folder or hub id.
        revision: Branch, tag or commit of a hub id.
        task: What for; ``auto`` asks the architecture in its config.
        max_length: Longest input in tokens; None for what the checkpoint says.
        layers: Indices of the layers to train, the others left out; None for all.

    Returns:
        What is known of it.

    Raises:
        InputError: If the task cannot be told, or is none that can be trained, or a layer does not exist.
        CheckpointError: If the checkpoint cannot be used.
    """
    source = find_checkpoint(model, revision=revision)
    config, _ = read_config(source.folder / CONFIG_FILE)
    files = read_embedding_files(source.folder)
    chosen = _choose_task(task, config, files)
    if HEADS[chosen].pairs.is_required and config.type_vocab_size < 2:
        raise CheckpointError(
            f"type_vocab_size must be at least 2 for {chosen.value}, got {config.type_vocab_size} in config.json: "
            "the tokenizer gives the second text type 1."
        )
    has_head = chosen is Task.FEATURE_EXTRACTION or find_architecture(config) == HEADS[chosen].architecture
    is_classifier = has_head and chosen is Task.TEXT_CLASSIFICATION
    return Start(
        source=source,
        config=config,
        task=chosen,
        has_head=has_head,
        labels=list_labels(config) if has_head and HEADS[chosen].has_labels else (),
        problem_type=find_problem_type(config) if is_classifier else None,
        max_length=choose_max_length(max_length, source.folder, config, files),
        layers=_choose_layers(layers, config.num_hidden_layers),
        files=files if chosen is Task.FEATURE_EXTRACTION else None,
    )


def fit_head(start: Start, data: LabelledData) -> BertConfig:
    """Return the config of the model that is trained on some data.

    Args:
        start: What is trained.
        data: The labelled data.

    Returns:
        A config of its own, with the data's labels where the head is new.
    """
    config = copy.deepcopy(start.config)
    if start.task is Task.TEXT_CLASSIFICATION:
        # transformers refuses a ranking here; one logit and no word of what it is mean one.
        config.problem_type = None if data.problem_type == ProblemType.RANKING else data.problem_type
    if HEADS[start.task].has_labels and not start.has_head:
        names = data.label_names or ("LABEL_0",)
        config.num_labels = len(names)
        config.id2label = dict(enumerate(names))
        config.label2id = {name: number for number, name in enumerate(names)}
    return config


def build_model(start: Start, config: BertConfig, *, dropout: float | None = None) -> PreTrainedModel:
    """Load a checkpoint's weights into the model that is trained.

    Args:
        start: What is trained.
        config: As from ``fit_head``.
        dropout: Probability of every dropout, while it is trained: the config keeps its own. None for the config's.

    Returns:
        The model, float32, in training mode. What the checkpoint lacks of the head is initialised as BERT is.

    Raises:
        CheckpointError: If the weights cannot be read, or anything but the head is missing.
    """
    files = find_weights(start.folder)
    model = _make_model(start.task, config)
    new = _list_new(start, files)
    check_weights(files, model, new=new)
    load_weights(files, model, new=new)
    _leave_out_layers(model, start.layers)
    if dropout is not None:
        _set_dropout(model, dropout)
    built: PreTrainedModel = model.train()
    return built


def _set_dropout(model: torch.nn.Module, probability: float) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = probability


def load_training_tokenizer(start: Start) -> PreTrainedTokenizerFast:
    """Load a checkpoint's tokenizer; whatever its files say, it cuts and pads at the end, as the runtime does.

    Args:
        start: What is trained.

    Returns:
        The tokenizer, which gives all that the model takes.

    Raises:
        CheckpointError: If it cannot be used, or has no token to pad with.
    """
    tokenizer = load_tokenizer(start)
    if tokenizer.pad_token is None:
        raise CheckpointError(f"A tokenizer must have a token to pad with, got none in {start.folder}. Add pad_token.")
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    tokenizer.model_input_names = list(INPUT_NAMES)
    tokenizer.deprecation_warnings["Asking-to-pad-a-fast-tokenizer"] = True  # told: padding comes later, by batch
    return tokenizer


def load_teacher(name: str | None, start: Start, data: LabelledData) -> Teacher | None:
    """Load a checkpoint that teaches.

    Args:
        name: Folder or hub id; None for none but the one that embeddings cannot do without: the checkpoint that is
            trained, as it was before, with all of its layers.
        start: What it teaches.
        data: What it teaches on.

    Returns:
        The teacher; None where there is none.

    Raises:
        InputError: If it has another task, other labels, another tokenizer, fewer positions or, for embeddings, another
            width.
        CheckpointError: If it cannot be used.
    """
    if name is None:
        if start.task is not Task.FEATURE_EXTRACTION:
            return None
        teacher = replace(start, layers=tuple(range(start.config.num_hidden_layers)))
    else:
        teacher = find_start(name, task=TrainingTaskOption(start.task.value))
        _check_teacher(name, teacher, start, data)
    model = build_model(teacher, copy.deepcopy(teacher.config))
    model.train(mode=False)
    return Teacher(model.requires_grad_(requires_grad=False), teacher.pooling)


def _check_teacher(name: str, teacher: Start, start: Start, data: LabelledData) -> None:
    """Hold a teacher to what it teaches."""
    if not teacher.has_head:
        raise InputError(f"Teacher must be trained for {start.task.value}, got {name} without a head for it.")
    ours: dict[str, object] = {"problem_type": data.problem_type}
    theirs: dict[str, object] = {"problem_type": teacher.problem_type}
    if data.label_names:
        ours["labels"], theirs["labels"] = data.label_names, teacher.labels
    if start.task is Task.FEATURE_EXTRACTION:
        ours["hidden_size"], theirs["hidden_size"] = start.config.hidden_size, teacher.config.hidden_size
    for what, value in ours.items():
        if value != theirs[what]:
            raise InputError(
                f"Teacher must have the same {what} as what it teaches, {value}, got {theirs[what]} in {name}."
            )
    if load_tokenizer(teacher).get_vocab() != load_tokenizer(start).get_vocab():
        raise InputError(f"Teacher must have the same tokenizer as what it teaches, got another vocabulary in {name}.")
    if teacher.config.max_position_embeddings < start.max_length:
        raise InputError(
            f"Teacher must read inputs of {start.max_length} tokens, got {teacher.config.max_position_embeddings} "
            f"positions in {name}. Pass a smaller --max-length."
        )


def _leave_out_layers(model: Any, layers: tuple[int, ...]) -> None:
    """Leave a model these layers alone, and say so in its config."""
    encoder = model.base_model.encoder
    encoder.layer = torch.nn.ModuleList([encoder.layer[index] for index in layers])
    model.config.num_hidden_layers = len(layers)


def _make_model(task: Task, config: BertConfig) -> Any:
    """Return this package's model for a task, initialised as BERT is."""
    from dynbert_export import modeling

    if task is Task.FEATURE_EXTRACTION:
        return modeling.BertModel(config, add_pooling_layer=False)
    return getattr(modeling, HEADS[task].architecture)(config)


def _list_new(start: Start, files: tuple[Path, ...]) -> tuple[str, ...]:
    """Return where the names of weights start that are made anew: a head of another task must not be taken for it."""
    if start.has_head:
        return ()
    has_pooler = any(name.startswith(POOLER_PREFIX) for name in list_weights(files))
    return tuple(prefix for prefix in HEAD_PREFIXES if prefix != POOLER_PREFIX or not has_pooler)


def _choose_layers(layers: tuple[int, ...] | None, num_layers: int) -> tuple[int, ...]:
    """Return the indices of the layers that are trained, ascending, each once."""
    chosen = tuple(range(num_layers)) if layers is None else tuple(sorted(set(layers)))
    outside = [str(index) for index in chosen if not 0 <= index < num_layers]
    if outside:
        raise InputError(
            f"layers must be indices of the checkpoint's layers, 0 to {num_layers - 1}, got {', '.join(outside)}. "
            "Leave them out."
        )
    return chosen


def _choose_task(option: TrainingTaskOption, config: BertConfig, files: EmbeddingFiles | None) -> Task:
    """Return the task that is trained."""
    if option is not TrainingTaskOption.AUTO:
        return Task(option.value)
    architecture = find_architecture(config)
    found = Task.FEATURE_EXTRACTION if files is not None else find_task(architecture)
    if found not in TRAINED_TASKS:
        known = ", ".join(task.value for task in TRAINED_TASKS)
        raise InputError(
            f"Task must be given for a checkpoint of {architecture or 'no architecture'}, got auto. "
            f"Pass --task, one of {known}."
        )
    return found
