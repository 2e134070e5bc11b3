"""Which tokens of a text survive which layer, in which profile: what ``DynamicBert.kept_tokens`` says, for the eye."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dynbert.kept_tokens import KeptTokensError
from dynbert.page.answers import describe_answer
from dynbert.tokenization import after_marks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dynbert.kept_tokens import KeptTokens, Token
    from dynbert.model import DynamicBert

__all__ = ["Example", "LayerView", "Piece", "RowView", "look_at_text", "texts_of_rows"]

_DEPTH_STEPS = 6
"""Shades that say how far a token gets."""


@dataclass(frozen=True)
class Piece:
    """A token as it stands in the text."""

    text: str
    position: int
    """Among the row's tokens."""
    has_space: bool
    """Whether something separates it from the token before."""
    is_special: bool
    depth: int
    """How far it gets, in steps from 0, dropped in the first layer, to ``_DEPTH_STEPS``, never dropped."""


@dataclass(frozen=True)
class LayerView:
    """What one layer, or several that drop nothing more, leaves of a row."""

    name: str
    """``Layer 3``, ``Layers 4 to 6``."""
    last: int
    """Index of the layer, of several the last one's."""
    left: int
    """Tokens."""
    states: tuple[str, ...]
    """For each token of the row ``kept``, ``dropped`` (here) or ``gone`` (before); empty where nothing is dropped."""
    note: str = ""


@dataclass(frozen=True)
class RowView:
    """One row that a graph read."""

    name: str
    """Which of several it is: a window, a choice; empty where there is one."""
    pieces: tuple[Piece, ...]
    layers: tuple[LayerView, ...]


@dataclass(frozen=True)
class Example:
    """One text read by one profile."""

    text: str
    """What was read, in short."""
    answer: str
    rows: tuple[RowView, ...]

    @property
    def kept_share(self) -> str:
        """How many tokens are left after the last layer, of how many."""
        left = sum(row.layers[-1].left for row in self.rows)
        return f"{left} of {sum(len(row.pieces) for row in self.rows)}"


def look_at_text(model: DynamicBert, call: Mapping[str, Any], profile: str) -> Example | None:
    """Let a profile read a text.

    Args:
        model: The bundle's model.
        call: The arguments of ``model(...)``, for one text.
        profile: The profile.

    Returns:
        What it answers and drops; None where its graph does not say what it drops.

    Raises:
        InputError: If the call does not suit the task or breaks a rule.
        BundleError: If a file of the bundle does not work.
    """
    try:
        kept = model.kept_tokens(**call, profile=profile)
    except KeptTokensError:
        return None
    answer = describe_answer(model, call, profile)
    texts = texts_of_rows(call, len(kept))
    names = _name_rows(call, len(kept))
    rows = tuple(_view_row(row, of_row, name) for row, of_row, name in zip(kept, texts, names, strict=True))
    main = texts[0][0] if "context" not in call else call["context"]
    return Example(main, answer, rows)


def texts_of_rows(call: Mapping[str, Any], rows: int) -> list[tuple[str, ...]]:
    """Return the texts that the tokens of each row are of.

    Args:
        call: As for ``look_at_text``.
        rows: How many rows the task made of it.

    Returns:
        For each row its text, or both of its texts.
    """
    if "question" in call:
        return [(call["question"], call["context"])] * rows
    if "choices" in call:
        return [(call["texts"], choice) for choice in call["choices"]]
    pair = call.get("text_pair")
    return [(call["texts"],) if pair is None else (call["texts"], pair)] * rows


def _name_rows(call: Mapping[str, Any], rows: int) -> list[str]:
    if rows == 1:
        return [""]
    what = "Choice" if "choices" in call else "Window"
    return [f"{what} {number} of {rows}" for number in range(1, rows + 1)]


def _view_row(row: KeptTokens, texts: Sequence[str], name: str) -> RowView:
    lasts = [0] * len(row.tokens)  # layers that each token survives
    for layer in row.layers:
        for position in layer.kept:
            lasts[position] += 1
    depths = [round(_DEPTH_STEPS * count / len(row.layers)) for count in lasts]
    pieces = tuple(
        _view_token(row.tokens, position, texts, depth=depths[position]) for position in range(len(row.tokens))
    )
    return RowView(name, pieces, tuple(_view_layers(row)))


def _view_token(tokens: Sequence[Token], position: int, texts: Sequence[str], *, depth: int) -> Piece:
    token = tokens[position]
    before = tokens[position - 1] if position else None
    if token.sequence is None or token.start == token.end:
        return Piece(token.piece, position, has_space=True, is_special=token.sequence is None, depth=depth)
    text = texts[token.sequence]
    is_next = before is not None and before.sequence == token.sequence
    end_before = after_marks(text, before.end) if before is not None and is_next else None
    return Piece(
        text[token.start : after_marks(text, token.end)],
        position,
        has_space=end_before is None or token.start > end_before,
        is_special=False,
        depth=depth,
    )


def _view_layers(row: KeptTokens) -> list[LayerView]:
    """Return the layers, those that drop nothing more together with their like."""
    views: list[LayerView] = []
    left = set(range(len(row.tokens)))
    idle: list[int] = []

    def close_idle() -> None:
        if idle:
            note = "drops nothing" if len(idle) == 1 else "drop nothing"
            views.append(LayerView(_name_layers(idle), idle[-1], len(left), (), note))
            idle.clear()

    for layer in row.layers:
        kept = set(layer.kept)
        if kept == left:
            idle.append(layer.layer)
            continue
        close_idle()
        states = tuple(
            "kept" if position in kept else "dropped" if position in left else "gone"
            for position in range(len(row.tokens))
        )
        left = kept
        views.append(LayerView(_name_layers([layer.layer]), layer.layer, len(left), states))
    close_idle()
    return views


def _name_layers(indices: Sequence[int]) -> str:
    numbers = [index + 1 for index in indices]
    if len(numbers) == 1:
        return f"Layer {numbers[0]}"
    is_run = numbers[-1] - numbers[0] == len(numbers) - 1
    return f"Layers {numbers[0]} to {numbers[-1]}" if is_run else f"Layers {', '.join(map(str, numbers))}"
