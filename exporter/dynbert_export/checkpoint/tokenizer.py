"""The tokenizer of a checkpoint: loaded in its fast form, and written as the one file that the runtime reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynbert.tokenization import TOKENIZER_FILE
from dynbert_export.errors import CheckpointError
from dynbert_export.tasks import HEADS

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerFast

    from dynbert_export.checkpoint.load import Checkpoint

__all__ = ["load_tokenizer", "save_tokenizer"]


def load_tokenizer(checkpoint: Checkpoint) -> PreTrainedTokenizerFast:
    """Load a checkpoint's tokenizer in its fast form, made from ``vocab.txt`` where there is no ``tokenizer.json``.

    Args:
        checkpoint: As from ``load_checkpoint``.

    Returns:
        The tokenizer.

    Raises:
        CheckpointError: If it is broken, has no fast form, has ids that the model has not, or has no mask token where
            the task is to foretell masked ones.
    """
    from tokenizers import normalizers
    from transformers import AutoTokenizer

    folder = checkpoint.folder
    try:
        tokenizer = AutoTokenizer.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True, trust_remote_code=False
        )
    except Exception as err:  # tokenizers raises plain Exception for a file that it cannot read
        raise CheckpointError(f"A tokenizer must be readable, got in {folder}: {err}. Get its files again.") from err
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"A tokenizer must have a fast form, got {type(tokenizer).__name__} in {folder}. "
            f"Add a {TOKENIZER_FILE} to the checkpoint."
        )
    if HEADS[checkpoint.task].has_vocabulary and not _has_mask_token(tokenizer, folder):
        raise CheckpointError(
            f"A tokenizer must have a mask token for {checkpoint.task.value}, got none in {folder}. "
            "Get the tokenizer that the model was trained with."
        )
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= checkpoint.config.vocab_size:
        raise CheckpointError(
            f"Token ids must be below the vocab_size of {checkpoint.config.vocab_size} in config.json, got {largest} "
            f"from the tokenizer in {folder}. Get model and tokenizer of one checkpoint."
        )
    if checkpoint.lowercase:
        backend = tokenizer.backend_tokenizer
        own = [backend.normalizer] if backend.normalizer is not None else []
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
    loaded: PreTrainedTokenizerFast = tokenizer
    return loaded


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    """Write ``tokenizer.json`` for the runtime, without truncation and padding, which are the runtime's to decide.

    Args:
        tokenizer: As from ``load_tokenizer``; stays as it is.
        folder: Where to write; must exist.

    Returns:
        The file.
    """
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    path = folder / TOKENIZER_FILE
    path.write_text(
        backend.to_str(pretty=True), encoding="utf-8"
    )  # its own save() raises plain Exception on a full disk
    return path


def _has_mask_token(tokenizer: PreTrainedTokenizerFast, folder: Path) -> bool:
    """Return whether a tokenizer's files have its mask token; transformers appends one that they lack, untrained."""
    from tokenizers import Tokenizer

    path = folder / TOKENIZER_FILE
    if path.is_file():
        known = Tokenizer.from_file(str(path)).get_vocab()
    else:
        known = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    return tokenizer.mask_token in known
