"""Which length configs are best for one checkpoint, one machine and its own data: ``run.py`` is the order."""
