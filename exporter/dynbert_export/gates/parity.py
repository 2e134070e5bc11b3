"""Parity: does the fp32 graph compute what the PyTorch model computes, and keep the same tokens?

Two implementations may part ways where two tokens are all but equally significant, so a graph may keep others where
those are less significant by no more than ``FP32_TIE_GAP``; such rows are counted and left out. Everything else is a
failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from dynbert.inputs import ATTENTION_MASK, INPUT_IDS, add_lengths, arrange_rows
from dynbert.manifest import Parity
from dynbert.outputs import has_positions
from dynbert.session import open_graph
from dynbert.sweep import random_rows, sweep_shapes
from dynbert_export.errors import GateError
from dynbert_export.graph.freeze import show_kept_positions
from dynbert_export.graph.names import kept_positions_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import BertConfig, PreTrainedModel

    from dynbert.lengths import LengthConfig
    from dynbert.manifest import Task
    from dynbert.session import Graph
    from dynbert_export.data.feeds import Feed

__all__ = [
    "FP32_TIE_GAP",
    "TorchReference",
    "check_parity",
    "make_cases",
]

FP32_TIE_GAP = 1e-4
"""Difference of significance below which two tokens count as equally significant: fp32 arithmetic leaves it open."""

_MAX_CACHED_BYTES = 512 << 20
"""Of PyTorch's answers that are kept: scores of a vocabulary take 62 MB for 512 tokens."""


@dataclass(frozen=True)
class _Reference:
    """What the PyTorch model gives for one input."""

    outputs: Mapping[str, NDArray[np.float32]]
    kept_positions: Mapping[int, NDArray[np.int64]]
    """Layer -> int64 ``[batch, kept tokens]``, in text order, of those that run; empty where no length config was
    given."""

    @property
    def nbytes(self) -> int:
        """Size of the outputs."""
        return sum(array.nbytes for array in self.outputs.values())


