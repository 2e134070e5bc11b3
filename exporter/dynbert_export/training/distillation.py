"""What a smaller model learns from a larger one: one loss a task, on the same batch.

In-place distillation (Yu and Huang 2019; Kim and Cho 2021): the model that drops tokens is to answer what
the full one answers. The student's distribution is the one that is adapted, so that the divergence is KL(teacher ||
student); temperature and its square as in Hinton et al. 2015, section 2. Numbers take the squared error, embeddings the
angle and, if asked, the similarities within a batch. The teacher's side never gets a gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional

from dynbert.manifest import Task
from dynbert_export.tasks import ProblemType

if TYPE_CHECKING:
    from transformers.utils.generic import ModelOutput

__all__ = ["DISTILLED_TASKS", "contrastive_loss", "distil", "embedding_loss", "hidden_state_loss", "kl_divergence"]

_SIMILARITY_SCALE = 20.0
"""Cosines are multiplied by this before softmax, as sentence-transformers' ranking losses do."""


def kl_divergence(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, mask: Tensor | None = None) -> Tensor:
    """Return the mean divergence KL(teacher || student) of distributions over the last dimension.

    Args:
        student: Logits ``[..., classes]``.
        teacher: Logits ``[..., classes]``; no gradient reaches them.
        temperature: Both are divided by it; the result is multiplied by its square, so that gradients keep their size.
        mask: Boolean ``[...]``: the distributions that count; None for all.

    Returns:
        A scalar, at least 0; 0 where nothing counts.
    """
    student_log = functional.log_softmax(student.float() / temperature, dim=-1)
    teacher_log = functional.log_softmax(teacher.detach().float() / temperature, dim=-1)
    divergence = functional.kl_div(student_log, teacher_log, reduction="none", log_target=True).sum(dim=-1)
    return _masked_mean(divergence, mask) * temperature**2


def hidden_state_loss(student: Tensor, teacher: Tensor, attention_mask: Tensor) -> Tensor:
    """Return the mean squared error of token states, padding left out.

    Args:
        student: ``[batch, tokens, hidden]``.
        teacher: ``[batch, tokens, hidden]``: the teacher's states of the same tokens.
        attention_mask: ``[batch, tokens]``, 1 for tokens.

    Returns:
        A scalar.
    """
    error = functional.mse_loss(student.float(), teacher.detach().float(), reduction="none").mean(dim=-1)
    return _masked_mean(error, attention_mask.bool())


def embedding_loss(student: Tensor, teacher: Tensor, *, similarity_weight: float) -> Tensor:
    """Return how far embeddings are from those they are to be: one by one, and in how alike they find one another.

    Args:
        student: ``[batch, hidden]``.
        teacher: ``[batch, hidden]``; no gradient reaches it.
        similarity_weight: Of the second term, the divergence of each text's similarities to the batch's other texts
            (Fang et al. 2021, "SEED"): retrieval orders by them.

    Returns:
        A scalar: the mean of 1 - cosine, and the weighted second term.
    """
    wanted = functional.normalize(teacher.detach().float(), dim=-1)
    got = functional.normalize(student.float(), dim=-1)
    loss = (1.0 - (wanted * got).sum(dim=-1)).mean()
    if not similarity_weight or len(wanted) < 3:  # with one other text there is nothing to tell apart
        return loss
    own = torch.eye(len(wanted), dtype=torch.bool, device=wanted.device)
    similar = (_SIMILARITY_SCALE * (wanted @ wanted.T))[~own].view(len(wanted), -1)
    found = (_SIMILARITY_SCALE * (got @ wanted.T))[~own].view(len(wanted), -1)
    return loss + similarity_weight * kl_divergence(found, similar)


def contrastive_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return the in-batch ranking loss of labelled pairs: each text's own partner among all partners of the batch.

    Multiple negatives ranking (Henderson et al. 2017, section 4.4), in both directions.

    Args:
        first: ``[batch, hidden]``: embeddings of the texts.
        second: ``[batch, hidden]``: those of their partners.

    Returns:
        A scalar.
    """
    ours, theirs = (functional.normalize(each.float(), dim=-1) for each in (first, second))
    scores = _SIMILARITY_SCALE * (ours @ theirs.T)
    own = torch.arange(len(scores), device=scores.device)
    return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2


def distil(
    task: Task,
    problem_type: str | None,
    student: ModelOutput,
    teacher: ModelOutput,
    inputs: Mapping[str, Tensor],
    *,
    temperature: float,
) -> Tensor:
    """Return how far a model's answers are from a teacher's.

    Args:
        task: One of ``DISTILLED_TASKS``.
        problem_type: Of text classification, a ``ProblemType``; None for the other tasks.
        student: The model's output.
        teacher: The teacher's output on the same inputs; no gradient reaches it.
        inputs: What both ran on; padding and tokens without label are left out.
        temperature: Of distributions.

    Returns:
        A scalar.
    """
    if problem_type in {ProblemType.REGRESSION, ProblemType.RANKING}:
        return functional.mse_loss(student["logits"].float(), teacher["logits"].detach().float())
    if problem_type == ProblemType.MULTI_LABEL:
        return _label_set_divergence(student["logits"], teacher["logits"], temperature)
    return _DIVERGENCES[task](student, teacher, inputs, temperature)


def _masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return values.mean()
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp(min=1)


def _label_set_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Return the mean divergence of independent labels: each is a distribution over yes and no."""
    both = [torch.stack((logits, torch.zeros_like(logits)), dim=-1) for logits in (student, teacher)]
    return kl_divergence(both[0], both[1], temperature=temperature)


def _distil_classes(student: Any, teacher: Any, _inputs: Mapping[str, Tensor], temperature: float) -> Tensor:
    """Texts and choices: one distribution a row."""
    return kl_divergence(student["logits"], teacher["logits"], temperature=temperature)


def _distil_tokens(student: Any, teacher: Any, inputs: Mapping[str, Tensor], temperature: float) -> Tensor:
    """Tokens: those with a label, the first of each word."""
    mask = inputs["labels"] >= 0 if "labels" in inputs else inputs["attention_mask"].bool()
    return kl_divergence(student["logits"], teacher["logits"], temperature=temperature, mask=mask)


def _distil_spans(student: Any, teacher: Any, inputs: Mapping[str, Tensor], temperature: float) -> Tensor:
    """Spans: a distribution over the tokens for starts and one for ends, none of it on padding."""
    padding = ~inputs["attention_mask"].bool()
    losses = []
    for name in ("start_logits", "end_logits"):
        # The same finite number on both sides: its probability is 0, and 0 times infinity would be none.
        both = [output[name].float().masked_fill(padding, -1e4) for output in (student, teacher)]
        losses.append(kl_divergence(both[0], both[1], temperature=temperature))
    return (losses[0] + losses[1]) / 2


_Divergence = Callable[[Any, Any, Mapping[str, Tensor], float], Tensor]

_DIVERGENCES: Mapping[Task, _Divergence] = {
    Task.TEXT_CLASSIFICATION: _distil_classes,
    Task.MULTIPLE_CHOICE: _distil_classes,
    Task.TOKEN_CLASSIFICATION: _distil_tokens,
    Task.QUESTION_ANSWERING: _distil_spans,
}

DISTILLED_TASKS = tuple(_DIVERGENCES)
"""The tasks with labels that can be trained; embeddings have ``embedding_loss``."""
