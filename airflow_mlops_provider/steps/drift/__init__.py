"""Drift: how far data moved from what a model learned from, and what follows.

The story in order: ``reference`` makes a profile, ``profile`` reads it, ``rows`` gives the rows
of both sides, ``levels`` and ``cells`` count them, ``statistics`` compares the counts, ``domain``
compares rows, ``verdict`` decides and ``compare`` tells it all. ``check`` is what an operator
does: compare, keep the window in the ``history``, and show the ``page``.
"""
