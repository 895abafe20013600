"""Features of a Feast repository, on their way from its sources to training and serving.

``repo`` applies definitions and shows what that changes, ``registry`` lets one process at a time
commit. ``materialize`` takes features online window by window, with ``engine``, ``encoding`` and
``writers`` below it; ``push`` and ``freshness`` belong to it. ``historical`` joins rows to what was
known when, and ``leakage`` proves it. ``pin`` ties a model version to the features it learned
from; ``skew`` compares serving with training, by what is ``asked`` for and a ``tally`` of values.
"""
