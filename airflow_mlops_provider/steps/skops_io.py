"""skops, imported before anyone else does and without a thousand warnings.

On import skops looks for SciPy's functions in every loaded module; in an Airflow task that wakes
the deprecation warning of every name that Airflow has moved.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skops.io import dumps, get_untrusted_types

__all__ = ["dumps", "get_untrusted_types"]
