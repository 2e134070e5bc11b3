"""The loss of a batch: the task's own loss on the full model, and what the dropped models learn from it.

The order of a step (Yu and Huang 2019; Kim and Cho 2021): the full model runs with the labels; then the smallest and
the random models run without them, and each is to answer as the full one just did. All share their weights, so one
backward pass trains them all. An optional teacher, a checkpoint of any size, teaches the full model as well.

Embeddings have no labels: the checkpoint as it was before training is their teacher, of the full model too, which would
otherwise drift with the weights that it shares.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from dynbert.inputs import ATTENTION_MASK, INPUT_IDS
from dynbert.lengths import LengthConfig, minimum_fraction_tokens
from dynbert_export.modeling.dropping import gather_tokens
from dynbert_export.modeling.heads.sentence_embedding import pool_states
from dynbert_export.modeling.losses import classification_loss
from dynbert_export.tasks import ProblemType
from dynbert_export.training.distillation import contrastive_loss, distil, embedding_loss, hidden_state_loss
from dynbert_export.training.length_drop import LengthDrop, sample_dropped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from dynbert.manifest import Pooling, Task
    from dynbert_export.modeling.dropping import LengthArgument
    from dynbert_export.training.length_drop import DroppedModel

__all__ = ["PAIR_PREFIX", "Distillation", "EmbeddingLosses", "LabelLosses", "Losses", "Objective", "StepLoss"]

PAIR_PREFIX = "pair_"
"""Before the names of inputs that belong to the second texts of pairs."""
_LABELS = ("labels", "start_positions", "end_positions")
_NOTHING_DROPPED = ()
"""As a length config: whatever the model's own is."""


@dataclass(frozen=True)
class Distillation:
    """How models learn from one another."""

    temperature: float = 1.0
    """Of distributions; the papers have 1."""
    hidden_weight: float = 0.0
    """Tasks with labels: of the squared error between token states of a dropped model and of the full one, for the
    tokens that its last layer kept; 0 leaves it out, and models that leave out layers do."""
    teacher_weight: float = 0.5
    """Share of the full model's loss that a teacher checkpoint has, if there is one; the labels have the rest."""
    similarity_weight: float = 0.0
    """Embeddings: of the similarities within a batch, see ``embedding_loss``; 0 leaves them out."""
    contrastive_weight: float = 0.0
    """Embeddings of pairs: of telling each text's own partner from the others', see ``contrastive_loss``."""


@dataclass(frozen=True)
class StepLoss:
    """The loss of a batch."""

    loss: Tensor
    """A scalar with gradient."""
    full_output: Any
    """What the full model gave."""
    parts: Mapping[str, Tensor] = field(default_factory=dict)
    """What the loss is made of, for the log: scalars without gradient, on the model's device."""


