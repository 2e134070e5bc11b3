"""Names of the files in an artifact; apart from what makes them, so that a measured process loads no maker."""

from __future__ import annotations

__all__ = ["BUNDLE", "GRAPH_FILE", "INPUTS_FILE", "MODEL_FILE", "outputs_file"]

BUNDLE = "bundle"
"""Folder of an exported bundle."""
GRAPH_FILE = "graph.onnx"
"""An ONNX graph, weights inside."""
MODEL_FILE = "model.xml"
"""OpenVINO's form; its weights lie beside it."""
INPUTS_FILE = "inputs.npz"


def outputs_file(profile: str) -> str:
    """Return the name of the file with PyTorch's outputs for the lengths of a profile.

    Args:
        profile: One of those in the plan's ``lengths``.

    Returns:
        The name.
    """
    return f"outputs-{profile}.npz"
