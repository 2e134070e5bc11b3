"""How many tokens the layers of each profile have left, for some input lengths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.kept_tokens import layers_that_run
from dynbert.lengths import LengthConfig
from dynbert.selection import profile_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dynbert.manifest import Manifest

__all__ = ["HEAT_STEPS", "Cell", "LengthTable", "tabulate_lengths"]

HEAT_STEPS = 10
"""Shades that a share of tokens is shown in."""


@dataclass(frozen=True)
class Cell:
    """What one layer of one profile has left."""

    tokens: int | None
    """None where the profile leaves the layer out."""
    heat: int
    """Share of the input's tokens, in steps from 0 to ``HEAT_STEPS``."""
    is_first_token_only: bool = False
    """Whether the layer runs for the first token alone, because the head reads nothing else."""


@dataclass(frozen=True)
class LengthTable:
    """The tokens left of inputs of one length."""

    tokens: int
    """In the input."""
    profiles: tuple[str, ...]
    rows: tuple[tuple[int, tuple[Cell, ...]], ...]
    """The layer's number, from 1, and a cell a profile."""
    shares: tuple[str, ...]
    """For each profile what a layer has left on average, as a percentage."""

    @property
    def has_first_token_only(self) -> bool:
        """Whether a layer runs for the first token alone."""
        return any(cell.is_first_token_only for _, cells in self.rows for cell in cells)


def tabulate_lengths(
    manifest: Manifest, lengths: Iterable[int], first_token_layers: Mapping[str, int | None]
) -> tuple[LengthTable, ...]:
    """Return what is left after each layer, one table an input length.

    Args:
        manifest: The bundle's.
        lengths: Input lengths in tokens.
        first_token_layers: Profile -> the layer that its graph runs for the first token alone; for profiles whose graph
            says so.

    Returns:
        The tables. Profiles that leave layers out have no number there.
    """
    profiles = profile_names(manifest)
    tables = []
    for tokens in lengths:
        columns = [_column(manifest, profile, tokens, first_token_layers.get(profile)) for profile in profiles]
        rows = tuple(
            (layer + 1, tuple(column[layer] for column in columns)) for layer in range(manifest.model.num_layers)
        )
        tables.append(LengthTable(tokens, profiles, rows, tuple(_share(column, tokens) for column in columns)))
    return tuple(tables)


def _column(manifest: Manifest, profile: str, tokens: int, first_token_layer: int | None) -> list[Cell]:
    [entry] = [entry for entry in manifest.profiles if entry.name == profile]
    model = manifest.model
    config = (
        LengthConfig.everything(model.num_layers) if entry.length_config is None else LengthConfig(entry.length_config)
    )
    counts = config.resolve(tokens, always_keep_cls_token=model.always_keep_cls_token)
    running = set(layers_that_run(manifest, profile))
    cells = []
    for layer, count in enumerate(counts):
        if layer not in running:
            cells.append(Cell(None, 0))
        elif layer == first_token_layer:
            cells.append(Cell(1, _heat(1, tokens), is_first_token_only=True))
        else:
            cells.append(Cell(count, _heat(count, tokens)))
    return cells


def _heat(count: int, tokens: int) -> int:
    return round(HEAT_STEPS * count / tokens)


def _share(column: Sequence[Cell], tokens: int) -> str:
    total = sum(cell.tokens or 0 for cell in column)
    return f"{total / (tokens * len(column)):.0%}"
