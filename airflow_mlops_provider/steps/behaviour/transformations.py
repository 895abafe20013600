"""What may be done to rows: named transformations, or a function from frame to frame."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.importing import import_object

Transformation = Callable[[pd.DataFrame, np.random.Generator], pd.DataFrame]
"""Gives a new frame of as many rows, and leaves the one it was given as it is."""
Names = str | Sequence[str]


def transformation(declared: Any) -> Transformation:
    """Return what was declared as a function.

    Args:
        declared: ``{name: arguments}``, several of them in a list to be done in order, the name
            ``identity``, a function from frame to frame, or the import path of one.

    Raises:
        ParameterError: there is no such transformation, or it has other arguments.
    """
    if isinstance(declared, str) and declared not in NAMED:
        return _of_function(_imported(declared))
    if isinstance(declared, str):
        return _named(declared, {})
    if callable(declared):
        return _of_function(declared)
    if isinstance(declared, Mapping) and len(declared) == 1:
        ((name, arguments),) = declared.items()
        return _named(name, arguments)
    if isinstance(declared, Sequence) and declared:
        return _in_order([transformation(each) for each in declared])
    raise _refused(declared)


def null(frame: pd.DataFrame, features: Names) -> pd.DataFrame:
    """Set features to null: NaN for numbers, NaT for times, None otherwise."""
    nulls = {}
    for name in _present(frame, features):
        kind = frame[name].dtype
        if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_numeric_dtype(kind):
            nulls[name] = pd.Series(np.nan, index=frame.index)
        elif pd.api.types.is_datetime64_any_dtype(kind):
            nulls[name] = pd.Series(pd.NaT, index=frame.index, dtype=kind)
        else:
            nulls[name] = pd.Series(None, index=frame.index, dtype=object)
    return frame.assign(**nulls)


def noisy(
    frame: pd.DataFrame, rng: np.random.Generator, features: Names, size: float
) -> pd.DataFrame:
    """Add Gaussian noise of ``size`` standard deviations of each feature; integers stay integers.

    Raises:
        DataError: a feature is no number.
    """
    moved = {}
    for name in _present(frame, features):
        column = frame[name]
        if not is_number(column):
            raise DataError(
                f"Noise needs numbers, got {column.dtype} in column {name!r}. Leave it out of "
                "the test's features."
            )
        values = column.to_numpy(dtype=float, na_value=np.nan)
        spread = float(np.nanstd(values)) if np.isfinite(values).any() else 0.0
        values = values + rng.normal(size=len(values)) * size * spread
        if pd.api.types.is_integer_dtype(column.dtype):
            moved[name] = pd.Series(np.rint(values), index=frame.index).astype(column.dtype)
        else:
            moved[name] = pd.Series(values, index=frame.index)
    return frame.assign(**moved)


def is_number(column: pd.Series[Any]) -> bool:
    """Tell whether a column holds numbers, of which booleans are none."""
    kind = column.dtype
    return pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind)


def _identity(frame: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
    return frame


def _set(frame: pd.DataFrame, _: np.random.Generator, feature: Names, value: Any) -> pd.DataFrame:
    if value is None:
        return null(frame, feature)
    return frame.assign(**dict.fromkeys(_present(frame, feature), value))


def _add(frame: pd.DataFrame, _: np.random.Generator, feature: Names, value: float) -> pd.DataFrame:
    return frame.assign(**{name: frame[name] + value for name in _present(frame, feature)})


def _scale(
    frame: pd.DataFrame, _: np.random.Generator, feature: Names, factor: float
) -> pd.DataFrame:
    return frame.assign(**{name: frame[name] * factor for name in _present(frame, feature)})


def _swap(frame: pd.DataFrame, _: np.random.Generator, features: Sequence[str]) -> pd.DataFrame:
    if isinstance(features, str) or len(features) != 2:
        raise ParameterError.of("features", "the transformation 'swap'", "two columns", features)
    first, second = _present(frame, features)
    return frame.assign(**{first: frame[second], second: frame[first]})


def _permute(frame: pd.DataFrame, rng: np.random.Generator, feature: Names) -> pd.DataFrame:
    order = rng.permutation(len(frame))
    return frame.assign(**{name: frame[name].array[order] for name in _present(frame, feature)})


def _replace(
    frame: pd.DataFrame, _: np.random.Generator, feature: Names, values: Mapping[Any, Any]
) -> pd.DataFrame:
    swapped = {}
    for name in _present(frame, feature):
        column = frame[name]
        swapped[name] = column.map(values).where(column.isin(list(values)), column)
    return frame.assign(**swapped)


def _upper(frame: pd.DataFrame, _: np.random.Generator, feature: Names) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].str.upper() for name in _present(frame, feature)})


def _lower(frame: pd.DataFrame, _: np.random.Generator, feature: Names) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].str.lower() for name in _present(frame, feature)})


def _round(
    frame: pd.DataFrame, _: np.random.Generator, feature: Names, digits: int
) -> pd.DataFrame:
    return frame.assign(**{name: frame[name].round(digits) for name in _present(frame, feature)})


def _noise(
    frame: pd.DataFrame, rng: np.random.Generator, feature: Names, size: float
) -> pd.DataFrame:
    return noisy(frame, rng, feature, size)


NAMED: dict[str, Callable[..., pd.DataFrame]] = {
    "identity": _identity,
    "set": _set,
    "add": _add,
    "scale": _scale,
    "swap": _swap,
    "permute": _permute,
    "replace": _replace,
    "upper": _upper,
    "lower": _lower,
    "round": _round,
    "noise": _noise,
}
"""Name to what takes frame, random generator and the declared arguments."""


def _named(name: Any, arguments: Any) -> Transformation:
    function = NAMED.get(name) if isinstance(name, str) else None
    if function is None:
        raise _refused({name: arguments})
    try:
        inspect.signature(function).bind(None, None, **(arguments or {}))
    except TypeError as error:
        expected = list(inspect.signature(function).parameters)[2:]
        raise ParameterError(
            f"The transformation {name!r} takes the arguments {expected}, got "
            f"{arguments!r:.200}: {error}. Correct them."
        ) from error
    return lambda frame, rng: function(frame, rng, **(arguments or {}))


def _in_order(steps: Sequence[Transformation]) -> Transformation:
    def transform(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
        for step in steps:
            frame = step(frame, rng)
        return frame

    return transform


def _of_function(function: Callable[..., Any]) -> Transformation:
    def transform(frame: pd.DataFrame, _: np.random.Generator) -> pd.DataFrame:
        found = function(frame.copy())
        if not isinstance(found, pd.DataFrame) or len(found) != len(frame):
            got = f"{len(found)} rows" if isinstance(found, pd.DataFrame) else type(found).__name__
            raise DataError(
                f"Expected a frame of {len(frame)} rows from the transformation, got {got}. "
                "Return each row once, in its place."
            )
        _present(found, list(frame.columns))
        return found[list(frame.columns)].reset_index(drop=True)

    return transform


def _present(frame: pd.DataFrame, names: Names) -> list[str]:
    wanted = [names] if isinstance(names, str) else list(names)
    missing = [name for name in wanted if name not in frame.columns]
    if missing:
        raise DataError(
            f"Expected columns {missing} to be features of the model, got "
            f"{sorted(map(str, frame.columns))}. Correct the test."
        )
    return wanted


def _imported(path: str) -> Callable[..., Any]:
    if "." not in path:
        raise _refused(path)
    return import_object(path, "transform", "a behavioural test")


def _refused(declared: Any) -> ParameterError:
    return ParameterError.of(
        "transform",
        "a behavioural test",
        f"{{name: arguments}} with a name of {sorted(NAMED)}, a list of these, a function from "
        "frame to frame, or its import path",
        declared,
    )
