"""Names of the files in an artifact; apart from what makes them, so that a measured process loads no maker."""

from __future__ import annotations

__all__ = ["BUNDLE", "GRAPH_FILE", "INPUTS_FILE", "MODEL_FILE", "OUTPUTS_FILE"]

BUNDLE = "bundle"
"""Folder of an exported bundle."""
GRAPH_FILE = "graph.onnx"
"""An ONNX graph, weights inside."""
MODEL_FILE = "model.xml"
"""OpenVINO's form; its weights lie beside it."""
INPUTS_FILE = "inputs.npz"
OUTPUTS_FILE = "outputs.npz"
