"""The gate that a text's answer does not depend on what it is run with: other texts of a batch, and padding.

A text is run alone, as one of a batch of eight, and padded. Static INT8 quantises every activation with one fixed
scale, so all three must be the same: the same tokens kept, the same numbers. What may part them is the order in which
a processor's fp32 kernels add up: a last bit that tips a rounding by one step, or the choice between two tokens that
are all but equally significant. So where the significances on both sides of the cut differ by ``INT8_TIE_GAP`` or less,
another choice is counted and left out; everything else must agree within ``TOLERANCE``, in units of the output, or
of its standard deviation where that is more than one; embeddings always in units of the latter, because the numbers of
one that is scaled to unit length are all small. (On the processor that this was written on, all differences are
exactly zero.)

Length configs of fractions count padding among the tokens, so what is kept then depends on it by definition: their
graphs are asked with eight texts of one length, together and alone. (Anytime graphs get counts at run time, so they are
asked everything.) Dynamic INT8 is not asked: its scales are those of the whole batch, and a text's answer depends on
them by design.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from dynbert.inputs import INPUT_IDS, LENGTH_CONFIG, add_lengths
from dynbert.lengths import LengthConfig
from dynbert.manifest import Invariance
from dynbert.outputs import SENTENCE_EMBEDDING
from dynbert.session import open_graph
from dynbert_export.errors import ExportError, GateError
from dynbert_export.graph.editing import producer_of, trace_back
from dynbert_export.graph.freeze import show_kept_positions
from dynbert_export.graph.names import is_kept_positions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from dynbert.session import Graph
    from dynbert_export.data.feeds import Feed

__all__ = ["INT8_TIE_GAP", "TOLERANCE", "check_invariance", "make_texts"]

INT8_TIE_GAP = 1e-3
"""Difference of significance at a cut up to which another choice is no fault: wider than between two fp32 runs
(``parity.FP32_TIE_GAP``), since one rounding that tips moves an activation by a whole step."""
TOLERANCE = 5e-3
"""Largest difference of an output, times its standard deviation where that is more than one; of an embedding always."""

_BATCH = 8
_LONGEST_TOKENS = 256
"""Of these texts; eight of them cost a BERT-base a few seconds a graph."""
_REMEDY = "This is a fault of dynbert for this model: use --quantize dynamic or none, and report it."
_ORDERED = ("Slice", "Identity", "Cast", "Neg")
"""Operators between the choice of tokens and putting them in the text's order."""


