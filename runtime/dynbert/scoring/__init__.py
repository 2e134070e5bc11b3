"""Labelled data and how well a bundle answers it: reading files, metrics and their intervals, evaluation.

Nothing that ``import dynbert`` loads imports this folder. A function that needs a package of the extras ``eval`` or
``data`` imports it when it is called, and says so where it is missing.
"""
