"""The tokenizer of a checkpoint: loaded in its fast form, and written for the runtime and for transformers.

The runtime reads ``tokenizer.json`` alone. transformers also wants to know how long an input may be and which tokens
are special; it must pad and truncate on the runtime's side, and not put the rules of a class in place of the file's.
So the files for it are written anew, not copied: they name the class that takes ``tokenizer.json`` as it is, and no
code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from dynbert.inputs import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from dynbert.tokenization import TOKENIZER_FILE
from dynbert_export.checkpoint.file_names import SPECIAL_TOKENS_FILE, TOKENIZER_CONFIG_FILE
from dynbert_export.checkpoint.json_files import write_json
from dynbert_export.errors import CheckpointError
from dynbert_export.tasks import HEADS

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import BertConfig, PreTrainedTokenizerFast

    from dynbert.manifest import Task

__all__ = ["TokenizerOwner", "load_tokenizer", "save_tokenizer"]


class TokenizerOwner(Protocol):
    """What has a tokenizer: a checkpoint that is exported, or one that is trained."""

    @property
    def folder(self) -> Path:
        """Where the files are."""

    @property
    def config(self) -> BertConfig:
        """Whose vocabulary it must fit."""

    @property
    def task(self) -> Task:
        """Decides whether there must be a mask token."""

    @property
    def lowercase(self) -> bool:
        """Whether texts are lowercased before the tokenizer's own rules."""


def load_tokenizer(checkpoint: TokenizerOwner) -> PreTrainedTokenizerFast:
    """Load a checkpoint's tokenizer in its fast form, made from ``vocab.txt`` where there is no ``tokenizer.json``.

    Args:
        checkpoint: Whose.

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


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, folder: Path, *, max_length: int) -> None:
    """Write ``tokenizer.json`` for the runtime, and beside it what transformers wants to know.

    The first is without truncation and padding, which are the reader's to decide.

    Args:
        tokenizer: As from ``load_tokenizer``; stays as it is.
        folder: Where to write; must exist.
        max_length: Longest input in tokens, special tokens included.
    """
    from tokenizers import Tokenizer

    backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    backend.no_truncation()
    backend.no_padding()
    # Not by its own save(), which raises plain Exception on a full disk.
    (folder / TOKENIZER_FILE).write_text(backend.to_str(pretty=True), encoding="utf-8")
    special = _list_special_tokens(tokenizer)
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "model_input_names": [INPUT_IDS, TOKEN_TYPE_IDS, ATTENTION_MASK],
        "padding_side": "right",
        "truncation_side": "right",
        **_list_bert_rules(backend.normalizer),
        **special,
    }
    write_json(folder / TOKENIZER_CONFIG_FILE, settings)
    write_json(folder / SPECIAL_TOKENS_FILE, special)


def _list_special_tokens(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """Return role -> token, of those in the vocabulary: for any other, transformers would make up an id."""
    known = tokenizer.get_vocab()
    roles = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    return {name: token for name, token in roles.items() if token in known}


def _list_bert_rules(normalizer: Any) -> dict[str, Any]:
    """Return BERT's rules for characters, in case somebody loads the tokenizer as ``BertTokenizerFast``.

    That class would put its own in place of those in ``tokenizer.json``.
    """
    from tokenizers.normalizers import BertNormalizer, Lowercase, Sequence

    parts = list(normalizer) if isinstance(normalizer, Sequence) else [normalizer]
    rules = next((part for part in parts if isinstance(part, BertNormalizer)), None)
    if rules is None:
        return {}
    return {
        "do_lower_case": rules.lowercase or any(isinstance(part, Lowercase) for part in parts),
        "strip_accents": rules.strip_accents,
        "tokenize_chinese_chars": rules.handle_chinese_chars,
    }


def _has_mask_token(tokenizer: PreTrainedTokenizerFast, folder: Path) -> bool:
    """Return whether a tokenizer's files have its mask token; transformers appends one that they lack, untrained."""
    from tokenizers import Tokenizer

    path = folder / TOKENIZER_FILE
    if path.is_file():
        known = Tokenizer.from_file(str(path)).get_vocab()
    else:
        known = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False)
    return tokenizer.mask_token in known
