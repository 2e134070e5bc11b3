"""When INT8 answers differ too much: put the products that are to blame back to fp32, the fewest that will do.

``int8/put_back.py`` says which do most harm. The held-out texts decide how many: 1, 2, 4, ... until the gate holds, and
a bisection between the last two, each step with the graphs that would be published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.manifest import Precision, Target
from dynbert_export.errors import GateError
from dynbert_export.gates.kernels import check_int8_kernels
from dynbert_export.gates.saturation import check_no_saturation
from dynbert_export.graph.names import names_in_layers
from dynbert_export.int8.neural_compressor import quantizable_nodes
from dynbert_export.int8.put_back import module_name, put_back, rank_products

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import onnx_ir as ir

    from dynbert_export.gates.answers import AnswerGate, Answers, References
    from dynbert_export.int8.calibration import Calibration
    from dynbert_export.int8.choose import Quantized
    from dynbert_export.variants import GraphSet

__all__ = ["Int8Graphs", "Int8Maker", "find_fewest", "recover"]


@dataclass(frozen=True)
class Int8Graphs:
    """The INT8 graphs of a bundle, as written, and what the gate says of them."""

    files: Mapping[str, Path]
    """Variant's name -> graph."""
    answers: Answers
    fp32_products: tuple[str, ...] = ()
    """Names of the products that stay fp32, in the graph's order."""


@dataclass(frozen=True)
class Int8Maker:
    """Makes the graphs of one INT8 set, with products in fp32 where they are to be, and holds them to their gates."""

    graph_set: GraphSet
    quantized: Quantized
    """The anytime graph in INT8."""
    specialise: Callable[[ir.Model], Mapping[str, Path]]
    """Writes an anytime graph for every variant, over what was written before: variant's name -> file."""
    gate: AnswerGate
    references: References
    """What the fp32 graphs answer to the held-out texts."""

    def write(self, products: Sequence[str] = ()) -> Mapping[str, Path]:
        """Write the graphs.

        Args:
            products: Names of the products to put back to fp32.

        Returns:
            Variant's name -> file.
        """
        return self.specialise(put_back(self.quantized, products) if products else self.quantized.graph)

    def judge(self, files: Mapping[str, Path], products: tuple[str, ...] = ()) -> Int8Graphs:
        """Compare the answers of graphs with those of their fp32 twins.

        Args:
            files: Variant's name -> graph.
            products: Names of the products that they have in fp32.

        Returns:
            The graphs with what was found; a miss is no error yet.
        """
        return Int8Graphs(files, self.gate.judge(files, Precision.INT8, self.references), products)

    def check_products(self, files: Mapping[str, Path], products: Sequence[str] = ()) -> None:
        """See that onnxruntime runs every product as INT8 but these, and that none can saturate on its target.

        Args:
            files: Variant's name -> graph.
            products: Names of the products that they have in fp32.

        Raises:
            GateError: If a graph has more or fewer, or none.
        """
        names = {*quantizable_nodes(self.quantized.source), *self.quantized.scores}.difference(products)
        target = self.graph_set.target or Target.VNNI
        for variant in self.gate.variants:
            path, expected = files[variant.name], len(names_in_layers(names, variant.layers))
            if not expected:
                raise GateError(
                    f"{path.name} must have at least one INT8 product, got none: those of its layers stay fp32. "
                    "Leave out other layers, calibrate on texts of your own (--calibration), or export fp32 "
                    "(--quantize none)."
                )
            check_int8_kernels(path, expected=expected, target=target)
            check_no_saturation(path, target=target)


def recover(maker: Int8Maker, missed: Int8Graphs, calibration: Calibration, *, max_fp32_share: float) -> Int8Graphs:
    """Put the fewest products back to fp32 with which the INT8 gate holds, the worst first.

    Args:
        maker: Of the graphs.
        missed: Those that missed the gate; their files are written over.
        calibration: What products are blamed by.
        max_fp32_share: Share of the products that may stay fp32, as the recipe's gate says.

    Returns:
        Graphs that hold the gate.

    Raises:
        GateError: If they miss it even with as many products in fp32 as ``max_fp32_share`` allows, or if onnxruntime
            would not run the others as INT8.
    """
    names = quantizable_nodes(maker.quantized.source)
    most = min(int(len(names) * max_fp32_share), len(names) - 1)  # with none left in INT8 it were an fp32 graph
    ranked = rank_products(maker.quantized, calibration) if most else ()
    order = {name: index for index, name in enumerate(names)}
    last = missed

    def holds(count: int) -> bool:
        nonlocal last
        products = tuple(sorted(ranked[:count], key=order.__getitem__))
        last = maker.judge(maker.write(products), products)
        return not last.answers.misses

    count = find_fewest(holds, most=most)
    if count is not None and count != len(last.fp32_products):
        holds(count)  # the search ended with a set that was too small: write the right one again
    worst = ", ".join(module_name(name) for name in ranked[:3])
    tried = f" even with {most} of {len(names)} products in fp32, {worst} first" if most else ""
    maker.gate.check(last.answers, remark=f"{tried} (max_fp32_share {max_fp32_share:g})")
    maker.check_products(last.files, last.fp32_products)
    return last


def find_fewest(holds: Callable[[int], bool], *, most: int) -> int | None:
    """Return the fewest of something with which a test holds, by doubling and then by bisection.

    Args:
        holds: Whether the test holds with so many, at least 1; taken to hold with more where it holds with fewer.
        most: Never asked for more.

    Returns:
        The number, for which the test has held; None where it does not hold with ``most``.
    """
    fails, count = 0, min(1, most)
    while count == 0 or not holds(count):
        if count == most:
            return None
        fails, count = count, min(2 * count, most)
    while count - fails > 1:
        middle = (count + fails) // 2
        if holds(middle):
            count = middle
        else:
            fails = middle
    return count
