"""Kernels: in the graph as onnxruntime optimises it at load, is every quantised product an INT8 product?

Of types, too, that its target has fast kernels for. ``saturation.py`` asks what these kernels can add up.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from dynbert.manifest import Target
from dynbert.session import open_session
from dynbert_export.errors import GateError
from dynbert_export.graph.editing import LAYOUT, constant_array, producer_of, trace_back
from dynbert_export.graph.int8_operator import DynamicInt8Product, Int8Product

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_int8_kernels"]

_U8_WEIGHTS = frozenset({Target.AVX2, Target.ARM64})
"""Targets whose kernels for u8 weights are INT8 all the same; VNNI of AVX-512 and AMX have none."""
_PASSED = (*LAYOUT, "Identity")
_FLOAT_PRODUCTS = frozenset({"MatMul", "Gemm", "FusedMatMul", "FusedGemm"})


def check_int8_kernels(path: Path, *, expected: int, target: Target = Target.VNNI) -> int:
    """Open the graph that onnxruntime makes of a file at load, and see that every quantised product runs as INT8.

    Args:
        path: An INT8 graph.
        expected: Products that must be INT8.
        target: What the graph is for. Weights must be s8 for VNNI and AMX; activations u8 wherever there is x86.

    Returns:
        The products found.

    Raises:
        GateError: If a quantised weight feeds a float product, is dequantised at run time, is multiplied in types that
            the target has no fast kernel for, or products are missing.
    """
    with tempfile.TemporaryDirectory(prefix="dynbert-kernels-") as folder:
        optimized = Path(folder) / "optimized.onnx"
        open_session(path, threads=1, optimized_model=optimized)
        model = ir.load(optimized)
        faults: list[str] = []
        found = 0
        for node in model.graph:
            product = Int8Product.match(node) or DynamicInt8Product.match(node)
            if product is not None:
                found += 1
                faults += [f"{node.name} multiplies {fault}" for fault in _type_faults(product, target)]
            elif node.op_type in _FLOAT_PRODUCTS and any(_is_dequantized(value) for value in node.inputs[:2]):
                faults.append(f"{node.name} multiplies a dequantised weight in fp32")
            elif node.op_type == "DequantizeLinear" and _is_matrix(node.inputs[0]):
                faults.append(f"{node.name} dequantises a weight at run time")
    if found != expected:
        faults.append(f"{found} INT8 products")
    if faults:
        raise GateError(f"{path.name} must run {expected} products as INT8, got: {'; '.join(faults)}.")
    return found


def _type_faults(product: Int8Product | DynamicInt8Product, target: Target) -> Iterator[str]:
    """Yield what an INT8 product multiplies that it must not."""
    if ir.DataType.INT8 in map(_integer_type, product.integer_inputs) and target is not Target.ARM64:
        yield "s8 activations, for which x86 has no fast kernel"
    weight = _integer_type(product.weight)
    if weight is not ir.DataType.INT8 and not (weight is ir.DataType.UINT8 and target in _U8_WEIGHTS):
        yield f"{'unknown' if weight is None else weight.name} weights on {target.value}"


def _integer_type(value: ir.Value | None) -> ir.DataType | None:
    """Return the type of a quantised value: its own where it is known, else that of the zero point it was made with."""
    if value is None:
        return None
    if value.dtype is not None:
        return value.dtype
    quantizer = producer_of(trace_back(value, *_PASSED, "Clip"), "QuantizeLinear")
    if quantizer is None:
        return None
    return _integer_type(quantizer.inputs[2]) if len(quantizer.inputs) > 2 else ir.DataType.UINT8


def _is_matrix(value: ir.Value | None) -> bool:
    array = constant_array(value)
    return array is not None and array.ndim > 1


def _is_dequantized(value: ir.Value | None) -> bool:
    node = producer_of(trace_back(value, *_PASSED), "DequantizeLinear")
    return node is not None and constant_array(node.inputs[0]) is not None
