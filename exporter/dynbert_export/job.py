"""What one export is about: the options, the model's facts, the texts, where to write, and what follows from them.

The pipeline alone reads it, and hands each stage the few things that the stage needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from dynbert.manifest import Embeddings, Precision, Target, Task
from dynbert_export.data.encoding import find_mask_token_id
from dynbert_export.graph.freeze import GraphSpec
from dynbert_export.options.vocabularies import QuantizeOption, TargetOption
from dynbert_export.variants import FP32_SET, GraphSet, PublishedGraph, Variant, list_int8_sets

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from dynbert.scoring.examples import LabelledData
    from dynbert_export.checkpoint.load import Checkpoint
    from dynbert_export.data.prepared import PreparedData
    from dynbert_export.options.config import ExportConfig

__all__ = ["Graphs", "Job"]

Graphs: TypeAlias = Mapping[GraphSet, Mapping[str, Path]]
"""Set -> variant's name -> file."""


@dataclass(frozen=True)
class Job:
    """One export."""

    config: ExportConfig
    checkpoint: Checkpoint
    tokenizer: PreTrainedTokenizerFast
    data: PreparedData
    labelled: LabelledData | None
    """What the graphs are evaluated on."""
    variants: tuple[Variant, ...]
    bundle: Path
    """Folder that becomes the bundle."""
    work: Path
    """Folder of everything else; never published."""
    sources: Path | None = None
    """Folder that the graphs are kept in of which profiles are made; None to keep none."""

    @property
    def spec(self) -> GraphSpec:
        """What the graphs are made for."""
        return GraphSpec(
            num_layers=self.checkpoint.config.num_hidden_layers,
            max_length=self.checkpoint.max_length,
            always_keep_cls_token=self.config.always_keep_cls_token,
        )

    @property
    def embeddings(self) -> Embeddings | None:
        """What the graphs of feature extraction give; None for the other tasks."""
        return self.config.embeddings if self.checkpoint.task is Task.FEATURE_EXTRACTION else None

    @property
    def is_pooled(self) -> bool:
        """Whether the graphs give embeddings themselves."""
        return self.embeddings is Embeddings.POOLED

    @property
    def targets(self) -> tuple[Target, ...]:
        """The instruction sets that the INT8 graphs are for; none where there are no such graphs."""
        if self.config.quantize is QuantizeOption.NONE or Precision.INT8 not in self.config.precisions:
            return ()
        return tuple(
            dict.fromkeys(
                Target.VNNI if option is TargetOption.AUTO else Target(option.value) for option in self.config.target
            )
        )

    @property
    def int8_sets(self) -> tuple[GraphSet, ...]:
        """The INT8 graphs to make, one set a number range."""
        return list_int8_sets(self.targets)

    @property
    def covered_targets(self) -> dict[Target, Target]:
        """Targets without a set of their own -> the target that names the set with their number range."""
        named = {graph_set.target for graph_set in self.int8_sets}
        by_range = {target.is_full_range: target for target in self.targets if target in named}
        return {target: by_range[target.is_full_range] for target in self.targets if target not in named}

    @property
    def mask_token_id(self) -> int | None:
        """The id that asks for a token; None for the tasks that foretell none."""
        return find_mask_token_id(self.tokenizer, self.checkpoint.task)

    def folder(self, precision: Precision) -> Path:
        """Return where the graphs of a precision are written: into the bundle, where it is to have them."""
        return self.bundle if precision in self.config.precisions else self.work

    def list_published(self, graphs: Graphs) -> tuple[PublishedGraph, ...]:
        """Return the graphs that the bundle is to have, profile by profile, INT8 first.

        Args:
            graphs: All graphs that were made.

        Returns:
            Those of the precisions that the options ask for.
        """
        sets = {Precision.INT8: self.int8_sets, Precision.FP32: (FP32_SET,)}
        wanted = [graph_set for precision in self.config.precisions for graph_set in sets[precision]]
        return tuple(
            PublishedGraph(variant, graph_set, graphs[graph_set][variant.name])
            for variant in self.variants
            for graph_set in wanted
        )

    def list_fp32(self, files: Mapping[str, Path]) -> tuple[PublishedGraph, ...]:
        """Return the fp32 graphs, whether the bundle is to have them or not.

        Args:
            files: Variant's name -> file.

        Returns:
            A graph a variant.
        """
        return tuple(PublishedGraph(variant, FP32_SET, files[variant.name]) for variant in self.variants)
