"""The Open Inference Protocol v2 (REST): named tensors in, named tensors out.

A request becomes one of MLflow's protocol, so that the same signature is enforced and the same
log written: several tensors of one column each are a table (what clients call content type
``pd``) if the model's signature has columns, and arrays if it has tensors.

Source: https://github.com/kserve/open-inference-protocol (``specification/protocol``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from mlflow.types import DataType

from airflow_mlops_provider.serving.scoring import Scored, decoded, invalid

PLATFORM = "mlflow"
OUTPUT = "predictions"
"""Name of a model's output, unless it has names of its own."""
_KINDS: dict[str, np.dtype] = {
    "BOOL": np.dtype(bool),
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"FP{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    "BYTES": np.dtype(object),
}
_COLUMN_KINDS: dict[DataType, str] = {
    DataType.boolean: "BOOL",
    DataType.integer: "INT32",
    DataType.long: "INT64",
    DataType.float: "FP32",
    DataType.double: "FP64",
}
"""Of a signature's columns; any other is BYTES."""
_TAKEN: dict[str, frozenset[type]] = {
    "b": frozenset({bool}),
    "i": frozenset({int}),
    "u": frozenset({int}),
    "f": frozenset({int, float, type(None)}),
    "O": frozenset({str, type(None)}),
}
"""JSON types of the values by numpy's kind; a null is a missing value."""


class Inference:
    """One request of the protocol.

    Args:
        body: The request's body.
        inputs: The inputs of the model's signature, or None.

    Raises:
        ScoringError: it is no request of the protocol.
    """

    def __init__(self, body: bytes, inputs: Any) -> None:
        request = decoded(body)
        tensors = request.get("inputs") if isinstance(request, dict) else None
        if not isinstance(tensors, list) or not tensors:
            raise invalid("Expected a JSON object with a list of tensors as `inputs`.")
        self.id = request.get("id")
        self.wanted = _wanted(request.get("outputs"))
        arrays = dict(map(_tensor, tensors))
        if len(arrays) < len(tensors):
            raise invalid("Expected every input under a name of its own.")
        content_type = _object(request, "parameters").get("content_type")
        self.payload = _payload(arrays, inputs, content_type)

    def checked(self, scored: Scored) -> Scored:
        """Return what came of the payload, or the refusal of outputs that the model lacks."""
        unknown = set(self.wanted) - set(_named_outputs(scored.outputs or []))
        if scored.error or not unknown:
            return scored
        error = invalid(f"Expected outputs that the model has, got {sorted(unknown)}.")
        return Scored(scored.rows, None, error)

    def answer(self, model: str, version: str, outputs: list[Any], schema: Any) -> dict[str, Any]:
        """Return the answer's JSON object.

        Args:
            model: Name of the model.
            version: Its version.
            outputs: What the model gave, by row.
            schema: The outputs of the model's signature, or None.
        """
        kinds = {each["name"]: each["datatype"] for each in _described(schema, OUTPUT)}
        tensors = [
            _encoded(name, values, kinds.get(name))
            for name, values in _named_outputs(outputs).items()
            if not self.wanted or name in self.wanted
        ]
        given = {"id": self.id} if self.id is not None else {}
        return {"model_name": model, "model_version": version, **given, "outputs": tensors}


def metadata(model: str, version: str, signature: Any) -> dict[str, Any]:
    """Return what the protocol tells of a model: its tensors, their types and shapes."""
    sides = {
        side: _described(getattr(signature, side, None), name)
        for side, name in (("inputs", "input"), ("outputs", OUTPUT))
    }
    return {"name": model, "versions": [version], "platform": PLATFORM, **sides}


def _wanted(outputs: Any) -> list[str]:
    if outputs is None:
        return []
    if not isinstance(outputs, list) or not all(isinstance(each, dict) for each in outputs):
        raise invalid("Expected `outputs` to be a list of objects with a name each.")
    return [str(each.get("name")) for each in outputs]


