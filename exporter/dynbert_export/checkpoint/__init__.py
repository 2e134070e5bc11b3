"""From a hub id or a folder to a checked model, its tokenizer and its weights."""
