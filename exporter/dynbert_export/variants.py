"""The graphs of an export: profiles by precisions, under the names that the bundle gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.manifest import ANYTIME, FULL, Precision, Target
from dynbert_export.graph.flash import use_flash_attention
from dynbert_export.graph.freeze import GraphSpec, freeze, hide_kept_positions
from dynbert_export.graph.tying import share_tied_weights
from dynbert_export.graph.unpadded import skip_empty_mask
from dynbert_export.graph.whole_rows import move_whole_rows
from dynbert_export.verify import anytime_configs
from dynbert_export.weights_file import save_sharing_weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import onnx_ir as ir

    from dynbert.lengths import LengthConfig
    from dynbert_export.profiles import Profile

__all__ = ["FP32_SET", "GraphSet", "Variant", "list_int8_sets", "list_variants", "write_graphs"]


@dataclass(frozen=True)
class GraphSet:
    """Graphs that have one number format and one weights file: one for each variant."""

    precision: Precision
    target: Target | None
    """None for fp32."""
    label: str
    """Part of the files' names: ``fp32``, ``int8``, ``int8-avx2``."""

    @property
    def weights_file(self) -> str:
        """Name of the file that the graphs' weights are in. A set needs no other: a device may be given one alone."""
        return f"weights.{self.label}.bin"

    @property
    def has_reduced_range(self) -> bool:
        """Whether weights have seven bits, because the target's products would saturate with eight."""
        return self.target is not None and not self.target.is_full_range


FP32_SET = GraphSet(Precision.FP32, None, Precision.FP32.value)


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

    def file_name(self, graph_set: GraphSet) -> str:
        """Return the name of a graph's file.

        Args:
            graph_set: What the graph belongs to.

        Returns:
            ``PROFILE.PRECISION.onnx``, with the target behind the precision for all but a bundle's first INT8 set.
        """
        return f"{self.name}.{graph_set.label}.onnx"


def list_int8_sets(targets: Iterable[Target]) -> tuple[GraphSet, ...]:
    """Return a set for each number range that these targets need.

    Targets of one range would get equal graphs, to the last bit: the first of them names the set.

    Args:
        targets: What the bundle is for.

    Returns:
        At most two sets, the first of them named without its target, as a bundle's only one is.
    """
    chosen: dict[bool, Target] = {}
    for target in targets:
        chosen.setdefault(target.is_full_range, target)
    name = Precision.INT8.value
    return tuple(
        GraphSet(Precision.INT8, target, f"{name}-{target.value}" if index else name)
        for index, target in enumerate(chosen.values())
    )


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
    graph_set: GraphSet,
    spec: GraphSpec,
) -> Mapping[str, Path]:
    """Specialise the anytime graph for every variant and write all of them with one weights file.

    Args:
        anytime: The graph to specialise, fp32 or INT8.
        variants: What for.
        folder: Where to write.
        graph_set: What the graphs belong to; its label becomes part of the names.
        spec: What the graph was traced for.

    Returns:
        Variant's name -> file.
    """
    graphs = {variant.file_name(graph_set): _finish(anytime, variant, graph_set, spec) for variant in variants}
    paths = save_sharing_weights(graphs, folder, graph_set.weights_file)
    return {variant.name: path for variant, path in zip(variants, paths, strict=True)}


def _finish(anytime: ir.Model, variant: Variant, graph_set: GraphSet, spec: GraphSpec) -> ir.Model:
    """Return the graph of a variant as it is published."""
    graph = anytime if variant.is_anytime else use_flash_attention(freeze(anytime, variant.lengths, spec))
    graph = share_tied_weights(move_whole_rows(hide_kept_positions(graph)))
    return skip_empty_mask(graph) if graph_set.precision is Precision.INT8 else graph
