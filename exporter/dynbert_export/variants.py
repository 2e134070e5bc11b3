"""The graphs of an export: profiles by precisions, under the names that the bundle gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.manifest import ANYTIME, FULL, Precision
from dynbert_export.graph.flash import use_flash_attention
from dynbert_export.graph.freeze import GraphSpec, freeze, hide_kept_positions
from dynbert_export.graph.scatter_rows import scatter_rows
from dynbert_export.graph.tying import share_tied_weights
from dynbert_export.verify import anytime_configs
from dynbert_export.weights_file import save_sharing_weights

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx_ir as ir

    from dynbert.lengths import LengthConfig
    from dynbert_export.profiles import Profile

__all__ = ["Variant", "list_variants", "write_graphs"]


@dataclass(frozen=True)
class Variant:
    """One profile of the bundle."""

    name: str
    lengths: LengthConfig | None
    """None for ``full``, which drops nothing, and for ``anytime``, which takes lengths as an input."""
    check_configs: tuple[LengthConfig | None, ...]
    """The length configs that its graphs are verified with."""

    @property
    def is_anytime(self) -> bool:
        """Whether the graph takes its length config as an input."""
        return self.name == ANYTIME

    @property
    def input_config(self) -> LengthConfig | None:
        """What an anytime graph is judged with; None for the others."""
        return self.check_configs[-1] if self.is_anytime else None

    @property
    def latency_config(self) -> LengthConfig | None:
        """What an anytime graph is measured with, nothing dropped; None for the others."""
        return self.check_configs[0] if self.is_anytime else None

    def file_name(self, precision: Precision) -> str:
        """Return the name of a graph's file.

        Args:
            precision: Of the graph.

        Returns:
            ``PROFILE.PRECISION.onnx``.
        """
        return f"{self.name}.{precision.value}.onnx"


def list_variants(profiles: tuple[Profile, ...], num_layers: int) -> tuple[Variant, ...]:
    """Return every profile of the bundle: ``full``, those asked for, ``anytime``.

    Args:
        profiles: Those asked for.
        num_layers: Hidden layers.

    Returns:
        The variants, in the order in which tables show them.
    """
    asked = (Variant(profile.name, profile.lengths, (profile.lengths,)) for profile in profiles)
    return (
        Variant(FULL, None, (None,)),
        *asked,
        Variant(ANYTIME, None, anytime_configs(num_layers, [profile.lengths for profile in profiles])),
    )


def write_graphs(
    anytime: ir.Model,
    variants: tuple[Variant, ...],
    folder: Path,
    precision: Precision,
    spec: GraphSpec,
) -> Mapping[str, Path]:
    """Specialise the anytime graph for every variant and write all of them with one weights file.

    Args:
        anytime: The graph to specialise, fp32 or INT8.
        variants: What for.
        folder: Where to write.
        precision: Of the graph; becomes part of the names.
        spec: What the graph was traced for.

    Returns:
        Variant's name -> file.
    """
    graphs = {variant.file_name(precision): _finish(anytime, variant, spec) for variant in variants}
    paths = save_sharing_weights(graphs, folder, f"weights.{precision.value}.bin")
    return {variant.name: path for variant, path in zip(variants, paths, strict=True)}


def _finish(anytime: ir.Model, variant: Variant, spec: GraphSpec) -> ir.Model:
    """Return the graph of a variant as it is published."""
    graph = anytime if variant.is_anytime else use_flash_attention(freeze(anytime, variant.lengths, spec))
    return share_tied_weights(scatter_rows(hide_kept_positions(graph)))
