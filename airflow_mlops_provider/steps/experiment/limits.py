"""One way to check the knobs of a plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import ParameterError

if TYPE_CHECKING:
    from airflow_mlops_provider.records import Record

Limits = tuple[tuple[tuple[str, ...], tuple[float, float], str], ...]
"""Names of knobs, the least and the greatest value of them, and that in words."""


def check_limits(plan: Record, limits: Limits, caller: str) -> None:
    """Check each knob that is given.

    Raises:
        ParameterError: one lies outside its limits; the message names it.
    """
    for names, (low, high), constraint in limits:
        for name in names:
            value = getattr(plan, name)
            if value is not None and not low <= value <= high:
                raise ParameterError.of(name, caller, constraint, value)
