from __future__ import annotations

from unittest.mock import patch

import pandas as pd
from airflow.sdk import Asset, AssetAlias

from airflow_mlops_provider.operators.snapshot import SnapshotDatasetOperator

STEPS = "airflow_mlops_provider.steps.snapshot"


def numbers(n):
    return pd.DataFrame({"n": range(n), "m": 0})


def test_files_are_handed_to_the_step_and_the_asset_is_emitted(context, run, dataset):
    alias = AssetAlias("datasets")
    operator = SnapshotDatasetOperator(
        task_id="t",
        name="flights",
        source="/landing/*.parquet",
        time_column="at",
        window_start="2013-01-01",
        window_end="2013-02-01",
        columns=["at"],
        workspace="/w",
        outlets=[alias],
    )
    with patch(f"{STEPS}.snapshot_dataset", return_value=dataset) as step:
        assert operator.execute(context) == dataset.to_xcom()
    step.assert_called_once_with(
        "/landing/*.parquet",
        name="flights",
        workspace="/w",
        time_column="at",
        window_start="2013-01-01",
        window_end="2013-02-01",
        columns=["at"],
    )
    run.log_record.assert_called_once_with(dataset)
    context["outlet_events"].__getitem__.assert_called_once_with(alias)
    context["outlet_events"][alias].add.assert_called_once_with(
        Asset("mlops-dataset://flights"), extra=dataset.to_xcom()
    )


def test_a_function_gives_the_frame(context, run, tmp_path):
    operator = SnapshotDatasetOperator(
        task_id="t",
        name="numbers",
        source=numbers,
        op_kwargs={"n": 3},
        columns=["n"],
        workspace=str(tmp_path),
    )
    record = operator.execute(context)
    assert record["n_rows"] == 3
    assert record["columns"] == {"n": "int64"}
    assert record["source"].endswith(".numbers")
    context["outlet_events"].__getitem__.assert_not_called()
