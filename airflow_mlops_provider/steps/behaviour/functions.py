"""Functions that a declaration names by their import path."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from airflow_mlops_provider.exceptions import ParameterError


def import_function(path: str, parameter: str) -> Callable[..., Any]:
    """Return the function at ``pkg.module.name``.

    Raises:
        ParameterError: there is none.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParameterError.of(
            parameter, "a behavioural test", f"the import path of a function ({error})", path
        ) from error
    if not callable(found):
        raise ParameterError.of(parameter, "a behavioural test", "callable", path)
    return found  # type: ignore[no-any-return]  # an imported name has no type
