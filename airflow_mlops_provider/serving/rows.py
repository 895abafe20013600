"""What goes into a model and comes out of it, as one JSON value per row."""

from __future__ import annotations

import json
from datetime import date
from typing import Any

import numpy as np
import pandas as pd


def to_rows(data: Any) -> list[dict[str, Any]]:
    """Return a model's input as one dict of JSON values per row; unnamed columns by number."""
    if isinstance(data, dict):
        values = [np.asarray(value) for value in data.values()]
        if values and not any(value.ndim for value in values):  # a single row, unwrapped
            return [{str(name): to_json(value) for name, value in zip(data, values, strict=True)}]
        data = pd.DataFrame({name: list(each) for name, each in zip(data, values, strict=True)})
    if not isinstance(data, pd.DataFrame):
        data = pd.DataFrame(list(np.asarray(data)))
    names = [str(name) for name in data.columns]
    columns = [data[name].tolist() for name in data.columns]
    return [
        {name: to_json(value) for name, value in zip(names, row, strict=True)}
        for row in zip(*columns, strict=True)
    ]


def output_rows(raw: Any) -> list[Any]:
    """Return an output as a JSON value per row.

    Raises:
        TypeError: it has no rows, or values that JSON cannot hold.
        ValueError: a number is not finite.
    """
    if isinstance(raw, pd.DataFrame):
        raw = raw.to_dict("records")
    elif isinstance(raw, np.ndarray) and raw.dtype.kind in "fiub" and raw.ndim:
        if raw.dtype.kind == "f" and not np.isfinite(raw).all():
            raise ValueError("Expected finite numbers, got NaN or infinity.")
        return list(raw.tolist())
    elif isinstance(raw, (np.ndarray, pd.Series)):
        raw = raw.tolist()
    return list(json.loads(json.dumps(raw, default=to_json, allow_nan=False)))


def to_json(value: Any) -> Any:
    """Return ``value`` as JSON can hold it; whatever is missing or not finite is null."""
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if value is pd.NaT or value is pd.NA:
        return None
    return value.isoformat() if isinstance(value, date) else str(value)
