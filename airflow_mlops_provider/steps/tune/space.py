"""The ranges of parameters: checked once, then told to Optuna or scikit-learn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_mlops_provider.exceptions import ParameterError

if TYPE_CHECKING:
    import optuna

Range = Mapping[str, Any]
Space = Mapping[str, Range]

_KEYS = {
    "float": {"low", "high", "log", "step", "points"},
    "int": {"low", "high", "log", "step", "points"},
    "categorical": {"choices"},
}
_POINTS = 5


def check_space(space: Space) -> None:
    """Refuse ranges that no method could search.

    Raises:
        ParameterError: the space is empty, or a range has an unknown type or key, no choices,
            bounds that are no numbers or in the wrong order, or a logarithm of what is not
            positive.
    """
    if not space:
        raise _error("", "a parameter or more", space)
    for name, wanted in space.items():
        kind = wanted.get("type") if isinstance(wanted, Mapping) else None
        if kind not in _KEYS:
            raise _error(f"[{name!r}]['type']", f"one of {list(_KEYS)}", kind)
        if unknown := wanted.keys() - _KEYS[kind] - {"type"}:
            raise _error(f"[{name!r}]", f"made of {sorted(_KEYS[kind])}", sorted(unknown))
        if kind == "categorical":
            _check_choices(name, wanted.get("choices"))
        else:
            _check_bounds(name, wanted)


def _check_choices(name: str, choices: Any) -> None:
    if not isinstance(choices, list | tuple) or not choices:
        raise _error(f"[{name!r}]['choices']", "a list with a choice or more", choices)
    wrong = [each for each in choices if not isinstance(each, str | float | int | None)]
    if wrong:
        constraint = "a list of texts, numbers, booleans or nulls"
        raise _error(f"[{name!r}]['choices']", constraint, wrong[0])


def _check_bounds(name: str, wanted: Range) -> None:
    number = int if wanted["type"] == "int" else float
    for key in ("low", "high"):
        if not _is_number(wanted.get(key), number):
            raise _error(f"[{name!r}][{key!r}]", f"a finite {number.__name__}", wanted.get(key))
    low, high, step = wanted["low"], wanted["high"], wanted.get("step")
    if low > high:
        raise _error(f"[{name!r}]['low']", f"at most high, which is {high}", low)
    if wanted.get("log") and low <= 0:
        raise _error(f"[{name!r}]['low']", "positive where log is true", low)
    if step is not None and (not _is_number(step, number) or step <= 0 or wanted.get("log")):
        raise _error(f"[{name!r}]['step']", "positive, and without log", step)
    if not _is_number(wanted.get("points", 1), int) or wanted.get("points", 1) < 1:
        raise _error(f"[{name!r}]['points']", "an int of at least 1", wanted["points"])


def _is_number(value: Any, number: type) -> bool:
    allowed = int if number is int else (int, float)
    return isinstance(value, allowed) and not isinstance(value, bool) and math.isfinite(value)


def _error(where: str, constraint: str, value: object) -> ParameterError:
    return ParameterError.of(f"search_space{where}", "tune", constraint, value)


def suggest(trial: optuna.Trial, space: Space) -> dict[str, Any]:
    """Let Optuna choose a value of each range."""
    suggested = {}
    for name, wanted in space.items():
        arguments = {key: value for key, value in wanted.items() if key not in ("type", "points")}
        suggested[name] = getattr(trial, f"suggest_{wanted['type']}")(name, **arguments)
    return suggested


def first_values(space: Space) -> dict[str, Any]:
    """Return one value of each range."""
    return {name: grid_of(wanted)[0] for name, wanted in space.items()}


def grid_of(wanted: Range) -> list[Any]:
    """Return the choices, each step, or ``points`` values spread evenly (in the logarithm)."""
    if wanted["type"] == "categorical":
        return list(wanted["choices"])
    low, high, points = wanted["low"], wanted["high"], wanted.get("points", _POINTS)
    if step := wanted.get("step"):
        return [low + step * n for n in range(math.floor((high - low) / step + 1e-9) + 1)]
    values = (np.geomspace if wanted.get("log") else np.linspace)(low, high, points)
    if wanted["type"] == "int":
        values = np.unique(values.round().astype(int))
    return [min(max(value, low), high) for value in values.tolist()]


def distribution_of(wanted: Range) -> Any:
    """Return what scikit-learn draws from: a list, or a distribution of SciPy."""
    from scipy import stats  # late: the workers of Optuna start without it

    if wanted["type"] == "categorical" or wanted.get("step") or wanted["low"] == wanted["high"]:
        return grid_of(wanted)
    low, high = wanted["low"], wanted["high"]
    if wanted["type"] == "int":
        return _Integers(low, high) if wanted.get("log") else stats.randint(low, high + 1)
    return stats.loguniform(low, high) if wanted.get("log") else stats.uniform(low, high - low)


class _Integers:
    """Whole numbers from ``low`` to ``high``, uniform in their logarithm."""

    def __init__(self, low: Any, high: Any) -> None:
        from scipy import stats

        self._low, self._high = low, high
        self._drawn = stats.loguniform(low - 0.5, high + 0.5)

    def rvs(self, random_state: Any = None) -> int:
        """Draw one, as scikit-learn asks for it."""
        drawn = round(float(self._drawn.rvs(random_state=random_state)))
        return int(min(max(drawn, self._low), self._high))
