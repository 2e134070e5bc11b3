"""What the page reads where the user gives no text: one call a task."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dynbert.errors import InputError
from dynbert.manifest import Task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynbert.manifest import ModelInfo

__all__ = ["sample_call", "split_call"]

_RANKING = "ranking"
_SENTENCE = (
    "The meteorologists had warned of heavy rain all week, but the storm turned north in the night, "
    "and the harvest festival in the old town went ahead under a clear sky."
)
_CALLS: Mapping[Task, Mapping[str, Any]] = MappingProxyType(
    {
        Task.QUESTION_ANSWERING: {
            "question": "Who wrote the first published computer program?",
            "context": (
                "Charles Babbage never finished his Analytical Engine. In 1843 Ada Lovelace translated an article on "
                "it from French and added notes of her own, three times as long. The last of them describes how the "
                "engine would compute Bernoulli numbers, and is often called the first published computer program."
            ),
        },
        Task.TEXT_CLASSIFICATION: {
            "texts": (
                "The first half hour drags, and I nearly left; but the last act is a quiet triumph, beautifully "
                "played, and I have been thinking about it ever since."
            )
        },
        Task.TOKEN_CLASSIFICATION: {
            "texts": (
                "Ada Lovelace was born in London in 1815 and worked with Charles Babbage, a professor at Cambridge, "
                "on the Analytical Engine."
            )
        },
        Task.FILL_MASK: {
            "texts": "After three days of heavy rain the river rose above its banks and the old [MASK] was washed away."
        },
        Task.NEXT_SENTENCE_PREDICTION: {
            "texts": "The storm turned north in the night.",
            "text_pair": "In the morning the harvest festival went ahead under a clear sky.",
        },
        Task.MULTIPLE_CHOICE: {
            "texts": "She looked at the dark clouds above the harbour and went back into the house to fetch",
            "choices": [
                "an umbrella, because it was going to rain.",
                "the piano, because it was her birthday.",
                "a cloud, to put it on the table.",
            ],
        },
        Task.PRETRAINING: {
            "texts": "After three days of rain the old [MASK] was washed away.",
            "text_pair": "The village had to wait a year for a new one.",
        },
        Task.FEATURE_EXTRACTION: {"texts": _SENTENCE},
    }
)
_RANKING_CALL = MappingProxyType(
    {
        "texts": "when did the storm change its course",
        "text_pair": _SENTENCE,
    }
)


def sample_call(model: ModelInfo) -> dict[str, Any]:
    """Return a call that a bundle can answer.

    Args:
        model: The bundle's.

    Returns:
        The arguments of ``model(...)``, for one text.
    """
    return dict(_RANKING_CALL if model.problem_type == _RANKING else _CALLS[model.task])


def split_call(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a call for several texts, as the command reads it, as one call a text.

    Args:
        given: The arguments; ``texts``, ``text_pair`` and ``choices`` are lists, or strings where there is one.

    Returns:
        The calls.

    Raises:
        InputError: If the lists differ in length.
    """
    texts = given.get("texts")
    if not isinstance(texts, list):
        return [dict(given)]
    listed = {name: list(given[name]) for name in ("texts", "text_pair", "choices") if name in given}
    for name, values in listed.items():
        if len(values) != len(texts):
            raise InputError(f"{name} must have one for each of {len(texts)} texts, got {len(values)}.")
    others = {name: value for name, value in given.items() if name not in listed}
    return [others | {name: values[index] for name, values in listed.items()} for index in range(len(texts))]
