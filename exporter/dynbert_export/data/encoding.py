"""From samples to the arrays that a graph is fed with.

Models that foretell masked tokens see masks as they did in training: about 15 % of the tokens of every input, chosen by
the seed, become the mask token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dynbert.errors import InputError
from dynbert.inputs import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from dynbert_export.errors import CalibrationError
from dynbert_export.tasks import HEADS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerFast

    from dynbert.manifest import Task
    from dynbert_export.data.samples import Sample

__all__ = ["encode_packed", "encode_padded", "find_mask_token_id", "mask_tokens"]

_MASKED_SHARE = 0.15
"""As BERT was pretrained (Devlin et al. 2019, section 3.1)."""


def encode_padded(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerFast, *, max_length: int, batch_size: int
) -> list[dict[str, NDArray[np.int64]]]:
    """Turn samples into batches, each padded to its longest sample.

    Args:
        samples: In the order in which they are batched.
        tokenizer: Its own truncation and padding are not used.
        max_length: Longer samples are truncated to this many tokens, special tokens included.
        batch_size: Samples in a batch; the last batch may have fewer.

    Returns:
        A mapping a batch: ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 ``[batch, tokens]``.
    """
    backend = _copy_backend(tokenizer)
    backend.enable_truncation(max_length)
    backend.enable_padding(pad_id=tokenizer.pad_token_id or 0, pad_token=tokenizer.pad_token or "[PAD]")
    batches = []
    for start in range(0, len(samples), batch_size):
        batch = samples[start : start + batch_size]
        batches.append(_stack(backend.encode_batch([_to_input(sample) for sample in batch])))
    return batches


def encode_packed(
    samples: Sequence[Sample], tokenizer: PreTrainedTokenizerFast, *, sequence_length: int
) -> list[dict[str, NDArray[np.int64]]]:
    """Turn samples into inputs of exactly one length, without padding.

    Single texts are joined and cut into windows. A pair gives one input: its first text, whole where it leaves the
    second at least half of the room, and its second, continued with those of the following samples. Each input has the
    special tokens that the tokenizer puts around one of its own.

    Args:
        samples: All single texts, or all pairs.
        tokenizer: Its own truncation and padding are not used.
        sequence_length: Tokens of each input, special tokens included.

    Returns:
        At least one input: ``input_ids``, ``attention_mask`` (all ones) and ``token_type_ids``, int64
        ``[1, sequence_length]``. Too few texts for one window are repeated.

    Raises:
        InputError: If ``sequence_length`` leaves no room for text.
        CalibrationError: If the samples are of both kinds, or have no tokens.
    """
    if len({sample.pair is None for sample in samples}) != 1:
        raise CalibrationError(
            f"Samples must be all single texts or all pairs, got {len(samples)} of both kinds or none."
        )
    backend = _copy_backend(tokenizer)
    pairs = samples[0].pair is not None
    room = sequence_length - backend.num_special_tokens_to_add(pairs)
    if room < (2 if pairs else 1):
        raise InputError(f"sequence_length must leave room for text between special tokens, got {sequence_length}.")
    pack = _pack_pairs if pairs else _pack_texts
    return [_stack([encoding]) for encoding in pack(samples, backend, room)]


def mask_tokens(
    rows: Mapping[str, NDArray[np.int64]], tokenizer: PreTrainedTokenizerFast, *, seed: int
) -> dict[str, NDArray[np.int64]]:
    """Put the mask token in place of about 15 % of the tokens that are not special, and of one a row at least.

    Args:
        rows: int64 arrays ``[rows, tokens]``; not changed.
        tokenizer: Says which ids are special; must have a mask token.
        seed: Equal seeds mask equal tokens.

    Returns:
        The same arrays, with other ``input_ids``. A row of special tokens alone has one of these masked.
    """
    generator = np.random.default_rng(seed)
    ids = rows[INPUT_IDS].copy()
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    for row, mask in zip(ids, rows[ATTENTION_MASK], strict=True):
        valid = np.flatnonzero(mask)
        tokens = valid[~np.isin(row[valid], list(special))]
        candidates = tokens if tokens.size else valid
        count = max(1, round(_MASKED_SHARE * candidates.size))
        row[generator.choice(candidates, size=count, replace=False)] = tokenizer.mask_token_id
    return {**rows, INPUT_IDS: ids}


def find_mask_token_id(tokenizer: PreTrainedTokenizerFast, task: Task) -> int | None:
    """Return the id that stands where a token is to be foretold.

    Args:
        tokenizer: The checkpoint's.
        task: What its model does.

    Returns:
        The id; None for the tasks that foretell none.
    """
    if not HEADS[task].has_vocabulary:
        return None
    mask_token_id: int = tokenizer.mask_token_id
    return mask_token_id


def _copy_backend(tokenizer: PreTrainedTokenizerFast) -> Any:
    """Return a copy of the fast tokenizer's core without truncation and padding; the caller's stays as it is."""
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    return backend


def _to_input(sample: Sample) -> str | tuple[str, str]:
    return sample.text if sample.pair is None else (sample.text, sample.pair)


def _stack(encodings: Sequence[Any]) -> dict[str, NDArray[np.int64]]:
    """Return encodings of one length as arrays."""
    return {
        INPUT_IDS: np.array([encoding.ids for encoding in encodings], dtype=np.int64),
        ATTENTION_MASK: np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
        TOKEN_TYPE_IDS: np.array([encoding.type_ids for encoding in encodings], dtype=np.int64),
    }


def _encode_until(backend: Any, texts: Sequence[str], tokens: int) -> Any:
    """Return the tokens of the joined texts without special tokens, the texts repeated until there are enough."""
    joined = " ".join(texts)
    encoding = backend.encode(joined, add_special_tokens=False)
    if not len(encoding):
        raise CalibrationError("Samples must have tokens, got none from the tokenizer.")
    if len(encoding) < tokens:
        repeats = -(-tokens // len(encoding))
        encoding = backend.encode(" ".join([joined] * repeats), add_special_tokens=False)
    return encoding


def _pack_texts(samples: Sequence[Sample], backend: Any, room: int) -> Iterator[Any]:
    """Yield windows of the joined texts; a rest at the end that fills no window is left out."""
    encoding = _encode_until(backend, [sample.text for sample in samples], room)
    encoding.truncate(room)
    for window in (encoding, *encoding.overflowing):
        if len(window) == room:
            yield backend.post_process(window)


def _pack_pairs(samples: Sequence[Sample], backend: Any, room: int) -> Iterator[Any]:
    """Yield one input a pair."""
    for index, sample in enumerate(samples):
        first = backend.encode(sample.text, add_special_tokens=False)
        first.truncate(max(room // 2, 1))
        rest = room - len(first)
        contexts: list[str] = []
        length = 0
        while length < rest and len(contexts) < len(samples):  # a word gives a token at least
            contexts.append(samples[(index + len(contexts)) % len(samples)].pair or "")
            length += len(contexts[-1].split())
        second = _encode_until(backend, contexts, rest)
        second.truncate(rest)
        yield backend.post_process(first, second)
