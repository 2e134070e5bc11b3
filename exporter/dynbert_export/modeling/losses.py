"""The losses of the heads, as the reference documents them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from dynbert.errors import InputError

__all__ = ["classification_loss", "next_token_loss", "span_loss", "token_loss"]


def classification_loss(logits: Tensor, labels: Tensor, problem_type: str | None) -> Tensor:
    """Return the loss of labels for whole texts.

    Args:
        logits: ``[batch, labels]``.
        labels: Class numbers ``[batch]``, numbers ``[batch]`` or ``[batch, labels]`` to regress, or 0 and 1 for each
            label ``[batch, labels]``.
        problem_type: ``regression``, ``single_label_classification``, ``multi_label_classification`` or ``ranking``.
            None derives it as transformers does: regression for one logit, else classes where the labels are whole
            numbers. ``ranking`` is ours, and transformers refuses it in a ``config.json``: one logit and labels from 0
            to 1.

    Returns:
        A scalar: mean squared error, cross entropy or binary cross entropy; of a ranking the latter, as
        sentence-transformers' ``CrossEncoder`` trains one logit.

    Raises:
        InputError: If ``problem_type`` is unknown, or is a ranking by several logits.
    """
    num_labels = logits.shape[-1]
    if problem_type is None:
        is_whole = labels.dtype in {torch.long, torch.int}
        classification = "single_label_classification" if is_whole else "multi_label_classification"
        problem_type = "regression" if num_labels == 1 else classification
    if problem_type == "regression":
        # One number a text: labels come as [batch] or [batch, 1], and broadcasting one against the other is an error.
        return (
            functional.mse_loss(logits.view(-1), labels.view(-1))
            if num_labels == 1
            else (functional.mse_loss(logits, labels))
        )
    if problem_type == "single_label_classification":
        return token_loss(logits, labels)
    if problem_type == "multi_label_classification":
        return functional.binary_cross_entropy_with_logits(logits, labels)
    if problem_type == "ranking" and num_labels == 1:
        return functional.binary_cross_entropy_with_logits(logits.view(-1), labels.view(-1).to(logits.dtype))
    raise InputError(
        "config.problem_type must be regression, single_label_classification, multi_label_classification or, for one "
        f"logit, ranking, got {problem_type!r} for {num_labels} logits."
    )


def span_loss(start_logits: Tensor, end_logits: Tensor, start_positions: Tensor, end_positions: Tensor) -> Tensor:
    """Return the loss of answer spans.

    Args:
        start_logits: ``[batch, tokens]``.
        end_logits: ``[batch, tokens]``.
        start_positions: int64 ``[batch]`` or ``[batch, 1]``. Positions outside the input have no part in the loss;
            negative ones count as 0.
        end_positions: The same for the spans' ends.

    Returns:
        A scalar: the mean of both cross entropies.
    """
    tokens = start_logits.shape[1]
    losses = [
        functional.cross_entropy(logits, positions.view(-1).clamp(0, tokens), ignore_index=tokens)
        for logits, positions in ((start_logits, start_positions), (end_logits, end_positions))
    ]
    return (losses[0] + losses[1]) / 2


def token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of one class a label: a token's, a text's or a choice's.

    Args:
        logits: ``[..., classes]``.
        labels: int64 ``[...]``; -100 has no part in the loss.

    Returns:
        A scalar: the mean cross entropy, NaN where there is no label at all.
    """
    return functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of a decoder: each token is to foretell the next one.

    Args:
        logits: ``[batch, tokens, vocabulary]``.
        labels: int64 ``[batch, tokens]``, not shifted; -100 has no part in the loss.

    Returns:
        A scalar: the mean cross entropy.
    """
    return token_loss(logits[:, :-1], labels[:, 1:])
