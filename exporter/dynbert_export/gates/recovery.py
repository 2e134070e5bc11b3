"""When INT8 answers differ too much: put the products that are to blame back to fp32, the fewest that will do.

``int8/put_back.py`` says which do most harm. The held-out texts decide how many: 1, 2, 4, ... until the gate holds, and
a bisection between the last two, each step with the graphs that would be published.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynbert.manifest import Precision, Target
from dynbert_export.gates.answers import check_answers, judge
from dynbert_export.gates.kernels import check_int8_kernels
from dynbert_export.gates.saturation import check_no_saturation
from dynbert_export.graph.specialise import write_graphs
from dynbert_export.int8.neural_compressor import quantizable_nodes
from dynbert_export.int8.put_back import module_name, put_back, rank_products

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from dynbert_export.gates.answers import Answers, References
    from dynbert_export.int8.choose import Quantized
    from dynbert_export.job import Job
    from dynbert_export.variants import GraphSet

__all__ = [
    "Int8Graphs",
    "check_products",
    "find_fewest",
    "recover",
    "write_int8",
]


@dataclass(frozen=True)
class Int8Graphs:
    """The INT8 graphs of a bundle, as written, and what the gate says of them."""

    files: Mapping[str, Path]
    """Variant's name -> graph."""
    answers: Answers
    fp32_products: tuple[str, ...] = ()
    """Names of the products that stay fp32, in the graph's order."""


def write_int8(job: Job, graph_set: GraphSet, quantized: Quantized, products: Sequence[str] = ()) -> Mapping[str, Path]:
    """Specialise the INT8 graph for every variant.

    Args:
        job: The export.
        graph_set: The graphs to write.
        quantized: The anytime graph in INT8.
        products: Names of the products to put back to fp32.

    Returns:
        Variant's name -> file.
    """
    graph = put_back(quantized, products) if products else quantized.graph
    return write_graphs(graph, job.variants, job.folder(Precision.INT8), graph_set, job.spec)


def check_products(
    files: Mapping[str, Path], graph_set: GraphSet, quantized: Quantized, products: Sequence[str] = ()
) -> None:
    """See that onnxruntime runs every product as INT8 but these, and that none can saturate on its target.

    Args:
        files: Variant's name -> graph.
        graph_set: What they are: decides the target.
        quantized: What they were made of.
        products: Names of the products that were put back to fp32.

    Raises:
        GateError: If a graph has more or fewer.
    """
    expected = len(quantizable_nodes(quantized.source)) + len(quantized.scores) - len(products)
    target = graph_set.target or Target.VNNI
    for path in files.values():
        check_int8_kernels(path, expected=expected, target=target)
        check_no_saturation(path, target=target)


def recover(
    job: Job, graph_set: GraphSet, quantized: Quantized, missed: Int8Graphs, references: References
) -> Int8Graphs:
    """Put the fewest products back to fp32 with which the INT8 gate holds, the worst first.

    Args:
        job: The export.
        graph_set: The graphs to write.
        quantized: The anytime graph in INT8.
        missed: The graphs that missed the gate; their files are written over.
        references: What the fp32 graphs answer to the held-out texts.

    Returns:
        Graphs that hold the gate.

    Raises:
        GateError: If they miss it even with as many products in fp32 as ``max_fp32_share`` allows, or if onnxruntime
            would not run the others as INT8.
    """
    total = len(quantizable_nodes(quantized.source))
    most = int(total * job.config.gates.max_fp32_share)
    ranked = rank_products(job, quantized) if most else ()
    order = {name: index for index, name in enumerate(quantizable_nodes(quantized.source))}
    last = missed

    def holds(count: int) -> bool:
        nonlocal last
        products = tuple(sorted(ranked[:count], key=order.__getitem__))
        files = write_int8(job, graph_set, quantized, products)
        last = Int8Graphs(files, judge(job, files, Precision.INT8, references), products)
        return not last.answers.misses

    count = find_fewest(holds, most=most)
    if count is not None and count != len(last.fp32_products):
        holds(count)  # the search ended with a set that was too small: write the right one again
    worst = ", ".join(module_name(name) for name in ranked[:3])
    tried = f" even with {most} of {total} products in fp32, {worst} first" if most else ""
    check_answers(job, last.answers, remark=f"{tried} (max_fp32_share {job.config.gates.max_fp32_share:g})")
    check_products(last.files, graph_set, quantized, last.fp32_products)
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
