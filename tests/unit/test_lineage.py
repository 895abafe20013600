from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_mlops_provider.lineage import lineage_of
from airflow_mlops_provider.records import DatasetRef, PredictionBatchRef, PredictionPartsRef

DATASET = DatasetRef(
    name="flights",
    uri="/w/datasets/flights/a.parquet",
    file_hash="d",
    logical_hash="l",
    schema_hash="s",
    n_rows=3,
    columns={"late": "int64"},
    source="landing",
)
FILE = PredictionBatchRef(
    uri="/w/predictions/flights/b.parquet", n_rows=3, file_hash="f", model_versions=[]
)
PARTS = PredictionPartsRef(
    uri="s3://b/w/predictions/flights/key",
    manifest_uri="s3://b/w/m.json",
    n_rows=3,
    n_parts=2,
    n_reused=0,
    file_hash="f",
    columns=["score"],
    dataset_hash="d",
    model_versions=[],
)


@pytest.mark.parametrize(
    ("record", "namespace", "name"),
    [
        (FILE, "file:///w", "predictions/flights/b.parquet"),
        (PARTS, "s3://b/w", "predictions/flights/key"),
    ],
)
def test_predictions_come_from_their_dataset(record, namespace, name):
    run = SimpleNamespace(
        records=[record],
        datasets=[(DATASET, "prediction")],
        client=SimpleNamespace(tracking_uri="http://mlflow"),
    )
    found = lineage_of(SimpleNamespace(mlflow_run=run, template_fields=()))
    (read,), (written,) = found.inputs, found.outputs
    assert (read.namespace, read.name) == ("file:///w", "flights")
    assert (written.namespace, written.name) == (namespace, name)
    assert written.facets["version"].datasetVersion == "f"
    assert written.outputFacets["outputStatistics"].rowCount == 3