def _tensor(given: Any) -> tuple[str, np.ndarray]:
    """Return the name and the values of a tensor."""
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise invalid("Expected every input to be an object with name, datatype, shape and data.")
    name, kind, shape = given["name"], given.get("datatype"), given.get("shape")
    if kind not in _KINDS:
        raise invalid(f"Expected the datatype of {name!r} among {[*_KINDS]}, got {kind!r}.")
    if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
        raise invalid(f"Expected the shape of {name!r} to be a list of numbers, got {shape!r}.")
    values = list(_flat(given.get("data")))
    if len(values) != prod(shape):
        raise invalid(f"Expected {prod(shape)} values in {name!r} of {shape}, got {len(values)}.")
    if not set(map(type, values)) <= _TAKEN[_KINDS[kind].kind]:
        raise invalid(f"Expected values of {kind} in {name!r}, got {values[:3]!r:.100}.")
    try:
        return name, np.array(values, _KINDS[kind]).reshape(shape)
    except (OverflowError, ValueError) as error:
        raise invalid(f"Expected values of {kind} in {name!r}: {error}.") from error


def _flat(data: Any) -> Iterable[Any]:
    """Give the values of a tensor, nested or row by row; what is no list is not a tensor."""
    if not isinstance(data, list):
        raise invalid(f"Expected the data of a tensor to be a list, got {data!r:.80}.")
    pending = [iter(data)]
    while pending:
        for value in pending[-1]:
            if isinstance(value, list):
                pending.append(iter(value))
                break
            yield value
        else:
            pending.pop()


def _payload(arrays: Mapping[str, np.ndarray], inputs: Any, content_type: Any) -> dict[str, Any]:
    """Return the request of MLflow's protocol that has the same values."""
    if inputs is None:
        as_table = content_type == "pd" or len(arrays) > 1
    else:
        as_table = not inputs.is_tensor_spec()
    if as_table:
        return _table(arrays)
    if inputs is not None and inputs.has_input_names():
        return {"inputs": {name: array.tolist() for name, array in arrays.items()}}
    if len(arrays) != 1:
        raise invalid(f"Expected the one tensor of the model's signature, got {[*arrays]}.")
    return {"inputs": next(iter(arrays.values())).tolist()}


def _table(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    for name, array in arrays.items():
        if array.ndim not in (1, 2) or array.size != array.shape[0]:
            raise invalid(
                f"Expected {name!r} to be a column, of shape [n] or [n, 1], got "
                f"{list(array.shape)}: send each column of the model as a tensor of its name."
            )
    if len({len(array) for array in arrays.values()}) != 1:
        raise invalid("Expected columns of one length.")
    columns = [array.ravel().tolist() for array in arrays.values()]
    rows = [list(row) for row in zip(*columns, strict=True)]
    return {"dataframe_split": {"columns": [*arrays], "data": rows}}


def _object(request: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = request.get(name)
    return found if isinstance(found, dict) else {}


def _named_outputs(outputs: Sequence[Any]) -> dict[str, list[Any]]:
    """Return outputs by row as outputs by name."""
    if outputs and all(isinstance(each, dict) for each in outputs):
        return {name: [row[name] for row in outputs] for name in outputs[0]}
    return {OUTPUT: list(outputs)}


def _encoded(name: str, values: list[Any], kind: str | None) -> dict[str, Any]:
    array = np.array(values)
    if array.dtype.kind not in "biuf":
        array = np.array(values, dtype=object)
    kind = kind or _kind_of(array.dtype)
    flat = array.ravel().tolist()
    data = [value if isinstance(value, str) else str(value) for value in flat]
    return {
        "name": name,
        "datatype": kind,
        "shape": list(array.shape),
        "data": data if kind == "BYTES" else flat,
    }


def _kind_of(kind: np.dtype) -> str:
    return next((name for name, each in _KINDS.items() if each == kind), "BYTES")


def _described(schema: Any, default: str) -> list[dict[str, Any]]:
    """Return the tensors of one side of a signature; a column is a tensor of one dimension."""
    if schema is None:
        return []
    if schema.is_tensor_spec():
        return [
            _spec(each.name or default, _kind_of(each.type), list(each.shape))
            for each in schema.inputs
        ]
    many = len(schema.inputs) > 1
    return [
        _spec(
            each.name or (f"{default}-{i}" if many else default),
            _COLUMN_KINDS.get(each.type, "BYTES"),
            [-1],
        )
        for i, each in enumerate(schema.inputs)
    ]


def _spec(name: str, kind: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "datatype": kind, "shape": shape}
