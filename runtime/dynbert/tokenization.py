"""Text to token ids, with the character positions that lead back into the text.

The bundle's ``tokenizer.json`` decides how text is cut into tokens; how long an input may be and how rows are padded is
decided here, in the open: what the file says of truncation and padding is switched off. Windows over a long text and
pairs that are too long are cut from encodings, not by the tokenizer's own truncation setting, which is state that
threads would share.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dynbert.errors import BundleError, InputError
from dynbert.inputs import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from tokenizers import Encoding, Tokenizer

    from dynbert.manifest import ModelInfo

__all__ = ["DEFAULT_STRIDE", "TOKENIZER_FILE", "PairNames", "TextTokenizer", "Window", "after_marks", "item_name"]

TOKENIZER_FILE = "tokenizer.json"
DEFAULT_STRIDE = 128
"""Tokens that neighbouring windows share; half of a window where that is less."""

_TRIAL_TEXT = "a \N{CYRILLIC LETTER MULTIOCULAR O}"
"""A word that no vocabulary has: some faults of a tokenizer's file show only when it encodes."""

PairNames = tuple[str, str]
"""What error messages call the two texts of a pair."""


@dataclass(frozen=True)
class Window:
    """One part of a long text, alone or behind a question, as one row for the model."""

    encoding: Encoding
    first: int
    """Row position of the part's first token."""
    words: tuple[tuple[int, int], ...]
    """For each token of the part, the characters ``[start, end)`` of the whole word in the text that it is in."""

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
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
            tokenizer.encode_batch([_TRIAL_TEXT, (_TRIAL_TEXT, _TRIAL_TEXT)])
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as err:  # the library raises nothing more specific; a panic in Rust is no Exception
            raise BundleError(
                f"{path} must be a file that tokenizers {tokenizers.__version__} can read, got: {err}. "
                "Export the bundle again."
            ) from err
        return cls(tokenizer, model)

    def encode(self, texts: Sequence[str], *, truncate: bool | None = False) -> list[Encoding]:
        """Encode single texts with special tokens.

        Args:
            texts: The texts.
            truncate: Whether to cut what is longer than the model's maximum length. None where the task cannot cut.

        Returns:
            One encoding a text, not padded, at most ``max_length`` tokens long.

        Raises:
            InputError: If a text has no token, or is too long and may not be cut.
        """
        room = self._room(is_pair=False)
        encodings = []
        for index, content in enumerate(self._contents(texts)):
            name = item_name("text", index, len(texts))
            _check_tokens(name, texts[index], content)
            if len(content.ids) > room:
                if not truncate:
                    raise InputError(
                        f"{name} must have at most {room} tokens (and the special ones), got {len(content.ids)}. "
                        f"{_remedy(truncate, 'its end')}"
                    )
                content.truncate(room)
            encodings.append(self._tokenizer.post_process(content))
        return encodings

    def encode_pairs(
        self, pairs: Sequence[tuple[str, str]], names: Sequence[PairNames], *, truncate: bool | None = False
    ) -> list[Encoding]:
        """Encode pairs of texts with special tokens.

        Args:
            pairs: The pairs.
            names: What messages call the two texts of each.
            truncate: Whether to cut a pair that is longer than the model's maximum length, token by token from the
                end of its longer text, as transformers' ``longest_first``. None where the task cannot cut.

        Returns:
            One encoding a pair, not padded, at most ``max_length`` tokens long.

        Raises:
            InputError: If a text has no token, or a pair is too long and may not be cut.
        """
        room = self._room(is_pair=True)
        contents = self._contents([text for pair in pairs for text in pair])
        encodings = []
        for pair, of_pair, both in zip(pairs, names, zip(contents[::2], contents[1::2], strict=True), strict=True):
            for text, name, content in zip(pair, of_pair, both, strict=True):
                _check_tokens(name, text, content)
            first, second = both
            lengths = len(first.ids), len(second.ids)
            if sum(lengths) > room:
                if not truncate:
                    raise InputError(
                        f"{of_pair[0]} and {of_pair[1]} must have at most {room} tokens together (and the special "
                        f"ones), got {sum(lengths)}. {_remedy(truncate, 'the end of the longer one')}"
                    )
                for content, length in zip(both, _longest_first(*lengths, room), strict=True):
                    content.truncate(length)
            encodings.append(self._tokenizer.post_process(first, second))
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
            _check_tokens(name, text, encoding)
        room = self._room_beside(len(asked.ids))
        return self._split(content, room, stride, asked)

    def text_windows(self, texts: Sequence[str], *, stride: int | None = None) -> list[list[Window]]:
        """Encode texts, each in as many overlapping parts as it takes.

        Args:
            texts: The texts.
            stride: Tokens that neighbouring parts share; None for ``DEFAULT_STRIDE``, or half of a part where that is
                less.

        Returns:
            For each text its windows in order; one where it fits.

        Raises:
            InputError: If a text has no token, or the stride is not shorter than a part.
        """
        windows = []
        for index, content in enumerate(self._contents(texts)):
            _check_tokens(item_name("text", index, len(texts)), texts[index], content)
            windows.append(self._split(content, self._room(is_pair=False), stride))
        return windows

    def token(self, token_id: int) -> str | None:
        """Return what the vocabulary calls an id.

        Args:
            token_id: The id.

        Returns:
            The token; a piece that continues a word starts with ``##``. None for an id that the vocabulary lacks:
            a table of embeddings may be padded.
        """
        name: str | None = self._tokenizer.id_to_token(token_id)
        return name

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
        try:
            encodings: list[Encoding] = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        except TypeError as err:  # what the library says of a lone surrogate
            raise InputError("Texts must be valid Unicode, got one with a lone surrogate.") from err
        return encodings

    def _split(self, content: Encoding, room: int, stride: int | None, asked: Encoding | None = None) -> list[Window]:
        """Cut an encoding into parts of at most ``room`` tokens, each behind the question where there is one."""
        words = _characters_of_words(content)
        if len(content.ids) > room:
            content.truncate(room, stride=_checked_stride(stride, room, has_question=asked is not None))
        windows = []
        for part in (content, *content.overflowing):
            row = self._tokenizer.post_process(part) if asked is None else self._tokenizer.post_process(asked, part)
            spans = (
                characters if word is None else words[word]
                for word, characters in zip(part.word_ids, part.offsets, strict=True)
            )
            sequence = 0 if asked is None else 1  # the text's number in the row
            windows.append(Window(row, row.sequence_ids.index(sequence), tuple(spans)))
        return windows

    def _room(self, *, is_pair: bool) -> int:
        """Return how many tokens the special ones leave."""
        room: int = self._model.max_length - self._tokenizer.num_special_tokens_to_add(is_pair=is_pair)
        return room

    def _room_beside(self, question_tokens: int) -> int:
        limit = self._room(is_pair=True)
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


