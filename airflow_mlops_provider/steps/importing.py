"""Import what a person named by its path."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from airflow_mlops_provider.exceptions import ParameterError


def import_function(path: str, parameter: str) -> Callable[..., Any]:
    """Return the class or function at ``pkg.module.name``.

    Raises:
        ParameterError: there is none.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParameterError.of(
            parameter, "a step", f"the import path of a class or function ({error})", path
        ) from error
    if not callable(found):
        raise ParameterError.of(parameter, "a step", "callable", path)
    return found  # type: ignore[no-any-return]  # an imported name has no type
