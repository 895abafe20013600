"""Infer a suite from reference data, for a person to review.

What a later sample of the same data may do by chance must not ask for anything, so every bound
has slack: by the spread of the values, by the standard error of a rate, and by the rule of three
for what the reference happened not to hold.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.batches import rows_of
from airflow_mlops_provider.steps.sources import require_columns
from airflow_mlops_provider.steps.suite_columns import COLUMN_SET
from airflow_mlops_provider.steps.suites import Entry, Suite, load_suite

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef

_KEY = re.compile(r"(^|_)(id|key|guid|uuid)$", re.IGNORECASE)
_KEY_ROWS = 100
"""Fewer rows are too few to tell a key from values that differ by chance."""
_MAX_LEVELS = 50
_MAX_NUMBERS = 10
_NULL_SLACK = 0.01
_RANGE_SLACK = 0.1
_BY_CHANCE = 10
"""Rows of a sample that may fall outside what was seen: three times the rule of three."""
_KNOWN_TYPES = {"str", "bool", "int", "float", "date", "bytes", "Decimal"}
_HEADER = """\
# Inferred from reference data; review it before it guards anything.
# critical: the pipeline stops. warning: it asks for retraining. info: it is only told.
# `mostly` is the share of rows that has to comply.
"""


def infer_suite(
    dataset: DatasetRef | pd.DataFrame, *, name: str, columns: Sequence[str] | None = None
) -> Suite:
    """Return a suite that ``dataset`` passes, and later samples like it.

    - critical: the columns are there, their types (those that Great Expectations can tell: not
      times with a zone; an integer column may become floats, as a null makes it), and no value
      comes twice in a column named as a key (``id``, ``..._id``, ``..._key``, ``..._uuid``) in
      which none did among at least 100 rows.
    - warning: null rates, ranges of numbers, and value sets of columns of few levels.
    - info: the number of rows, within a factor of 2.

    Args:
        dataset: The reference.
        name: How reports call the suite.
        columns: Columns to speak of; None is all.

    Raises:
        DataError: there are no rows, a column is unknown, comes twice, or its name is no text.
    """
    rows = rows_of(dataset)
    names = rows.columns if columns is None else list(columns)
    require_columns(rows.columns, names, rows.uri)
    wrong = [column for column in names if not isinstance(column, str)]
    if wrong:
        raise DataError(f"The columns {wrong} of {rows.uri} have no text as name. Rename them.")
    frame = rows.read(names)
    if not len(frame):
        raise DataError(f"{rows.uri} has no rows to infer a suite from. Name another reference.")
    entries = [_expected(COLUMN_SET, "critical", column_set=names, exact_match=False)]
    for column in names:
        entries += _of_column(column, frame[column])
    size = {"min_value": len(frame) // 2, "max_value": 2 * len(frame)}
    entries.append(_expected("expect_table_row_count_to_be_between", "info", **size))
    return load_suite({"name": name, "expectations": entries})


def suite_yaml(suite: Suite) -> str:
    """Return a suite as YAML for review; ``load_suite`` reads the same suite from it."""
    return _HEADER + yaml.safe_dump(suite, sort_keys=False, allow_unicode=True)


def _expected(kind: str, severity: str, **kwargs: Any) -> Entry:
    return {"type": kind, "kwargs": kwargs, "severity": severity}


def _of_column(column: str, values: pd.Series[Any]) -> Iterator[Entry]:
    present = values.dropna()
    if types := _types(present):
        kind = "expect_column_values_to_be_in_type_list"
        yield _expected(kind, "critical", column=column, type_list=types)
    if (mostly := _not_null(values)) > 0:
        kind = "expect_column_values_to_not_be_null"
        yield _expected(kind, "warning", column=column, mostly=mostly)
    if _is_key(column, values):
        yield _expected("expect_column_values_to_be_unique", "critical", column=column)
    elif levels := _levels(present):
        mostly = _mostly(len(present), singles=int((present.value_counts() == 1).sum()))
        kind = "expect_column_values_to_be_in_set"
        yield _expected(kind, "warning", column=column, value_set=levels, mostly=mostly)
    elif bounds := _bounds(present):
        mostly = _mostly(len(present))
        kind = "expect_column_values_to_be_between"
        yield _expected(kind, "warning", column=column, **bounds, mostly=mostly)


def _types(present: pd.Series[Any]) -> list[str]:
    """Return the names that Great Expectations has for the type, if it can tell it."""
    if present.empty or not isinstance(present.dtype, np.dtype):
        return []
    if present.dtype.kind in "iu":
        return [str(present.dtype), "float64"]
    if present.dtype.kind == "f":
        whole = bool((np.isfinite(present) & (present % 1 == 0)).all())
        return [str(present.dtype), "int64"] if whole else [str(present.dtype)]
    if present.dtype.kind == "b":
        return ["bool"]
    found = {type(value).__name__ for value in present} if present.dtype == object else set()
    return sorted(found) if found <= _KNOWN_TYPES else []


def _not_null(values: pd.Series[Any]) -> float:
    """Return the share of values that has to be there, 0 if none has to."""
    n, rate = len(values), float(values.isna().mean())
    error = math.sqrt((rate + 1 / n) * (1 - rate) / n)
    return max(0.0, math.floor((1 - rate - _NULL_SLACK - 5 * error) * 1e4) / 1e4)


def _is_key(column: str, values: pd.Series[Any]) -> bool:
    exact = values.dtype.kind in "iu" or pd.api.types.is_string_dtype(values.dtype)
    named = exact or values.dtype == object
    return bool(named and _KEY.search(column) and len(values) >= _KEY_ROWS and values.is_unique)


def _levels(present: pd.Series[Any]) -> list[Any]:
    """Return the levels of texts or whole numbers, if they are few and most come again."""
    kind = present.dtype.kind
    texts = kind == "O" and all(isinstance(value, str) for value in present)
    if present.empty or not (texts or kind in "iu" or _is_constant(present)):
        return []
    counts = present.value_counts()
    few = len(counts) <= (_MAX_LEVELS if texts else _MAX_NUMBERS)
    again = (counts == 1).sum() * 10 <= len(present)
    return sorted(value for value in counts.index.tolist()) if few and again else []


def _is_constant(present: pd.Series[Any]) -> bool:
    return present.dtype.kind == "f" and present.nunique() == 1 and bool(np.isfinite(present).all())


def _bounds(present: pd.Series[Any]) -> dict[str, float]:
    """Return the range of numbers with slack; an end that is infinite is left open."""
    if present.dtype.kind not in "iuf" or present.empty:
        return {}
    low, high = present.min().item(), present.max().item()
    slack = _RANGE_SLACK * (float(high) - float(low)) or _RANGE_SLACK * abs(float(low)) or 1.0
    ends: dict[str, float] = {"min_value": low - slack, "max_value": high + slack}
    finite = {name: end for name, end in ends.items() if math.isfinite(end)}
    if present.dtype.kind == "f":
        return finite
    rounded = {"min_value": math.floor, "max_value": math.ceil}
    return {name: rounded[name](end) for name, end in finite.items()}


def _mostly(n: int, singles: int = 0) -> float:
    """Return the share of rows that has to comply, given what ``n`` rows can have shown.

    The share of rows in levels that were not seen is estimated by that of the levels seen once
    (Good, The population frequencies of species, Biometrika 40, 1953).
    """
    unseen = _NULL_SLACK + (_BY_CHANCE + 3 * singles) / n
    return max(0.5, math.floor((1 - unseen) * 1e4) / 1e4)