class TorchReference:
    """The PyTorch model's answers to the inputs that parity is checked on.

    Args:
        model: The model.
        outputs: Names of the outputs that a graph of it has.
        cases: The inputs, as from ``make_cases``.
        always_keep_cls_token: As the graphs were traced.
        layers: Indices of the layers that run; None for all.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        outputs: Sequence[str],
        cases: Sequence[Feed],
        *,
        always_keep_cls_token: bool,
        layers: tuple[int, ...] | None = None,
    ) -> None:
        self.cases = tuple(cases)
        self.always_keep_cls_token = always_keep_cls_token
        self._model = model
        self._layers = tuple(range(model.config.num_hidden_layers)) if layers is None else layers
        self._outputs = tuple(outputs)
        self._answers: dict[tuple[int, LengthConfig | None], _Reference] = {}  # oldest first

    def answer(self, case: int, lengths: LengthConfig | None) -> _Reference:
        """Run the model eagerly; asked for the same twice it answers from memory, where that has room.

        Args:
            case: Number of the input.
            lengths: None drops nothing.

        Returns:
            The task's outputs, and what each layer kept.
        """
        if lengths is not None and lengths.lengths[-1] == 1.0 and lengths.is_fractional:
            lengths = None  # keeps everything
        if (case, lengths) in self._answers:
            return self._answers[case, lengths]
        result = self._forward(case, lengths, output_attentions=False)
        answer = _Reference(
            {name: result[name].numpy() for name in self._outputs},
            {
                layer: np.sort(positions.numpy(), axis=1)
                for layer, positions in zip(self._layers, result.kept_positions or (), strict=False)  # all or none
            },
        )
        self._answers[case, lengths] = answer
        while sum(kept.nbytes for kept in self._answers.values()) > _MAX_CACHED_BYTES:
            del self._answers[next(iter(self._answers))]
        return answer

    def measure_gap(self, case: int, lengths: LengthConfig, *, layer: int, row: int, found: NDArray[np.int64]) -> float:
        """Return how much more significant the tokens are that PyTorch kept than those that a graph kept instead.

        Computed from the attention probabilities, independently of the model's own selection code.

        Args:
            case: Number of the input.
            lengths: The length config.
            layer: The first layer in which both differ.
            row: Row of the batch.
            found: Positions that the graph kept.

        Returns:
            The largest such difference, at least the gap at PyTorch's own cut; infinite where the graph kept more or
            fewer tokens, or some that it did not have.
        """
        result = self._forward(case, lengths, output_attentions=True)
        number = self._layers.index(layer)
        probs = result.attentions[number][row].numpy()  # [heads, tokens, tokens]
        tokens = probs.shape[-1]
        entering = result.kept_positions[number - 1][row].numpy() if number else np.arange(tokens)
        kept = result.kept_positions[number][row].numpy()
        lost, gained = np.setdiff1d(kept, found), np.setdiff1d(found, kept)
        if len(found) != len(kept) or not gained.size or not np.isin(gained, entering).all():
            return float("inf")
        mask = self.cases[case][ATTENTION_MASK].reshape(-1, self.cases[case][ATTENTION_MASK].shape[-1])[row]
        is_counted = getattr(self._model.config, "count_padded_queries", False)
        votes = np.ones(tokens) if is_counted else mask[entering].astype(np.float64)
        significance = np.einsum("hqk,q->k", probs.astype(np.float64), votes)
        if self.always_keep_cls_token:
            significance[0] = np.inf
        by_position = dict(zip(entering.tolist(), significance.tolist(), strict=True))
        return float(max(by_position[item] for item in lost) - min(by_position[item] for item in gained))

    def _forward(self, case: int, lengths: LengthConfig | None, *, output_attentions: bool) -> Any:
        import torch

        with torch.inference_mode():
            return self._model(
                **{name: torch.from_numpy(array) for name, array in self.cases[case].items()},
                length_config=() if lengths is None else lengths,
                layer_config=self._layers,
                always_keep_cls_token=self.always_keep_cls_token,
                output_attentions=output_attentions,
                return_dict=True,
            )


def make_cases(config: BertConfig, task: Task, *, max_length: int, seed: int) -> tuple[Feed, ...]:
    """Return the inputs that parity is checked on: random ids, short and long, alone and padded unequally.

    Args:
        config: Of the model.
        task: Decides the shape of rows; multiple choice has one choice a row.
        max_length: Longest input in tokens.
        seed: Of the ids.

    Returns:
        int64 arrays as from ``arrange_rows``, in the shapes of ``sweep_shapes``.
    """
    generator = np.random.default_rng(seed)
    return tuple(arrange_rows(random_rows(generator, shape, config), task) for shape in sweep_shapes(max_length))


def check_parity(
    path: Path, reference: TorchReference, *, lengths: Sequence[LengthConfig | None], max_abs_difference: float
) -> Parity:
    """Hold an fp32 graph to the PyTorch model.

    Args:
        path: The published file.
        reference: The model, and the inputs; with the profile's layers.
        lengths: The profile's length config; several for the anytime graph.
        max_abs_difference: Largest difference on valid positions.

    Returns:
        What was measured.

    Raises:
        GateError: If an output differs by more, a selection differs where it was no near tie, or nothing could be
            compared.
    """
    compared, near_ties, largest = 0, 0, 0.0
    with _opened_with_positions(path) as graph:
        for config in lengths:
            for case, feed in enumerate(reference.cases):
                outputs = graph.run(add_lengths(feed, config, always_keep_cls_token=reference.always_keep_cls_token))
                rows = _equal_rows(path, outputs, reference, case, config)
                compared += len(rows)
                near_ties += len(feed[INPUT_IDS]) - len(rows)
                expected = reference.answer(case, config).outputs
                largest = max(largest, _largest_difference(path, outputs, expected, feed, rows))
    if not compared:
        raise GateError(f"{path.name}: parity must be checked on at least one row, got {near_ties} near ties only.")
    if not largest <= max_abs_difference:
        raise GateError(
            f"{path.name} must differ from PyTorch by at most {max_abs_difference:g}, got {largest:.3g} "
            f"over {compared} rows."
        )
    return Parity(
        inputs=compared,
        near_ties=near_ties,
        max_abs_difference=largest,
        selection_agreement=compared / (compared + near_ties),
    )


class _opened_with_positions:  # noqa: N801 -- a context manager, used as a function
    """Open a published graph with its kept positions as outputs; the changed copy lies beside it, for its weights."""

    def __init__(self, path: Path) -> None:
        self._copy = path.with_name(f"{path.stem}.verify.onnx")
        self._path = path

    def __enter__(self) -> Graph:
        ir.save(show_kept_positions(ir.load(self._path)), self._copy)
        try:
            return open_graph(self._copy)
        except BaseException:
            self._copy.unlink()
            raise

    def __exit__(self, *_: object) -> None:
        self._copy.unlink()


def _equal_rows(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    reference: TorchReference,
    case: int,
    config: LengthConfig | None,
) -> list[int]:
    """Return the rows in which the graph kept the tokens that PyTorch kept; the others must be near ties."""
    ids, expected = reference.cases[case][INPUT_IDS], reference.answer(case, config)
    rows = []
    for row in range(len(ids)):
        layer = next(_differing_layers(outputs, expected, row), None)
        if layer is None or config is None:
            rows.append(row)
            continue
        found = outputs[kept_positions_name(layer)][row]
        gap = reference.measure_gap(case, config, layer=layer, row=row, found=found)
        if gap >= FP32_TIE_GAP:
            raise GateError(
                f"{path.name} must keep the tokens that PyTorch keeps, got others in layer {layer} of an input of "
                f"{ids.shape[-1]} tokens, less significant by {gap:.3g}."
            )
    return rows


def _differing_layers(outputs: Mapping[str, NDArray[Any]], expected: _Reference, row: int) -> Iterator[int]:
    for layer, positions in expected.kept_positions.items():
        found = outputs.get(kept_positions_name(layer))
        if found is not None and not np.array_equal(found[row], positions[row]):
            yield layer


def _largest_difference(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    expected: Mapping[str, NDArray[Any]],
    feed: Feed,
    rows: Sequence[int],
) -> float:
    """Return the largest difference of these rows, at valid positions where an output has positions."""
    mask = feed[ATTENTION_MASK].astype(bool)
    largest = 0.0
    for name, wanted in expected.items():
        got = outputs[name]
        if got.shape != wanted.shape:
            raise GateError(f"{path.name}: {name} must have shape {list(wanted.shape)}, got {list(got.shape)}.")
        for row in rows:
            valid = mask[row] if has_positions(name, wanted, mask) else slice(None)
            difference = np.abs(got[row][valid].astype(np.float64) - wanted[row][valid])
            if not np.isfinite(difference).all():
                raise GateError(f"{path.name}: {name} must be finite, got values that are not.")
            largest = max(largest, float(difference.max(initial=0.0)))
    return largest
