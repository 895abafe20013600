"""Rows straight from JSON to a scikit-learn estimator, where pyfunc proved to answer the same.

pyfunc makes a frame of a request and casts and checks every column, twice. Here the columns
become the arrays that it would end up with, in the same memory layout, because sums of floats
depend on it. A request in which not every value plainly is what the signature says is left to
pyfunc, so refusals and conversions are pyfunc's own.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from mlflow.types import DataType

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel

_NONE = type(None)
_TAKEN: dict[DataType, frozenset[type]] = {
    DataType.double: frozenset({float, int, _NONE}),
    DataType.float: frozenset({float, _NONE}),
    DataType.long: frozenset({int}),
    DataType.integer: frozenset({int}),
    DataType.boolean: frozenset({bool}),
    DataType.string: frozenset({str, _NONE}),
}
"""JSON types that become a column without a conversion that pyfunc would have to judge."""
_EXTREMES: dict[DataType, tuple[Any, ...]] = {
    DataType.double: (None, 0, 1, -1.5, 2**53 + 1, 1e308, -1e308, 5e-324, -0.0),
    DataType.float: (None, 0.0, 1.0, -1.5, 3e38, -3e38, 1e300, 1e-45, -0.0),
    DataType.long: (0, 1, -1, 2**63 - 1, -(2**63)),
    DataType.integer: (0, 1, -1, 2**31 - 1, -(2**31)),
    DataType.boolean: (True, False),
    DataType.string: (None, "", "a category that no training set has", "\u00e9\u2603", "0", "nan"),
}
_MAX_PROBES = 64
_TILED_ROWS = 100


@dataclass(frozen=True)
class Plain:
    """A request's rows, as the log keeps them and as the estimator takes them."""

    rows: list[dict[str, Any]]
    data: Any


@dataclass(frozen=True)
class Native:
    """How to ask the estimator of a model without pyfunc.

    Args:
        predict: The estimator's function that pyfunc calls.
        types: The signature's columns in their order.
        as_array: Give it an array and not a frame; all columns are doubles.
    """

    predict: Callable[[Any], Any]
    types: Mapping[str, DataType]
    as_array: bool

    def read(self, payload: Any) -> Plain | None:
        """Return the rows of a decoded request, or None if pyfunc has to look at them."""
        columns = _columns(payload, [*self.types])
        try:
            return None if columns is None else self._plain(columns)
        except OverflowError:
            return None

    def _plain(self, columns: list[Sequence[Any]]) -> Plain | None:
        names, kinds = [*self.types], set(self.types.values())
        if kinds == {DataType.double}:
            if not set(map(type, chain.from_iterable(columns))) <= _TAKEN[DataType.double]:
                return None
            block = np.array(columns, np.float64)
            rows = [dict(zip(names, row, strict=True)) for row in _listed(block.T)]
            return Plain(rows, block.T if self.as_array else _frame(block, names))
        arrays = {
            name: np.array(values, kind.to_pandas())
            for (name, kind), values in zip(self.types.items(), columns, strict=True)
            if set(map(type, values)) <= _TAKEN[kind]
        }
        if len(arrays) < len(names):
            return None
        values = zip(*(_listed(array) for array in arrays.values()), strict=True)
        return Plain([dict(zip(names, row, strict=True)) for row in values], pd.DataFrame(arrays))


def native_path(model: PyFuncModel, ask: Callable[[Any], Any]) -> Native | None:
    """Return a way around pyfunc that gives, bit for bit, what pyfunc gives; None if there is none.

    It is tried on the model's input example, on the extremes of each column's type, and on
    missing values and unknown categories, by the row and in batches. Where pyfunc raises, it
    has to raise the same.

    Args:
        model: A loaded model.
        ask: Answers a decoded request by pyfunc, or raises.
    """
    types = _types(model)
    flavor = model.metadata.flavors.get("python_function", {})
    if not types or flavor.get("loader_module") != "mlflow.sklearn":
        return None
    estimator: Any = model.get_raw_model()  # type: ignore[no-untyped-call]
    predict = getattr(estimator, flavor.get("predict_fn", "predict"))
    # an array has no names; that this makes no difference is what is proven
    warnings.filterwarnings("ignore", "X does not have valid feature names")
    rows = _probes(types, model.input_example)
    answers = [(payload, _outcome(ask, payload)) for payload in _payloads(types, rows, ask)]
    for as_array in (True, False):
        native = Native(predict, types, as_array)
        if as_array and set(types.values()) != {DataType.double}:
            continue
        if all(_agrees(native, payload, answer) for payload, answer in answers):
            return native
    return None


