"""Names of the files in a checkpoint, transformers' and sentence-transformers'; a bundle has most of them too.

The tokenizer's own file has its name from the runtime, which reads it: ``dynbert.tokenization``.
"""

from __future__ import annotations

__all__ = [
    "CONFIG_FILE",
    "MODULES_FILE",
    "PACKAGE_FILE",
    "PICKLED_WEIGHTS_FILE",
    "SAFETENSORS_FILE",
    "SPECIAL_TOKENS_FILE",
    "TOKENIZER_CONFIG_FILE",
    "TRANSFORMER_FILE",
    "index_file",
]

SAFETENSORS_FILE = "model.safetensors"
PICKLED_WEIGHTS_FILE = "pytorch_model.bin"

CONFIG_FILE = "config.json"
"""The model's; sentence-transformers gives a module's settings the same name in a folder of their own."""
TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
SPECIAL_TOKENS_FILE = "special_tokens_map.json"
MODULES_FILE = "modules.json"
"""Which modules make sentence-transformers' embeddings."""
TRANSFORMER_FILE = "sentence_bert_config.json"
"""Settings of its first module, the model."""
PACKAGE_FILE = "config_sentence_transformers.json"
"""Prompts and similarity."""


def index_file(weights: str) -> str:
    """Return the name of the file that says which shards hold the weights.

    Args:
        weights: Name of the file that would hold them whole.

    Returns:
        The name.
    """
    return f"{weights}.index.json"
