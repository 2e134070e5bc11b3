"""Which texts an export calibrates on, which it is judged on, and both as arrays.

The arrays have the shape that the graphs of the task take, and masks where the task is to foretell masked tokens:
whoever feeds them to a graph need not know the task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.inputs import INPUT_IDS, arrange_rows
from dynbert_export.data.encoding import encode_packed, encode_padded, mask_tokens
from dynbert_export.data.samples import Sample, choose_samples
from dynbert_export.tasks import HEADS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

    from dynbert.manifest import Task
    from dynbert_export.data.feeds import Feed
    from dynbert_export.data.files import CalibrationTexts

__all__ = ["EvaluationData", "PreparedData", "prepare_data"]

_HELD_OUT_SHARE = 4
"""One sample in so many is held out to judge by."""
_MAX_HELD_OUT = 64
_EVALUATION_TOKENS = 4096
"""Tokens of the held-out samples at most, so that a BERT-base is judged within seconds a graph."""
_WINDOW_TOKENS = 128
"""Tried by hand on all-MiniLM-L6-v2: an export for each, ``encode`` at precisions int8 and fp32 of 300 news texts and
of 20 inputs of 256 tokens, mean cosine: windows of 128 tokens 0.9975 and 0.9968; of 256 tokens 0.9972 and 0.9962; of
128 and a few of 256 0.9969 and 0.9957, because a few outliers of long inputs widen every range."""


@dataclass(frozen=True)
class EvaluationData:
    """What the graphs are judged by."""

    feeds: tuple[Feed, ...]
    """One text or pair each, of its own length: under fractions the runtime does not pad either."""
    samples: int
    """Texts, or pairs, in ``feeds``."""
    name: str
    """What a report calls them."""


@dataclass(frozen=True)
class PreparedData:
    """The arrays of an export."""

    calibration: tuple[Feed, ...]
    """Inputs of one shape, 128 tokens or the maximum length where that is shorter, without padding."""
    evaluation: EvaluationData


def prepare_data(
    texts: CalibrationTexts, tokenizer: PreTrainedTokenizerFast, task: Task, *, samples: int, max_length: int, seed: int
) -> PreparedData:
    """Split samples into those to calibrate on and those to judge by, and encode both.

    Args:
        texts: As read.
        tokenizer: The checkpoint's.
        task: Decides whether tokens are masked, and the shape of rows.
        samples: Most samples to calibrate on.
        max_length: Longest input in tokens.
        seed: Which samples are taken, and which tokens are masked.

    Returns:
        The arrays. A file of fewer than four samples serves for both purposes.
    """
    chosen = choose_samples(texts.samples, samples + min(samples, _MAX_HELD_OUT), seed=seed)
    held_out = min(len(chosen) // _HELD_OUT_SHARE, _MAX_HELD_OUT)
    evaluation = choose_samples(chosen, held_out, seed=seed) if held_out else chosen
    apart = set(evaluation)
    calibration = [sample for sample in chosen if sample not in apart][:samples] or chosen
    window = min(_WINDOW_TOKENS, max_length)
    batches, count = _within_budget(evaluation, tokenizer, max_length)

    def finish(inputs: Iterable[dict[str, NDArray[np.int64]]]) -> tuple[Feed, ...]:
        if HEADS[task].has_vocabulary:
            inputs = (mask_tokens(rows, tokenizer, seed=seed + number) for number, rows in enumerate(inputs))
        return tuple(arrange_rows(rows, task) for rows in inputs)

    used = "held out" if held_out else "calibrated on"
    return PreparedData(
        calibration=finish(encode_packed(calibration, tokenizer, sequence_length=window)),
        evaluation=EvaluationData(finish(batches), samples=count, name=f"{texts.name}, {count} {used}"),
    )


def _within_budget(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerFast, max_length: int
) -> tuple[list[dict[str, NDArray[np.int64]]], int]:
    """Return the first samples that fit the budget, at least one, and how many."""
    batches: list[dict[str, NDArray[np.int64]]] = []
    tokens = 0
    for batch in encode_padded(samples, tokenizer, max_length=max_length, batch_size=1):
        tokens += batch[INPUT_IDS].size
        if batches and tokens > _EVALUATION_TOKENS:
            break
        batches.append(batch)
    return batches, sum(len(batch[INPUT_IDS]) for batch in batches)