def make_texts(texts: Sequence[Feed], *, max_length: int) -> tuple[Feed, ...]:
    """Return eight inputs of unequal length, long enough for length configs to bite, from texts put one after another.

    Args:
        texts: Held-out texts, int64 ``[1, tokens]``.
        max_length: Longest input in tokens.

    Returns:
        int64 arrays ``[1, tokens]``; the longest has eight ninths of 256 tokens, or of ``max_length`` if less.
    """
    longest = min(max_length, _LONGEST_TOKENS)
    made = []
    for index in range(_BATCH):
        first = index % len(texts)
        tokens = max(1, longest * (index + 1) // (_BATCH + 1))
        rolled = (*texts[first:], *texts[:first])
        made.append({name: _fill([text[name] for text in rolled], tokens) for name in rolled[0]})
    return tuple(made)


def check_invariance(
    path: Path,
    texts: Sequence[Feed],
    *,
    lengths: LengthConfig | None,
    always_keep_cls_token: bool,
    counts_padding: bool = False,
) -> Invariance:
    """Hold what a graph gives for texts in company, and padded, to what it gives for each of them alone.

    Args:
        path: The published file of a static INT8 graph.
        texts: int64 ``[1, tokens]``, of unequal length.
        lengths: The graph's length config, or one to give an anytime graph; None where nothing is dropped.
        always_keep_cls_token: As the graph was traced.
        counts_padding: Whether padding votes on significance, as a checkpoint of the reference may ask; unpadded texts
            of one length are compared then, as for fractions.

    Returns:
        What was measured.

    Raises:
        GateError: If other tokens are kept where it was no near tie, an output differs by more than the tolerance, or
            nothing could be compared.
    """
    tally = _Tally(path)
    width = max(text[INPUT_IDS].shape[-1] for text in texts) * 9 // 8
    with _opened(path) as (opened, scores):
        takes_lengths = LENGTH_CONFIG in opened.inputs
        if lengths is not None and lengths.is_fractional and takes_lengths:  # which gets counts whoever computes them
            lengths = LengthConfig(lengths.resolve(width // 2, always_keep_cls_token=always_keep_cls_token))
        graph = _ShownGraph(opened, scores, lengths if takes_lengths else None, always_keep_cls_token)
        counts_padding = counts_padding or (lengths is not None and lengths.is_fractional)
        if counts_padding:
            texts = [{name: _fill([array], width // 2) for name, array in text.items()} for text in texts]
        padded = texts if counts_padding else [_pad(text, width) for text in texts]
        together = graph.run({name: np.concatenate([text[name] for text in padded]) for name in padded[0]})
        for row, text in enumerate(texts):
            alone = graph.run(text)
            tally.compare(alone, together, row=row, where=f"in a batch of {len(texts)}")
            if not counts_padding:
                tally.compare(alone, graph.run(padded[row]), row=0, where=f"padded to {width} tokens")
    if not tally.compared:
        raise GateError(f"{path.name} must be compared on at least one text, got {tally.near_ties} near ties only.")
    return Invariance(inputs=tally.compared, near_ties=tally.near_ties, max_abs_difference=tally.largest)


@dataclass(frozen=True)
class _Answer:
    """What a graph gave for one input."""

    tokens: int
    rows: int
    """Of the encoder for each text: 1, or as many as a text has choices."""
    outputs: Mapping[str, NDArray[Any]]
    kept: Mapping[str, NDArray[np.int64]]
    """Layer's name -> positions ``[batch, kept tokens]``, layer by layer."""
    scores: Mapping[str, NDArray[np.float32]]
    """Layer's name -> significances ``[batch, entering tokens]`` that it chose by."""

    def gap(self, layer: str, row: int) -> float:
        """Return the difference of significance at a layer's cut in a row; infinite where nothing was cut."""
        kept = self.kept[layer].shape[1]
        descending = np.sort(self.scores[layer][row].astype(np.float64))[::-1]
        return float(descending[kept - 1] - descending[kept]) if kept < len(descending) else float("inf")


@dataclass(frozen=True)
class _ShownGraph:
    """An open graph that shows what its layers chose, and by what."""

    graph: Graph
    scores: Mapping[str, str]
    """Layer's name, as that of its kept positions -> name of its significances."""
    lengths: LengthConfig | None
    """For an anytime graph."""
    always_keep_cls_token: bool

    def run(self, feed: Feed) -> _Answer:
        """Run on int64 ``[batch, tokens]``, or ``[batch, choices, tokens]``."""
        ids = feed[INPUT_IDS]
        tokens = ids.shape[-1]
        arrays = self.graph.run(add_lengths(feed, self.lengths, always_keep_cls_token=self.always_keep_cls_token))
        shown = {*self.scores, *self.scores.values()}
        return _Answer(
            tokens,
            ids[0].size // tokens,
            {name: array for name, array in arrays.items() if name not in shown},
            {layer: arrays[layer] for layer in self.scores},
            {layer: arrays[score] for layer, score in self.scores.items()},
        )


class _Tally:
    """Compares answers, and counts."""

    def __init__(self, path: Path) -> None:
        self._file = path.name
        self.compared, self.near_ties, self.largest = 0, 0, 0.0

    def compare(self, alone: _Answer, other: _Answer, *, row: int, where: str) -> None:
        """Hold a row of ``other`` to the text of it alone."""
        for layer, index in ((layer, index) for layer in alone.kept for index in range(alone.rows)):
            found = other.kept[layer][row * alone.rows + index]
            if np.array_equal(np.sort(found[found < alone.tokens]), np.sort(alone.kept[layer][index])):
                continue
            gap = alone.gap(layer, index)
            if not gap <= INT8_TIE_GAP:
                raise GateError(
                    f"{self._file} must keep the same tokens of a text alone and {where}, got others at {layer} of a "
                    f"text of {alone.tokens} tokens, where the gap at the cut is {gap:.3g}. {_REMEDY}"
                )
            self.near_ties += 1
            return
        self.compared += 1
        for name, wanted in alone.outputs.items():
            self._compare_output(name, wanted[0], alone, other, row=row, where=where)

    def _compare_output(
        self, name: str, wanted: NDArray[Any], alone: _Answer, other: _Answer, *, row: int, where: str
    ) -> None:
        got = other.outputs[name][row]
        if got.ndim and wanted.shape[0] == alone.tokens and got.shape[0] == other.tokens:
            got = got[: alone.tokens]
        difference = float(np.abs(got.astype(np.float64) - wanted).max(initial=0.0))
        limit = TOLERANCE * max(0.0 if name == SENTENCE_EMBEDDING else 1.0, float(wanted.std()))
        if not difference <= limit:
            raise GateError(
                f"{self._file} must answer the same to a text alone and {where}, got {name} that differs by "
                f"{difference:.3g}, at most {limit:.3g} is allowed. {_REMEDY}"
            )
        self.largest = max(self.largest, difference)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Graph, dict[str, str]]]:
    """Open a published graph with its kept positions and significances as outputs; the copy lies beside it."""
    copy = path.with_name(f"{path.stem}.invariance.onnx")
    shown = show_kept_positions(ir.load(path))
    scores = _show_scores(shown)
    ir.save(shown, copy)
    try:
        yield open_graph(copy), scores
    finally:
        copy.unlink()


def _show_scores(model: ir.Model) -> dict[str, str]:
    """Make what each layer chooses by an output; return their names by the names of the kept positions."""
    scores = {}
    for kept in tuple(value for value in model.graph.outputs if is_kept_positions(value.name)):
        score = _find_score(kept)
        if not score.is_graph_output():
            score.type = ir.TensorType(ir.DataType.FLOAT)
            model.graph.outputs.append(score)
        scores[kept.name or ""] = score.name or ""
    return scores


def _find_score(kept: ir.Value) -> ir.Value:
    """Return the input of the TopK that chose: behind the one that sorts, and that looks positions up."""
    lookup = producer_of(kept, "GatherElements")
    value = kept if lookup is None else lookup.inputs[1]
    score: ir.Value | None = None
    while (top := producer_of(trace_back(value, *_ORDERED), "TopK")) is not None:
        score = value = top.inputs[0]
    if score is None:
        raise ExportError(f"{kept.name} must come from TopK. This is a fault of dynbert for this graph; report it.")
    return score


def _pad(text: Feed, tokens: int) -> Feed:
    """Return a text with padding, ids and mask 0, up to so many tokens."""
    missing = tokens - text[INPUT_IDS].shape[-1]
    return {name: np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)]) for name, array in text.items()}


def _fill(arrays: Sequence[NDArray[np.int64]], tokens: int) -> NDArray[np.int64]:
    """Return so many tokens of arrays ``[1, ..., tokens]`` put one after another, over and over."""
    joined = np.concatenate(arrays, axis=-1)
    return np.concatenate([joined] * -(-tokens // joined.shape[-1]), axis=-1)[..., :tokens]
