"""The graphs of an export: profiles by precisions, under the names that the bundle gives them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dynbert.lengths import LengthConfig
from dynbert.manifest import ANYTIME, FULL, Precision, Target
from dynbert.sweep import steep_lengths

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from dynbert_export.options.profiles import NamedLengths

__all__ = [
    "FP32_SET",
    "AnytimeConfigs",
    "GraphSet",
    "PublishedGraph",
    "Variant",
    "anytime_configs",
    "list_int8_sets",
    "list_variants",
]


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


class AnytimeConfigs(NamedTuple):
    """What an anytime graph, which has no lengths of its own, is tried with."""

    everything: LengthConfig
    """Drops nothing; also what latency is measured with."""
    judged: LengthConfig
    """Drops some tokens; what answers, the batch and the probe are asked with."""


@dataclass(frozen=True)
class Variant:
    """One profile of the bundle."""

    name: str
    lengths: LengthConfig | None
    """None where nothing is dropped, as in ``full``, and for ``anytime``, which takes lengths as an input."""
    anytime: AnytimeConfigs | None = None
    """Set for ``anytime`` only."""
    layers: tuple[int, ...] | None = None
    """Indices of the layers that run, ascending; None for all."""

    @property
    def is_anytime(self) -> bool:
        """Whether the graph takes its length config as an input."""
        return self.anytime is not None

    @property
    def checked_configs(self) -> tuple[LengthConfig | None, ...]:
        """The length configs that its fp32 graph is held to PyTorch with."""
        return (self.lengths,) if self.anytime is None else tuple(self.anytime)

    @property
    def judged_config(self) -> LengthConfig | None:
        """The length config that its graphs are judged with: its own, or the one that ``anytime`` is given."""
        return self.lengths if self.anytime is None else self.anytime.judged

    @property
    def input_config(self) -> LengthConfig | None:
        """What an anytime graph is fed with to be judged; None for the others, which have their lengths inside."""
        return None if self.anytime is None else self.anytime.judged

    @property
    def latency_config(self) -> LengthConfig | None:
        """What an anytime graph is fed with to be measured, nothing dropped; None for the others."""
        return None if self.anytime is None else self.anytime.everything

    def file_name(self, graph_set: GraphSet) -> str:
        """Return the name of a graph's file.

        Args:
            graph_set: What the graph belongs to.

        Returns:
            ``PROFILE.PRECISION.onnx``, with the target behind the precision for all but a bundle's first INT8 set.
        """
        return f"{self.name}.{graph_set.label}.onnx"


class PublishedGraph(NamedTuple):
    """A graph that the bundle is to have."""

    variant: Variant
    graph_set: GraphSet
    path: Path


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


def anytime_configs(num_layers: int, asked: Sequence[LengthConfig] = ()) -> AnytimeConfigs:
    """Return the length configs that the anytime graph is tried with: nothing dropped, and some.

    Args:
        num_layers: Hidden layers.
        asked: Those of the export's profiles; the last serves again, since PyTorch's answers to it are known.

    Returns:
        Two configs; the second is a steep descent where nothing was asked for.
    """
    return AnytimeConfigs(LengthConfig.everything(num_layers), asked[-1] if asked else steep_lengths(num_layers))


def list_variants(profiles: tuple[NamedLengths, ...], num_layers: int) -> tuple[Variant, ...]:
    """Return every profile of the bundle: ``full``, those asked for, ``anytime``.

    Args:
        profiles: Those asked for.
        num_layers: Hidden layers.

    Returns:
        The variants, in the order in which tables show them.
    """
    return (
        Variant(FULL, None),
        *(Variant(profile.name, profile.lengths, layers=_some_layers(profile, num_layers)) for profile in profiles),
        Variant(
            ANYTIME, None, anytime_configs(num_layers, [profile.lengths for profile in profiles if profile.lengths])
        ),
    )


def _some_layers(profile: NamedLengths, num_layers: int) -> tuple[int, ...] | None:
    """Return the layers of a profile; None where they are all that the model has."""
    return None if profile.layers == tuple(range(num_layers)) else profile.layers