@dataclass(frozen=True)
class LabelLosses:
    """Tasks whose heads have a loss of labels."""

    task: Task
    problem_type: str | None
    distillation: Distillation
    always_keep_cls_token: bool = True
    teacher: nn.Module | None = None
    """In evaluation mode; takes the same inputs and has the same outputs."""

    def answer(self, model: nn.Module, inputs: Mapping[str, Tensor], **arguments: Any) -> tuple[Tensor, Any]:
        """Run a model on inputs with labels.

        transformers knows no ranking, so that no config can say it to the model: its loss is computed here.

        Args:
            model: A head of this package.
            inputs: A batch.
            **arguments: Further ones of the model's.

        Returns:
            The labels' loss, a scalar, and the model's output.
        """
        is_ranking = self.problem_type == ProblemType.RANKING
        given = _without_labels(inputs) if is_ranking else inputs
        output = model(**given, always_keep_cls_token=self.always_keep_cls_token, return_dict=True, **arguments)
        if is_ranking:
            return classification_loss(output.logits, inputs["labels"], ProblemType.RANKING), output
        return output.loss.mean(), output  # several, where torch.nn.DataParallel splits a batch

    def full(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
        """Run the full model on inputs with labels.

        Args:
            model: A head of this package.
            inputs: A batch.

        Returns:
            A scalar and the model's output.
        """
        loss, output = self.answer(
            model,
            inputs,
            length_config=_NOTHING_DROPPED,
            output_hidden_states=self.distillation.hidden_weight > 0,
        )
        if self.teacher is None:
            return loss, output
        with torch.no_grad():
            taught = self.teacher(**_without_labels(inputs), length_config=_NOTHING_DROPPED, return_dict=True)
        share = self.distillation.teacher_weight
        return (1.0 - share) * loss + share * self._distil(output, taught, inputs), output

    def dropped(self, model: nn.Module, inputs: Mapping[str, Tensor], small: DroppedModel, full: Any) -> Tensor:
        """Run a dropped model on the same inputs.

        Args:
            model: The same head.
            inputs: The same batch.
            small: Which lengths and layers.
            full: The full model's output.

        Returns:
            A scalar.
        """
        weight = self.distillation.hidden_weight
        output = model(
            **_without_labels(inputs),
            length_config=small.lengths,
            layer_config=small.layers,
            always_keep_cls_token=self.always_keep_cls_token,
            output_hidden_states=weight > 0,
            return_dict=True,
        )
        loss = self._distil(output, full, inputs)
        if weight and small.layers is None:
            loss = loss + weight * _compare_states(output, full, inputs[ATTENTION_MASK])
        return loss

    def _distil(self, output: Any, teacher: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        return distil(self.task, self.problem_type, output, teacher, inputs, temperature=self.distillation.temperature)


@dataclass(frozen=True)
class EmbeddingLosses:
    """Embeddings: every model, the full one too, is to make what the teacher makes."""

    pooling: Pooling
    distillation: Distillation
    teacher: nn.Module
    """In evaluation mode: the checkpoint before training, all layers of it, or another one with as wide embeddings."""
    teacher_pooling: Pooling
    """How the teacher's embeddings are made."""
    always_keep_cls_token: bool = True

    def embed(
        self, model: nn.Module, inputs: Mapping[str, Tensor], pooling: Pooling | None = None, **arguments: Any
    ) -> Tensor:
        """Return embeddings.

        Args:
            model: A ``BertModel``.
            inputs: A batch of texts.
            pooling: How to; None for the trained model's.
            **arguments: Of the model's: lengths and layers.

        Returns:
            ``[batch, hidden]``.
        """
        output = model(
            **inputs,
            always_keep_cls_token=self.always_keep_cls_token,
            output_hidden_states=True,
            return_dict=True,
            **arguments,
        )
        return pool_states(output, inputs[ATTENTION_MASK], pooling or self.pooling)

    def full(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Any]:
        """Run the full model and the teacher.

        Args:
            model: A ``BertModel``.
            inputs: A batch of texts, or of pairs: the second texts' inputs have names with ``PAIR_PREFIX``.

        Returns:
            A scalar, and the teacher's embeddings, one of each text.
        """
        texts = _split_pairs(inputs)
        with torch.no_grad():
            wanted = self._teach(texts)
        return self._compare(model, texts, wanted, [_NOTHING_DROPPED] * len(texts)), wanted

    def dropped(self, model: nn.Module, inputs: Mapping[str, Tensor], small: DroppedModel, full: Any) -> Tensor:
        """Run a dropped model.

        Args:
            model: The same ``BertModel``.
            inputs: The same batch.
            small: Which lengths and layers; partners, which are padded to a length of their own, keep the same shares.
            full: The teacher's embeddings.

        Returns:
            A scalar.
        """
        texts = _split_pairs(inputs)
        tokens = [each[INPUT_IDS].shape[-1] for each in texts]
        lengths = [self._stretch(small.lengths, tokens[0], each) for each in tokens]
        return self._compare(model, texts, full, lengths, layer_config=small.layers)

    def predict(
        self, model: nn.Module, inputs: Mapping[str, Tensor]
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return how the model embeds at its current lengths.

        Args:
            model: A ``BertModel``.
            inputs: A batch of texts, or of pairs.

        Returns:
            A scalar loss; the embeddings, ``[batch, hidden]``, of the texts and, where there are pairs, of their
            partners; and the teacher's.
        """
        texts = _split_pairs(inputs)
        got = tuple(self.embed(model, each) for each in texts)
        wanted = tuple(self._teach(texts))
        return embedding_loss(got[0], wanted[0], similarity_weight=0.0), got, wanted

    def _stretch(self, lengths: LengthConfig, tokens: int, other: int) -> LengthConfig:
        """Return lengths that keep of an input of another length the same shares, rounded up."""
        least = minimum_fraction_tokens(other, always_keep_cls_token=self.always_keep_cls_token)
        return LengthConfig(tuple(max(-(-int(length) * other // tokens), least) for length in lengths.lengths))

    def _teach(self, texts: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
        return [self.embed(self.teacher, each, self.teacher_pooling, length_config=_NOTHING_DROPPED) for each in texts]

    def _compare(
        self,
        model: nn.Module,
        texts: Sequence[Mapping[str, Tensor]],
        wanted: Sequence[Tensor],
        lengths: Sequence[LengthArgument],
        *,
        layer_config: tuple[int, ...] | None = None,
    ) -> Tensor:
        got = [
            self.embed(model, each, length_config=length, layer_config=layer_config)
            for each, length in zip(texts, lengths, strict=True)
        ]
        weight = self.distillation.similarity_weight
        losses = [
            embedding_loss(ours, theirs, similarity_weight=weight) for ours, theirs in zip(got, wanted, strict=True)
        ]
        loss = torch.stack(losses).mean()
        if len(got) > 1 and self.distillation.contrastive_weight:
            loss = loss + self.distillation.contrastive_weight * contrastive_loss(*got)
        return loss


Losses: TypeAlias = LabelLosses | EmbeddingLosses
"""What tells one kind of task from another in training: ``full`` and ``dropped`` run a model, ``teacher`` is
asked and not trained."""


@dataclass(frozen=True)
class Objective:
    """What a batch is trained on."""

    losses: Losses
    drop: LengthDrop
    num_layers: int
    seed: int
    weight: float
    """Of each dropped model's loss, next to the full one's; the papers add them up as they are."""

    def __call__(
        self, model: nn.Module, inputs: Mapping[str, Tensor], *, place: tuple[int, int], is_plain: bool = False
    ) -> StepLoss:
        """Return the loss of a batch.

        Args:
            model: In training mode.
            inputs: The batch.
            place: Number of the step and of the batch within it; they decide what is dropped.
            is_plain: Whether the full model alone is trained.

        Returns:
            The loss, which has run every model once.
        """
        loss, full = self.losses.full(model, inputs)
        if is_plain:
            return StepLoss(loss, full)
        smaller = sample_dropped(inputs[INPUT_IDS].shape[-1], self.num_layers, self.drop, seed=(self.seed, *place))
        dropped = torch.stack([self.losses.dropped(model, inputs, small, full) for small in smaller])
        parts = {"full_loss": loss.detach(), "smallest_loss": dropped[0].detach()}
        return StepLoss(loss + self.weight * dropped.sum(), full, parts)


def _without_labels(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in inputs.items() if name not in _LABELS}


def _split_pairs(inputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Return the inputs of the texts and, where there are pairs, of their partners."""
    texts = {name: tensor for name, tensor in inputs.items() if not name.startswith(PAIR_PREFIX)}
    partners = {
        name.removeprefix(PAIR_PREFIX): tensor for name, tensor in inputs.items() if name.startswith(PAIR_PREFIX)
    }
    return [texts, partners] if partners else [texts]


def _compare_states(student: Any, teacher: Any, attention_mask: Tensor) -> Tensor:
    """Return the error of the states that left the last layer, of the tokens that it kept."""
    states = student.hidden_states[-1]
    kept = student.kept_positions[-1]
    wanted = gather_tokens(teacher.hidden_states[-1], kept, states.shape[-1])
    return hidden_state_loss(states, wanted, attention_mask.flatten(0, -2).gather(1, kept))  # choices are rows
