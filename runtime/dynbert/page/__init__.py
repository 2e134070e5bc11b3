"""The page of ``dynbert report``: a bundle in one HTML file, for people.

``report`` puts it together: ``graphs`` and ``advice`` (the table, what to choose), ``plots``, ``latency_charts`` and
``charts`` (their geometry), ``lengths`` and ``tokens`` (what the layers drop), ``answers``, ``samples``, ``memory``.
``render`` and the templates make HTML of that. Jinja is loaded when a page is rendered, and not before.
"""
