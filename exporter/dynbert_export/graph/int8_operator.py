"""``MatMulIntegerToFloat``, by which onnxruntime runs a product as INT8: the one place that knows its form.

It says in one node what is meant: u8 activations, s8 weights per output channel, integer product, float result with its
bias. Where ``DynamicQuantizeLinear`` quantises the activation, onnxruntime makes ``DynamicQuantizeMatMul`` of the two
when it opens a graph: that one is only found here, in graphs that onnxruntime has optimised, and never built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from dynbert_export.graph.editing import producer_of
from dynbert_export.graph.names import MICROSOFT_DOMAIN

if TYPE_CHECKING:
    from typing import Self

__all__ = ["INT8_OPERATOR", "DynamicInt8Product", "Int8Product", "int8_products"]

INT8_OPERATOR = "MatMulIntegerToFloat"
_DYNAMIC_OPERATOR = "DynamicQuantizeMatMul"
_SUFFIX = "/int8"
"""What the operator's name has beside the product's."""


@dataclass(frozen=True)
class Int8Product:
    """``(activation - zero point) @ (weight - zero point)``, times both scales, plus the bias: a float."""

    name: str
    """Of the float product that it stands for; its node is called ``NAME/int8``."""
    activation: ir.Value
    """Integers ``[..., rows, inner]``, u8 in every graph of this package."""
    weight: ir.Value
    """Integers ``[inner, columns]``, s8 and constant; of attention scores the keys, ``[..., inner, columns]``."""
    activation_scale: ir.Value
    """float32, a scalar."""
    weight_scale: ir.Value
    """float32 ``[columns]``, or a scalar."""
    activation_zero_point: ir.Value | None = None
    """Of the activation's type, a scalar; None for 0."""
    weight_zero_point: ir.Value | None = None
    """Of the weight's type and the scale's shape; None for 0."""
    bias: ir.Value | None = None
    """float32 ``[columns]``; None for none."""

    @classmethod
    def match(cls, node: ir.Node) -> Self | None:
        """Return the product that a node is.

        Args:
            node: Any node.

        Returns:
            Its parts; None for other operators.
        """
        if (node.domain, node.op_type) != (MICROSOFT_DOMAIN, INT8_OPERATOR):
            return None
        activation, weight, activation_scale, weight_scale, *optional = node.inputs
        if activation is None or weight is None or activation_scale is None or weight_scale is None:
            return None
        name = (node.name or "").removesuffix(_SUFFIX)
        return cls(name, activation, weight, activation_scale, weight_scale, *optional)

    def build(self) -> ir.Node:
        """Return a node that computes the product.

        Returns:
            The node, in no graph yet; the graph's model must import the domain ``MICROSOFT_DOMAIN``.
        """
        node = ir.node(
            INT8_OPERATOR,
            [
                self.activation,
                self.weight,
                self.activation_scale,
                self.weight_scale,
                self.activation_zero_point,
                self.weight_zero_point,
                self.bias,
            ],
            domain=MICROSOFT_DOMAIN,
            name=f"{self.name}{_SUFFIX}",
        )
        node.outputs[0].name = f"{node.name}_output"
        return node

    @property
    def float_activation(self) -> ir.Value | None:
        """What a quantiser right before the product reads; None where there is none, as for attention scores."""
        quantizer = producer_of(self.activation, "QuantizeLinear", "DynamicQuantizeLinear")
        return None if quantizer is None else quantizer.inputs[0]

    @property
    def integer_inputs(self) -> tuple[ir.Value | None, ...]:
        """What is of the activation's integer type."""
        return self.activation, self.activation_zero_point


@dataclass(frozen=True)
class DynamicInt8Product:
    """A product that quantises its activation to u8 by itself, from minimum and maximum of what it is given."""

    activation: ir.Value
    """float32 ``[..., rows, inner]``."""
    weight: ir.Value
    """Integers ``[inner, columns]``."""

    @classmethod
    def match(cls, node: ir.Node) -> Self | None:
        """Return the product that a node is.

        Args:
            node: Any node.

        Returns:
            Its parts; None for other operators.
        """
        if (node.domain, node.op_type) != (MICROSOFT_DOMAIN, _DYNAMIC_OPERATOR):
            return None
        activation, weight = node.inputs[:2]
        return None if activation is None or weight is None else cls(activation, weight)

    @property
    def integer_inputs(self) -> tuple[ir.Value | None, ...]:
        """What is of the activation's integer type: no input is, and u8 is what every target takes."""
        return ()


def int8_products(model: ir.Model) -> list[tuple[ir.Node, Int8Product]]:
    """Return the INT8 products of a graph, in its order.

    Args:
        model: Any graph.

    Returns:
        Each node and its parts.
    """
    return [(node, product) for node in model.graph if (product := Int8Product.match(node)) is not None]