def _checked_stride(stride: int | None, room: int, *, has_question: bool) -> int:
    if stride is None:
        return min(DEFAULT_STRIDE, room // 2)
    if stride >= room:
        whose = "the question leaves for a part of the context" if has_question else "fit into one window"
        remedy = "Lower it, or shorten the question." if has_question else "Lower it."
        raise InputError(f"stride must be less than the {room} tokens that {whose}, got {stride}. {remedy}")
    return stride


def _check_tokens(name: str, text: str, encoding: Encoding) -> None:
    if not encoding.ids:
        raise InputError(f"{name} must have at least one token, got {text[:40]!r}.")


def _remedy(truncate: bool | None, what: str) -> str:  # noqa: FBT001 - three states: no, and not to be had
    return "Shorten it." if truncate is None else f"Shorten it, or pass truncate=True (--truncate) to cut {what} off."


def _longest_first(first: int, second: int, room: int) -> tuple[int, int]:
    """Return the lengths of a pair that is cut to ``room``: the longer text gives way until both are equal."""
    shorter = min(first, second, room // 2)
    return (shorter, room - shorter) if first <= second else (room - shorter, shorter)


def item_name(name: str, index: int, count: int) -> str:
    """Return what messages call one text of a call.

    Args:
        name: What a single one is called.
        index: Its place.
        count: How many there are.

    Returns:
        The name, with the place where there are several.
    """
    return name if count == 1 else f"{name} {index}"


def after_marks(text: str, end: int) -> int:
    """Return where a span ends that takes in the marks after it: an accent that the normaliser dropped has no token.

    Args:
        text: The text.
        end: Character after the span's last token.

    Returns:
        Character after the marks; ``end`` where there are none.
    """
    while end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1
    return end
