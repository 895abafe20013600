from __future__ import annotations

from unittest.mock import patch

import pytest

from airflow_mlops_provider.operators.export import ExportModelOperator
from airflow_mlops_provider.records import ModelBundleRef, ModelVersionRef

BUNDLE = ModelBundleRef(
    uri="/w/b.zip",
    file_hash="f",
    n_bytes=10,
    model_uri="models:/delay/2",
    format="onnx",
    reason="its answers agree",
    max_difference=0.0,
    n_compared=5,
)


@pytest.mark.parametrize("with_dataset", [True, False])
def test_a_version_is_packed_and_recorded(context, run, dataset, version, with_dataset):
    operator = ExportModelOperator(
        task_id="t",
        model_version=version(),
        dataset=dataset.to_xcom() if with_dataset else None,
        tolerance="1e-4",
        workspace="/w",
    )
    with patch(
        "airflow_mlops_provider.steps.export.export_model", return_value=BUNDLE
    ) as export_model:
        assert operator.execute(context) == BUNDLE.to_xcom()
    export_model.assert_called_once_with(
        ModelVersionRef.from_xcom(version()),
        workspace="/w",
        format="auto",
        dataset=dataset if with_dataset else None,
        sample_rows=1000,
        tolerance=1e-4,
    )
    run.log_record.assert_called_once_with(BUNDLE)
