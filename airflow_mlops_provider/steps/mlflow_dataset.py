"""How MLflow is told of a dataset of ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef

_DIGEST_LENGTH, _TAG_LENGTH = 36, 500  # what MLflow accepts
_TYPES = {
    "bool": "boolean",
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "integer"),
    **dict.fromkeys(("int64", "uint32", "uint64"), "long"),
    **dict.fromkeys(("halffloat", "float"), "float"),
    "double": "double",
    "binary": "binary",
    "timestamp[us, tz=UTC]": "datetime",
    "date32[day]": "datetime",
}
"""MLflow's names for Arrow's types; it shows all others as text."""


def dataset_input(dataset: DatasetRef, context: str) -> DatasetInput:
    """Return a dataset as an input of a run; ``context`` says what for.

    Runs that touch the same rows share the digest, which is our logical hash cut to the
    length MLflow accepts; MLflow's own reads only the first rows.
    """
    described = {
        "sha256": dataset.file_hash,
        "n_rows": str(dataset.n_rows),
        "schema_hash": dataset.schema_hash,
        "source": dataset.source[:_TAG_LENGTH],
        MLFLOW_DATASET_CONTEXT: context,
    }
    entity = Dataset(
        name=dataset.name,
        digest=dataset.logical_hash[:_DIGEST_LENGTH],
        source_type=_source_type(dataset.uri),
        source=json.dumps({"uri": dataset.uri}),
        schema=_mlflow_schema(dataset.columns),
        profile=json.dumps({"num_rows": dataset.n_rows}),
    )
    return DatasetInput(entity, [InputTag(key, value) for key, value in described.items()])


def _source_type(uri: str) -> str:
    """Return MLflow's name for where a file lies."""
    protocol, separator, _ = uri.partition("://")
    return protocol if separator and protocol != "file" else "local"


def _mlflow_schema(columns: Mapping[str, str]) -> str:
    specs = [
        {"name": name, "type": _TYPES.get(kind, "string"), "required": False}
        for name, kind in columns.items()
    ]
    return json.dumps({"mlflow_colspec": specs})
