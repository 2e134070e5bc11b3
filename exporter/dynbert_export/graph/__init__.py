"""Exact ONNX -> ONNX rewrites, one a file; each returns a new model and leaves its argument as it was."""
