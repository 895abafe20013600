"""Level 1: nothing uses a new month before the gate has looked at it.

Broken (schema skew) stops the pipeline for a person. Moved (value skew by the suite, or drift
from what the champion learned from) wakes ``level1_continuous_training``. Else nothing happens.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, AssetAlias, Param

from airflow_mlops_provider.operators import (
    DetectDriftOperator,
    FinishPipelineRunOperator,
    GetModelVersionOperator,
    SnapshotDatasetOperator,
    StartPipelineRunOperator,
    ValidateDataBranchOperator,
)
from flights.columns import BASIC, TIME
from flights.settings import (
    CHAMPION,
    ENDPOINT,
    LANDED_FLIGHTS,
    SOURCE_LICENSE,
    SOURCE_OWNER,
    SUITE,
)
from flights.tasks import MONTH, MONTHLY, choose_window, retrain, stop

with DAG(
    "level1_data_gate",
    description="Stop for broken flights, retrain for flights that moved",
    schedule=MONTHLY,
    start_date=datetime(2013, 2, 1),
    catchup=False,
    max_active_runs=1,
    params={
        "month": MONTH,
        "source": Param(LANDED_FLIGHTS, type="string", description="Files to look at"),
    },
    doc_md=__doc__,
    tags=["mlops", "level-1", "flights"],
):
    start_run = StartPipelineRunOperator(task_id="start_run")
    finish_run = FinishPipelineRunOperator(task_id="finish_run")

    with finish_run.as_teardown(setups=start_run):
        window = choose_window()
        snapshot = SnapshotDatasetOperator(
            task_id="snapshot",
            name="new_flights",
            source="{{ params.source }}",
            time_column=TIME,
            window_start=window["month"],
            window_end=window["end"],
            owner=SOURCE_OWNER,
            license=SOURCE_LICENSE,
            outlets=[AssetAlias("new-flights")],
        )
        validate = ValidateDataBranchOperator(
            task_id="validate",
            dataset=snapshot.output,
            suite=SUITE,
            follow={"stop": "stop", "retrain": "retrain", "warn": "drift", "passed": "drift"},
        )
        champion = GetModelVersionOperator(task_id="champion", model=CHAMPION)
        drift = DetectDriftOperator(
            task_id="drift",
            dataset=snapshot.output,
            model_version=champion.output,
            columns=BASIC,
            name=ENDPOINT,
            consecutive=1,
            outlets=[AssetAlias(f"{ENDPOINT}-drift")],
        )

        validate >> [stop(validate.output), retrain(validate.output), drift]
