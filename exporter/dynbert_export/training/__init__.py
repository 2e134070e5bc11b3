"""Teaching a BERT to bear dropped tokens: LengthDrop in transformers' Trainer. Start reading in ``run.py``."""
