"""The graphs of a search: the anytime graph, which answers for every candidate, and frozen ones for those chosen.

This is the one place where a candidate's layers decide on its graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dynbert.cpu import int8_target
from dynbert.manifest import ANYTIME, FULL, Precision
from dynbert.selection import GraphRequest, select_graph
from dynbert.session import open_graph
from dynbert_export.graph.freeze import GraphSpec
from dynbert_export.graph.names import is_kept_positions
from dynbert_export.graph.sources import load_source
from dynbert_export.graph.specialise import write_beside_source, write_graphs
from dynbert_export.searching.asking import Respondent
from dynbert_export.searching.candidate import Body, Candidate
from dynbert_export.searching.disk import explain_disk
from dynbert_export.variants import GraphSet, Variant, anytime_configs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dynbert.manifest import GraphEntry, Manifest, ModelInfo
    from dynbert.session import Graph

__all__ = ["SearchGraphs"]

_MOST_OPEN = 4
"""Anytime graphs with layers left out that are open at a time: each has its own copy of the weights in memory."""


@dataclass
class SearchGraphs:
    """A working bundle's graphs, opened when first asked for."""

    bundle: Path
    manifest: Manifest
    sources: Path
    """Folder of the graphs that lengths can be frozen into."""
    threads: int
    _open: dict[str, Graph] = field(default_factory=dict)
    _without_layers: dict[tuple[int, ...], Graph] = field(default_factory=dict)
    """Layers that run -> graph, the one that was asked for longest ago first."""

    @property
    def model(self) -> ModelInfo:
        """What the graphs were made from."""
        return self.manifest.model

    @property
    def body(self) -> Body:
        """What lengths act on."""
        source = load_source(self.sources, self._label)
        return Body(
            num_layers=self.model.num_layers,
            cutting_layers=sum(is_kept_positions(value.name) for value in source.graph.outputs),
            max_length=self.model.max_length,
            always_keep_cls_token=self.model.always_keep_cls_token,
        )

    @property
    def precision(self) -> Precision:
        """Of the graphs that are searched with: what the runtime would run on this machine."""
        return self._select(ANYTIME).precision

    def ask_candidate(self, candidate: Candidate) -> Respondent:
        """Return the anytime graph under a candidate's lengths.

        Args:
            candidate: What to run.

        Returns:
            The graph with its lengths; where the candidate leaves out layers, an anytime graph without them.

        Raises:
            ExportError: If the disk refuses to take such a graph.
        """
        layers = candidate.layers
        if layers is None:
            return Respondent(self._get(self._select(ANYTIME)), candidate.lengths)
        graph = self._without_layers.pop(layers, None) or self._open_without_layers(layers)
        self._without_layers[layers] = graph
        if len(self._without_layers) > _MOST_OPEN:
            del self._without_layers[next(iter(self._without_layers))]
        return Respondent(graph, candidate.lengths)

    def ask_full(self, precision: Precision | None = None) -> Respondent:
        """Return the graph that drops nothing.

        Args:
            precision: fp32, or None for what is searched with.

        Returns:
            The graph.
        """
        entry = self._select(FULL)
        if precision is not None and entry.precision is not precision:
            entry = select_graph(self.manifest, GraphRequest(FULL), precision=precision, machine=int8_target())
        return Respondent(self._get(entry), None)

    def freeze(self, candidates: Mapping[str, Candidate], folder: Path) -> dict[str, Respondent]:
        """Make a graph of each candidate as an export would, and open it.

        Args:
            candidates: Plain name -> candidate.
            folder: Where to write; made if absent.

        Returns:
            Name -> graph.
        """
        folder.mkdir(parents=True, exist_ok=True)
        variants = tuple(Variant(name, each.lengths, layers=each.layers) for name, each in candidates.items())
        files = write_graphs(
            load_source(self.sources, self._label),
            variants,
            folder,
            self._graph_set,
            self._spec,
        )
        return {
            name: Respondent(open_graph(files[name], threads=self.threads), candidate.lengths)
            for name, candidate in candidates.items()
        }

    def _open_without_layers(self, layers: tuple[int, ...]) -> Graph:
        """Return the anytime graph in which only these layers run; it is made where the folder has none yet."""
        path = self.sources / f"layers-{'.'.join(map(str, layers))}.{self._label}.onnx"
        if not path.is_file():
            variant = Variant(ANYTIME, None, anytime_configs(self.model.num_layers), layers)
            with explain_disk(path):
                write_beside_source(load_source(self.sources, self._label), variant, path, self._graph_set, self._spec)
        return open_graph(path, threads=self.threads)

    @property
    def _graph_set(self) -> GraphSet:
        entry = self._select(ANYTIME)
        return GraphSet(entry.precision, entry.target, self._label)

    @property
    def _spec(self) -> GraphSpec:
        return GraphSpec(
            num_layers=self.model.num_layers,
            max_length=self.model.max_length,
            always_keep_cls_token=self.model.always_keep_cls_token,
        )

    @property
    def _label(self) -> str:
        """The label of the graphs' set, as it stands in the files' names."""
        return self._select(ANYTIME).file.removeprefix(f"{ANYTIME}.").removesuffix(".onnx")

    def _select(self, profile: str) -> GraphEntry:
        return select_graph(self.manifest, GraphRequest(profile), precision=None, machine=int8_target())

    def _get(self, entry: GraphEntry) -> Graph:
        if entry.file not in self._open:
            self._open[entry.file] = open_graph(self.bundle / entry.file, threads=self.threads)
        return self._open[entry.file]
