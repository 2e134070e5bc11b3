"""``dynbert-bench``: dynbert's graphs against other ways to run the same weights, on one thread, fairly.

Fair means: one checkpoint and the same inputs for all; every peer at its best documented settings, found by trying
them; each competitor in a process of its own on the same core, in short bursts that take turns, so that a busy moment
of the machine hits all alike; medians; and each competitor's outputs held against PyTorch's, so that nobody wins by
computing something else. Start reading in ``run.py``.
"""
