"""What must hold before anything is published; a graph that is not what it says fails the export.

Each gate asks one question of the file that will be published, opened by onnxruntime: is it the PyTorch model
(``parity``), does INT8 answer what fp32 answers (``answers``, ``recovery``), does it run as INT8 (``kernels``), can
sums saturate (``saturation``), does an answer depend on the batch (``invariance``), is there a reason to choose it
(``dominance``)?
"""
