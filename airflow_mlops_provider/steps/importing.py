"""Import what a person named by its path."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from airflow_mlops_provider.exceptions import ParameterError


def import_object(path: str, place: str = "estimator", caller: str = "train") -> Callable[..., Any]:
    """Return the class or function at ``pkg.module.name``.

    Args:
        path: Its import path.
        place: The parameter, or the place in it, where it was named.
        caller: Who was given that parameter.

    Raises:
        ParameterError: there is none.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParameterError.of(
            place, caller, "the import path of a class or function", path
        ) from error
    if not callable(found):
        raise ParameterError.of(place, caller, "callable", path)
    return found  # type: ignore[no-any-return]  # an imported name has no type
