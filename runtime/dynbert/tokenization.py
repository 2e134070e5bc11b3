"""Text to token ids, with the character positions that lead back into the text.

The bundle's ``tokenizer.json`` decides how text is cut into tokens; how long an input may be and how rows are padded is
decided here, in the open: what the file says of truncation and padding is switched off. Windows over a long context
are cut from its encoding, not by the tokenizer's own truncation setting, which is state that threads would share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dynbert.errors import BundleError, InputError
from dynbert.inputs import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

    from dynbert.manifest import ModelInfo

__all__ = ["DEFAULT_STRIDE", "TOKENIZER_FILE", "TextTokenizer", "Window"]

TOKENIZER_FILE = "tokenizer.json"
DEFAULT_STRIDE = 128
"""Tokens that neighbouring windows share; half of a window where that is less."""

_CONTEXT = 1
"""The context's sequence number in a pair."""


@dataclass(frozen=True)
class Window:
    """A question with one part of its context, as one row for the model."""

    encoding: Encoding
    first: int
    """Row position of the part's first token."""
    words: tuple[tuple[int, int], ...]
    """For each token of the part, the characters ``[start, end)`` of the whole word in the context that it is in."""

    @property
    def stop(self) -> int:
        """Row position after the part's last token."""
        return self.first + len(self.words)

    @property
    def has_cls(self) -> bool:
        """Whether the row starts with a special token."""
        return self.first > 0 and self.encoding.special_tokens_mask[0] == 1


class TextTokenizer:
    """A bundle's tokenizer, bound to the model's limits. Safe from several threads at once.

    Args:
        tokenizer: The tokenizer; its truncation and padding are switched off.
        model: Maximum length and padding id.
    """

    def __init__(self, tokenizer: Tokenizer, model: ModelInfo) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._model = model

    @classmethod
    def open(cls, path: Path, model: ModelInfo) -> TextTokenizer:
        """Read a ``tokenizer.json``.

        Args:
            path: The file.
            model: Maximum length and padding id.

        Returns:
            The tokenizer.

        Raises:
            BundleError: If the tokenizers library cannot read it.
        """
        import tokenizers

        try:
            return cls(tokenizers.Tokenizer.from_file(str(path)), model)
        except Exception as err:  # the library raises nothing more specific
            raise BundleError(
                f"{path} must be a file that tokenizers {tokenizers.__version__} can read, got: {err}. "
                "Export the bundle again."
            ) from err

    def encode(self, texts: Sequence[str], *, truncate: bool = False) -> list[Encoding]:
        """Encode single texts with special tokens.

        Args:
            texts: The texts.
            truncate: Whether to cut what is longer than the model's maximum length.

        Returns:
            One encoding a text, not padded, at most ``max_length`` tokens long.

        Raises:
            InputError: If a text has no token, or is too long and may not be cut.
        """
        room = self._model.max_length - self._tokenizer.num_special_tokens_to_add(is_pair=False)
        encodings = []
        for index, content in enumerate(self._contents(texts)):
            name = "text" if len(texts) == 1 else f"text {index}"
            if not content.ids:
                raise InputError(f"{name} must have at least one token, got {texts[index][:40]!r}.")
            if len(content.ids) > room:
                if not truncate:
                    raise InputError(
                        f"{name} must have at most {room} tokens (and the special ones), got {len(content.ids)}. "
                        "Shorten it, or pass truncate=True (--truncate) to cut its end off."
                    )
                content.truncate(room)
            encodings.append(self._tokenizer.post_process(content))
        return encodings

    def windows(self, question: str, context: str, *, stride: int | None = None) -> list[Window]:
        """Pair a question with its context, in as many overlapping parts as it takes.

        Args:
            question: The question; it is never cut.
            context: The text to answer from.
            stride: Tokens that neighbouring parts share; None for ``DEFAULT_STRIDE``, or half of a part where that is
                less.

        Returns:
            The windows in the context's order; one where it fits.

        Raises:
            InputError: If one of the texts has no token, the question leaves no room for the context, or the stride is
                not shorter than that room.
        """
        asked, content = self._contents([question, context])
        for name, text, encoding in (("question", question, asked), ("context", context, content)):
            if not encoding.ids:
                raise InputError(f"{name} must have at least one token, got {text[:40]!r}.")
        room = self._room_beside(len(asked.ids))
        words = _characters_of_words(content)
        if len(content.ids) > room:
            content.truncate(room, stride=_checked_stride(stride, room))
        return [self._window(asked, part, words) for part in (content, *content.overflowing)]

    def pad(self, encodings: Sequence[Encoding]) -> dict[str, NDArray[np.int64]]:
        """Return encodings as the model's inputs, padded on the right to the longest of them.

        Args:
            encodings: At least one.

        Returns:
            ``input_ids``, ``attention_mask`` and ``token_type_ids``, int64 [batch, tokens].
        """
        shape = (len(encodings), max(len(encoding.ids) for encoding in encodings))
        arrays = {
            INPUT_IDS: np.full(shape, self._model.pad_token_id, np.int64),
            ATTENTION_MASK: np.zeros(shape, np.int64),
            TOKEN_TYPE_IDS: np.zeros(shape, np.int64),
        }
        for row, encoding in enumerate(encodings):
            length = len(encoding.ids)
            arrays[INPUT_IDS][row, :length] = encoding.ids
            arrays[ATTENTION_MASK][row, :length] = 1
            arrays[TOKEN_TYPE_IDS][row, :length] = encoding.type_ids
        return arrays

    def _contents(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode without special tokens; they are added after cutting."""
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"Texts must be strings, got {type(text).__name__}.")
        try:
            encodings: list[Encoding] = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        except TypeError as err:  # what the library says of a lone surrogate
            raise InputError("Texts must be valid Unicode, got one with a lone surrogate.") from err
        return encodings

    def _window(self, asked: Encoding, part: Encoding, words: Mapping[int, tuple[int, int]]) -> Window:
        row = self._tokenizer.post_process(asked, part)
        spans = (
            characters if word is None else words[word]
            for word, characters in zip(part.word_ids, part.offsets, strict=True)
        )
        return Window(row, row.sequence_ids.index(_CONTEXT), tuple(spans))

    def _room_beside(self, question_tokens: int) -> int:
        limit: int = self._model.max_length - self._tokenizer.num_special_tokens_to_add(is_pair=True)
        if question_tokens >= limit:
            raise InputError(
                f"question must have at most {limit - 1} tokens to leave room for the context, got {question_tokens}. "
                "Shorten it."
            )
        return limit - question_tokens


def _characters_of_words(encoding: Encoding) -> dict[int, tuple[int, int]]:
    """Return the characters ``[start, end)`` of each word, from a whole text's encoding."""
    words: dict[int, tuple[int, int]] = {}
    for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
        if word is not None:
            words[word] = (words.get(word, (start, end))[0], end)
    return words


def _checked_stride(stride: int | None, room: int) -> int:
    if stride is None:
        return min(DEFAULT_STRIDE, room // 2)
    if stride >= room:
        raise InputError(
            f"stride must be less than the {room} tokens that the question leaves for a part of the context, "
            f"got {stride}. Lower it, or shorten the question."
        )
    return stride
