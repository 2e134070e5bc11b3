"""dynbert_export: from a Hugging Face BERT checkpoint to a bundle of ONNX graphs, one per length config.

``export`` is the ``dynbert-export`` command as a function; ``train`` is ``dynbert-train``, by which a checkpoint learns
to bear dropped tokens; ``search`` is ``dynbert-search``, which finds the length configs to export. The package
``dynbert_export.modeling`` is the dynamic BERT in PyTorch. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from dynbert_export.api import export, search, train

__all__ = ["export", "search", "train"]
