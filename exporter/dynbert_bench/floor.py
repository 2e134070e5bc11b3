"""The floor: how long a length config's arithmetic takes where nothing but arithmetic happens.

INT8: every encoder product with a weight. A layer's query, key, value and output projection see the tokens that enter
it, its feed-forward those that leave it. fp32: attention's two products over the tokens that enter. Both are divided by
the rate that onnxruntime reaches here on products of this model's shapes, the best of them: the peak. Everything else
(softmax, LayerNormalization, activation functions, moving data) counts as nothing, so no graph gets to the floor.

A graph that drops tokens before the output projection does a little less than this, and dynbert's products of queries
and keys are INT8 as well. The floor leaves both out of account, because it is the measure that the goals were set
with; the report has the floor with INT8 scores beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert_bench.results import FloorInfo
from dynbert_bench.store import Blueprint

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from dynbert.lengths import LengthConfig
    from dynbert_bench.options import Plan, Shape
    from dynbert_bench.results import ProductRate

__all__ = ["Macs", "Product", "count_macs", "find_floors", "floor_ms", "list_products"]

_COUNT = 8
"""Products of one run: enough that what a run costs beside them is nothing."""


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulate operations of one input."""

    int8: int
    """Of products with weights."""
    fp32: int
    """Of attention's own products: half of them queries with keys, half probabilities with values."""

    @property
    def with_int8_scores(self) -> Macs:
        """The same operations with the products of queries and keys in INT8."""
        scores = self.fp32 // 2
        return Macs(self.int8 + scores, self.fp32 - scores)


@dataclass(frozen=True)
class Product:
    """A matrix product whose rate is measured."""

    precision: str
    """``int8`` (u8 times s8) or ``fp32``."""
    name: str
    """What it is in the model."""
    batch: int
    """Products at once; 0 for one with a constant right side."""
    rows: int
    inner: int
    columns: int

    @property
    def macs(self) -> int:
        """Multiply-accumulate operations of one run of its graph."""
        return _COUNT * max(self.batch, 1) * self.rows * self.inner * self.columns

    @property
    def blueprint(self) -> Blueprint:
        """How its graph is made."""
        settings = {
            "precision": self.precision,
            "batch": self.batch,
            "rows": self.rows,
            "inner": self.inner,
            "columns": self.columns,
            "count": _COUNT,
        }
        return Blueprint("product", settings, packages=("onnx",))

    def __str__(self) -> str:
        batch = f"{self.batch} x " if self.batch else ""
        return f"{self.precision} {self.name}, {batch}{self.rows}x{self.inner}x{self.columns}"


def count_macs(shape: Shape, tokens: int, lengths: LengthConfig | None) -> Macs:
    """Count the operations of one text.

    Args:
        shape: Of the model.
        tokens: In the text.
        lengths: The length config; None drops nothing.

    Returns:
        The counts.
    """
    leaving = (tokens,) * shape.layers if lengths is None else lengths.resolve(tokens, always_keep_cls_token=True)
    entering = (tokens, *leaving[:-1])
    int8 = sum(
        4 * shape.hidden**2 * before + 2 * shape.hidden * shape.intermediate * after
        for before, after in zip(entering, leaving, strict=True)
    )
    return Macs(int8, sum(2 * before**2 * shape.hidden for before in entering))


def floor_ms(macs: Macs, int8_peak: float, fp32_peak: float) -> float:
    """Return the least time for so many operations.

    Args:
        macs: The operations.
        int8_peak: Operations a second, above 0.
        fp32_peak: The same in fp32.

    Returns:
        Milliseconds.
    """
    return 1e3 * (macs.int8 / int8_peak + macs.fp32 / fp32_peak)


def list_products(shape: Shape, tokens: int) -> tuple[Product, ...]:
    """Return the products whose rates are measured: those of the model at full length.

    Args:
        shape: Of the model.
        tokens: In the input.

    Returns:
        The products of weights in both precisions, and attention's own in fp32.
    """
    width = shape.hidden // shape.heads
    return (*_weight_products(shape, tokens), *_attention_products(shape.heads, tokens, width))


def find_floors(plan: Plan, rates: Collection[ProductRate]) -> tuple[FloorInfo, ...]:
    """Return the floor of each profile at each length of input.

    Args:
        plan: The model, the lengths of its profiles, and the inputs.
        rates: Of the products in ``list_products``.

    Returns:
        The floors by length and profile; none where no product of a precision could be measured.
    """
    int8_peak, fp32_peak = (_peak(rates, precision) for precision in ("int8", "fp32"))
    if int8_peak is None or fp32_peak is None:
        return ()
    floors = []
    for tokens in sorted({cell.tokens for cell in plan.cells}):
        for profile, lengths in plan.lengths.items():
            macs = count_macs(plan.shape, tokens, lengths)
            floors.append(
                FloorInfo(
                    profile=profile,
                    tokens=tokens,
                    int8_macs=macs.int8,
                    fp32_macs=macs.fp32,
                    ms=floor_ms(macs, int8_peak, fp32_peak),
                    int8_scores_ms=floor_ms(macs.with_int8_scores, int8_peak, fp32_peak),
                )
            )
    return tuple(floors)


def _peak(rates: Iterable[ProductRate], precision: str) -> float | None:
    """Return the operations a second of the best product of a precision; None where none was measured."""
    measured = [rate.gmacs_per_second for rate in rates if rate.precision == precision]
    return max((1e9 * rate for rate in measured if rate is not None), default=None)


def _weight_products(shape: Shape, tokens: int) -> Iterable[Product]:
    sizes = (
        ("projection", shape.hidden, shape.hidden),
        ("feed-forward up", shape.hidden, shape.intermediate),
        ("feed-forward down", shape.intermediate, shape.hidden),
    )
    for precision in ("int8", "fp32"):
        for name, inner, columns in sizes:
            yield Product(precision, name, 0, tokens, inner, columns)


def _attention_products(heads: int, tokens: int, width: int) -> Iterable[Product]:
    yield Product("fp32", "attention scores", heads, tokens, width, tokens)
    yield Product("fp32", "attention values", heads, tokens, tokens, width)
