"""What the exporter knows of each task, in one table: a further head is a further row.

The names of a graph's inputs and outputs are optimum's, so that its ORTModel classes can run the graphs. Optimum has no
config for next-sentence prediction and for pretraining: the one takes those of text classification, the other the
inputs of fill-mask and outputs of its own. Pooled embeddings have the name that sentence-transformers gives them.

A head is exported from a checkpoint of its own class. Those of pretraining may also stand in a checkpoint of another
class (bert-base-uncased says BertForMaskedLM and has the head for next sentences); whether they do, its weights tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

from dynbert.manifest import Task
from dynbert.outputs import SENTENCE_EMBEDDING
from dynbert.scoring.examples import ProblemType

__all__ = [
    "ARCHITECTURES",
    "HEADS",
    "MIN_INPUT_TOKENS",
    "POOLED_OUTPUTS",
    "Axes",
    "Head",
    "Metric",
    "Pairs",
    "ProblemType",
    "find_metric",
    "find_task",
]

MIN_INPUT_TOKENS = 3
"""The shortest useful input of any task: CLS, one token, SEP."""

Axes: TypeAlias = Mapping[str, Mapping[int, str]]
"""Name of an input or output -> number of a dimension that is free -> its name."""

POOLED_OUTPUTS: Axes = MappingProxyType({SENTENCE_EMBEDDING: MappingProxyType({0: "batch_size"})})
"""Of feature extraction where the graph pools, in place of optimum's."""


class Metric(StrEnum):
    """What the agreement of two graphs is called; ``evaluation/agreement.py`` says what each is."""

    COSINE = "cosine"
    LABEL_AGREEMENT = "label_agreement"
    CLOSENESS = "closeness"
    RANK_CORRELATION = "rank_correlation"
    SPAN_AGREEMENT = "span_agreement"
    TOKEN_AGREEMENT = "token_agreement"  # noqa: S105  (not a password)
    MASK_AGREEMENT = "mask_agreement"
    CHOICE_AGREEMENT = "choice_agreement"
    PRETRAINING_AGREEMENT = "pretraining_agreement"


class Pairs(StrEnum):
    """Whether an input is one text or two."""

    SPLIT = "split"
    """One; the two halves of a pair are two inputs."""
    OPTIONAL = "optional"
    """One or two."""
    SENTENCES = "sentences"
    """Two; any two texts make a pair."""
    QUESTIONS = "questions"
    """Two; a question and the context that answers it."""

    @property
    def is_required(self) -> bool:
        """Whether there always is a second text, and so a second token type."""
        return self in {Pairs.SENTENCES, Pairs.QUESTIONS}


@dataclass(frozen=True)
class Head:
    """One task."""

    architecture: str
    """Class name of what is exported, transformers' and ours."""
    optimum_task: str
    """The task that optimum knows the graph's inputs and outputs by."""
    metric: Metric
    """How the answers of two graphs are compared; ``find_metric`` knows the exceptions."""
    call: str
    """How the card calls the model; ``{profile}`` and ``{mask}``, the tokenizer's mask token, to be filled in."""
    pairs: Pairs = Pairs.OPTIONAL
    outputs: Axes | None = None
    """None for optimum's."""
    further_architectures: tuple[str, ...] = ()
    """Classes whose checkpoints may hold this head's weights too."""
    has_labels: bool = False
    """Whether the classes have names."""
    has_vocabulary: bool = False
    """Whether it foretells masked tokens: scores of the whole vocabulary, and a tokenizer with a mask token."""

    @property
    def sources(self) -> tuple[str, ...]:
        """The classes whose checkpoints it can be exported from."""
        return (self.architecture, *self.further_architectures)


HEADS: Mapping[Task, Head] = MappingProxyType(
    {
        Task.QUESTION_ANSWERING: Head(
            architecture="BertForQuestionAnswering",
            optimum_task="question-answering",
            metric=Metric.SPAN_AGREEMENT,
            call='model(question="Who wrote it?", context="...", profile="{profile}")',
            pairs=Pairs.QUESTIONS,
        ),
        Task.TEXT_CLASSIFICATION: Head(
            architecture="BertForSequenceClassification",
            optimum_task="text-classification",
            metric=Metric.LABEL_AGREEMENT,
            call='model("A text.", profile="{profile}")',
            has_labels=True,
        ),
        Task.TOKEN_CLASSIFICATION: Head(
            architecture="BertForTokenClassification",
            optimum_task="token-classification",
            metric=Metric.TOKEN_AGREEMENT,
            call='model("A text.", profile="{profile}")',
            has_labels=True,
        ),
        Task.FILL_MASK: Head(
            architecture="BertForMaskedLM",
            optimum_task="fill-mask",
            metric=Metric.MASK_AGREEMENT,
            call='model("Paris is the {mask} of France.", profile="{profile}")',
            further_architectures=("BertForPreTraining",),
            has_vocabulary=True,
        ),
        Task.NEXT_SENTENCE_PREDICTION: Head(
            architecture="BertForNextSentencePrediction",
            optimum_task="text-classification",
            metric=Metric.LABEL_AGREEMENT,
            call='model("First.", text_pair="Second.", profile="{profile}")',
            pairs=Pairs.SENTENCES,
            further_architectures=("BertForPreTraining", "BertForMaskedLM"),
        ),
        Task.MULTIPLE_CHOICE: Head(
            architecture="BertForMultipleChoice",
            optimum_task="multiple-choice",
            metric=Metric.CHOICE_AGREEMENT,
            call='model("A question?", choices=["a", "b"], profile="{profile}")',
            pairs=Pairs.SENTENCES,
        ),
        Task.PRETRAINING: Head(
            architecture="BertForPreTraining",
            optimum_task="fill-mask",
            metric=Metric.PRETRAINING_AGREEMENT,
            call='model("Paris is the {mask} of France.", text_pair="It lies on the Seine.", profile="{profile}")',
            pairs=Pairs.SENTENCES,
            outputs={
                "prediction_logits": {0: "batch_size", 1: "sequence_length"},
                "seq_relationship_logits": {0: "batch_size"},
            },
            further_architectures=("BertForMaskedLM",),
            has_vocabulary=True,
        ),
        Task.FEATURE_EXTRACTION: Head(
            architecture="BertModel",
            optimum_task="feature-extraction",
            metric=Metric.COSINE,
            call='model.encode(["A text.", "Another one."], profile="{profile}")',
            pairs=Pairs.SPLIT,
        ),
    }
)

ARCHITECTURES = tuple(head.architecture for head in HEADS.values())
"""Class names of what can be exported."""


_METRICS_OF_PROBLEMS = {
    ProblemType.REGRESSION.value: Metric.CLOSENESS,
    ProblemType.RANKING.value: Metric.RANK_CORRELATION,
}
"""Problem types whose answers are no labels."""


def find_metric(task: Task, problem_type: str | None = None) -> Metric:
    """Return how the answers of two graphs of a checkpoint are compared, and what that is called wherever it is shown.

    Args:
        task: What the graphs compute.
        problem_type: Of text classification, a ``ProblemType``; None for the other tasks.

    Returns:
        The metric.
    """
    return _METRICS_OF_PROBLEMS.get(problem_type or "", HEADS[task].metric)


def find_task(architecture: str | None) -> Task | None:
    """Return what an architecture computes.

    Args:
        architecture: Class name from a ``config.json``; None where it has none.

    Returns:
        The task, or None where it is none of ``ARCHITECTURES``.
    """
    return next((task for task, head in HEADS.items() if head.architecture == architecture), None)
