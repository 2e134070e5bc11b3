"""What a profile answers to one text, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.manifest import FULL
from dynbert.tasks.multiple_choice import Choice
from dynbert.tasks.next_sentence_prediction import NextSentence
from dynbert.tasks.pretraining import Pretraining
from dynbert.tasks.question_answering import Answer
from dynbert.tasks.text_classification import Classification
from dynbert.tasks.token_classification import TokenLabels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from dynbert.model import DynamicBert
    from dynbert.tasks.fill_mask import MaskedToken

__all__ = ["answer_text", "describe_answer"]

_CANDIDATES = 3


def describe_answer(model: DynamicBert, call: Mapping[str, Any], profile: str) -> str:
    """Let a profile answer.

    Args:
        model: The bundle's model.
        call: The arguments of ``model(...)``, for one text.
        profile: The profile.

    Returns:
        The answer. Of an embedding, how near it is to the one of ``full``.
    """
    result = model(**call, profile=profile)
    if isinstance(result, np.ndarray):
        return _cosine_text(result, model(**call, profile=FULL), profile)
    return answer_text(result)


def answer_text(result: Any) -> str:
    """Return a task's result for one text in one line.

    Args:
        result: As ``model(...)`` returns it, no embedding.

    Returns:
        The line.
    """
    match result:
        case Answer() | Choice():
            return f"{result.text} (score {result.score:.3f})"
        case Classification():
            return f"{result.label} (score {result.score:.3f})"
        case TokenLabels():
            entities = [f"{entity.text} ({entity.label})" for entity in result.entities]
            return ", ".join(entities) or "no entity"
        case NextSentence():
            return f"{'follows' if result.is_next else 'does not follow'} (probability {result.score:.3f})"
        case Pretraining():
            follows = () if result.next_sentence is None else (answer_text(result.next_sentence),)
            return "; ".join((*map(_mask_text, result.masks), *follows))
        case _:
            return "; ".join(map(_mask_text, result))


def _mask_text(mask: MaskedToken) -> str:
    best = mask.candidates[:_CANDIDATES]
    return ", ".join(f"{candidate.token} ({candidate.score:.3f})" for candidate in best)


def _cosine_text(embedding: NDArray[Any], full: NDArray[Any], profile: str) -> str:
    if profile == FULL:
        return f"an embedding of {embedding.size} numbers"
    norms = float(np.linalg.norm(embedding) * np.linalg.norm(full))
    return f"an embedding, cosine {float(embedding @ full) / norms:.3f} with that of {FULL}"