def _types(model: PyFuncModel) -> dict[str, DataType] | None:
    """Return the columns of a signature that the native path can read, else None."""
    signature = model.metadata.signature
    schema = getattr(signature, "inputs", None)
    if schema is None or schema.is_tensor_spec() or not schema.has_input_names():
        return None
    types = schema.input_dict()
    known = all(spec.type in _TAKEN for spec in types.values())
    if not known or getattr(signature, "params", None):
        return None
    return {name: spec.type for name, spec in types.items()}


def _columns(payload: Any, names: list[str]) -> list[Sequence[Any]] | None:
    """Return the values by column, in the order of ``names``, of a request that has just these."""
    if type(payload) is not dict or len(payload) != 1:
        return None
    split, records = payload.get("dataframe_split"), payload.get("dataframe_records")
    if type(split) is dict and split.keys() == {"columns", "data"}:
        return _split_columns(split["columns"], split["data"], names)
    if type(records) is list and set(map(type, records)) == {dict}:
        if set(map(len, records)) != {len(names)}:
            return None
        try:
            return [[row[name] for row in records] for name in names]
        except KeyError:
            return None
    return None


def _split_columns(given: Any, data: Any, names: list[str]) -> list[Sequence[Any]] | None:
    if type(given) is not list or type(data) is not list:
        return None
    if set(map(type, data)) != {list} or set(map(len, data)) != {len(names)}:
        return None
    columns: list[Sequence[Any]] = list(zip(*data, strict=True))
    if given == names:
        return columns
    if set(map(type, given)) != {str} or len(given) != len(names) or set(given) != set(names):
        return None
    return [columns[given.index(name)] for name in names]


def _listed(array: np.ndarray) -> list[Any]:
    """Return an array as lists, of which what is not finite is None, as in the log."""
    listed: list[Any] = array.tolist()
    if array.dtype.kind == "f":
        for row, *column in np.argwhere(~np.isfinite(array)).tolist():
            if column:
                listed[row][column[0]] = None
            else:
                listed[row] = None
    return listed


def _frame(block: np.ndarray, names: list[str]) -> pd.DataFrame:
    return pd.DataFrame(block.T, columns=names, copy=False)


def _probes(types: Mapping[str, DataType], example: Any) -> list[list[Any]]:
    """Return rows to compare the two paths on."""
    extremes = [_EXTREMES[kind] for kind in types.values()]
    widest = max(map(len, extremes))
    rows = [[values[i % len(values)] for values in extremes] for i in range(widest)]
    usual = [row for row in _example_rows(types, example) if row]
    base = usual[0] if usual else [values[1] for values in extremes]
    changed = (
        [*base[:i], value, *base[i + 1 :]]
        for value_of in (0, -1)
        for i, values in enumerate(extremes)
        for value in (values[value_of],)
    )
    return [*usual, *rows, *changed][:_MAX_PROBES]


def _example_rows(types: Mapping[str, DataType], example: Any) -> list[list[Any]]:
    if not isinstance(example, pd.DataFrame) or not set(types) <= set(example.columns):
        return []
    text = example[[*types]].to_json(orient="values", double_precision=15)
    return [list(row) for row in json.loads(text)]


def _payloads(
    types: Mapping[str, DataType], rows: list[list[Any]], ask: Callable[[Any], Any]
) -> Iterator[dict[str, Any]]:
    """Give each row by itself, then all that pyfunc answers at once, few and many."""
    answered = []
    for row in rows:
        payload = _split(types, [row])
        yield payload
        if not isinstance(_outcome(ask, payload), type):
            answered.append(row)
    if answered:
        yield _split(types, answered)
        yield _split(types, (answered * _TILED_ROWS)[:_TILED_ROWS])
        yield {"dataframe_records": [dict(zip(types, row, strict=True)) for row in answered]}


def _split(types: Mapping[str, DataType], rows: list[list[Any]]) -> dict[str, Any]:
    return {"dataframe_split": {"columns": [*types], "data": rows}}


def _outcome(ask: Callable[[Any], Any], payload: Any) -> Any:
    """Return an answer, or the type of what was raised instead."""
    try:
        return ask(payload)
    except Exception as error:  # noqa: BLE001 - a model may raise anything, and both ways the same
        return type(error)


def _agrees(native: Native, payload: Any, expected: Any) -> bool:
    plain = native.read(payload)
    return plain is None or same(_outcome(native.predict, plain.data), expected)


def same(one: Any, other: Any) -> bool:
    """Tell whether two outputs of a model are of one type and equal bit for bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, pd.DataFrame):
        same_names = one.columns.equals(other.columns) and one.index.equals(other.index)
        return same_names and all(same(one[name], other[name]) for name in one.columns)
    if isinstance(one, pd.Series):
        return same(one.to_numpy(), other.to_numpy())
    if not isinstance(one, np.ndarray):
        return bool(one == other)
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.hasobject:
        return bool(one.tolist() == other.tolist())
    return bool(one.tobytes() == other.tobytes())
