"""What options, checkpoint and data must be to one another; all of it is known before anything is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert.errors import InputError
from dynbert.manifest import Task
from dynbert.scoring.examples import PlainExample, TextExample
from dynbert_export.errors import collect_faults
from dynbert_export.tasks import ProblemType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dynbert.scoring.examples import LabelledData
    from dynbert_export.options.training import TrainingConfig
    from dynbert_export.training.model import Start

__all__ = ["check_fit", "check_options"]

_ONE_LOGIT = (ProblemType.REGRESSION, ProblemType.RANKING)
_LEAST_ANSWER_TOKENS = 8
"""Shortest input of question answering: half of it may be a question, and a token of the context must have room."""


def check_options(config: TrainingConfig, start: Start) -> None:
    """Refuse options that have no meaning for the task: they would be dropped without a word.

    Args:
        config: The options.
        start: What is trained.

    Raises:
        InputError: With all that is wrong.
    """
    faults = list(_find_idle_options(config, start))
    if start.task is Task.QUESTION_ANSWERING and start.max_length < _LEAST_ANSWER_TOKENS:
        faults.append(
            f"max_length must be at least {_LEAST_ANSWER_TOKENS} for question answering, got {start.max_length}."
        )
    if config.least_lengths is not None:
        with collect_faults(faults, prefix="least_lengths: "):
            config.least_lengths.check_layers(len(start.layers))
    if faults:
        raise InputError("\n".join(faults))


def _find_idle_options(config: TrainingConfig, start: Start) -> Iterator[str]:
    """Yield a sentence about each option that nothing would come of."""
    is_embedder = start.task is Task.FEATURE_EXTRACTION
    labelled_only, embeddings_only = "for tasks with labels alone", "for feature-extraction alone"
    rules: tuple[tuple[str, bool, str], ...] = (
        ("problem_type", start.task is Task.TEXT_CLASSIFICATION, "for text-classification alone"),
        ("choice_columns", start.task is Task.MULTIPLE_CHOICE, "for multiple-choice alone"),
        ("temperature", not is_embedder, labelled_only),
        ("hidden_weight", not is_embedder, labelled_only),
        ("similarity_weight", is_embedder, embeddings_only),
        ("contrastive_weight", is_embedder, embeddings_only),
        (
            "teacher_weight",
            config.teacher is not None and not is_embedder,
            "with a teacher of a task with labels alone",
        ),
    )
    for name, is_meant, rule in rules:
        value = getattr(config, name)
        if not is_meant and value != type(config).model_fields[name].default:
            yield f"{name} must be given {rule}, got {value} for {start.task.value}. Leave it out."


def check_fit(config: TrainingConfig, start: Start, data: LabelledData) -> None:
    """Hold data to the checkpoint and to the options.

    Args:
        config: The options.
        start: What is trained.
        data: To train on.

    Raises:
        InputError: If they do not go together.
    """
    for check in (_check_head, _check_pairs, _check_contrast):
        check(config, start, data)


def _check_head(_config: TrainingConfig, start: Start, data: LabelledData) -> None:
    """A head has one logit for a number, and several for classes."""
    if start.task is not Task.TEXT_CLASSIFICATION or not start.has_head:
        return
    logits = start.config.num_labels
    is_number = data.problem_type in _ONE_LOGIT
    if is_number != (logits == 1) and data.problem_type != ProblemType.MULTI_LABEL:
        wanted = "one logit" if is_number else "a logit a class"
        raise InputError(
            f"The checkpoint's head must have {wanted} for {data.problem_type}, got {logits} ({start.problem_type}). "
            "Take a checkpoint without a head for it, which gets a new one."
        )


def _check_pairs(_config: TrainingConfig, start: Start, data: LabelledData) -> None:
    """The second text of a pair that is read at once has a token type of its own."""
    has_pairs = any(isinstance(example, TextExample) and example.pair is not None for example in data.examples)
    if has_pairs and start.config.type_vocab_size < 2:
        raise InputError(
            f"Data must have no pairs for a checkpoint with a type_vocab_size of {start.config.type_vocab_size}, got "
            f"some in {data.name}. Name the text's column alone with --text-column."
        )


def _check_contrast(config: TrainingConfig, start: Start, data: LabelledData) -> None:
    """Partners are told apart only where there are some, and they are partners."""
    if not config.contrastive_weight or start.task is not Task.FEATURE_EXTRACTION:
        return
    pairs: list[PlainExample] = [each for each in data.examples if isinstance(each, PlainExample)]
    faults: tuple[tuple[Callable[[PlainExample], bool], str], ...] = (
        (lambda pair: pair.pair is None, "texts alone"),
        (lambda pair: pair.score is not None, "pairs with scores, which may be strangers"),
    )
    for is_fault, got in faults:
        if any(map(is_fault, pairs)):
            raise InputError(
                f"Data must have pairs that belong together for a contrastive_weight, got {got} in {data.name}. "
                "Leave the weight out."
            )
