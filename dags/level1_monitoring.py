"""Level 1: what live traffic says of the champion, and whether it should be trained again.

Compacts the prediction log, checks the inputs by the suite of the champion's training data, joins
the labels that have come, and compares inputs, scores and quality with what the champion learned
from and promised, overall and by airport. While labels are missing the quality is estimated. A
signal wakes ``level1_continuous_training``.
"""

from __future__ import annotations

from airflow.sdk import DAG, AssetAlias

from airflow_mlops_provider.operators import (
    CompactPredictionLogOperator,
    FinishPipelineRunOperator,
    GetModelVersionOperator,
    JoinLabelsOperator,
    MonitorModelOperator,
    SnapshotDatasetOperator,
    StartPipelineRunOperator,
    ValidateDataOperator,
)
from flights.columns import ENTITY, TARGET
from flights.settings import CHAMPION, ENDPOINT, LANDED_FLIGHTS

with DAG(
    "level1_monitoring",
    description="Drift and live quality of the flight-delay model",
    schedule="@hourly",
    catchup=False,
    max_active_runs=1,
    doc_md=__doc__,
    tags=["mlops", "level-1", "flights"],
):
    start_run = StartPipelineRunOperator(task_id="start_run")
    finish_run = FinishPipelineRunOperator(task_id="finish_run")

    with finish_run.as_teardown(setups=start_run):
        champion = GetModelVersionOperator(task_id="champion", model=CHAMPION)
        predictions = CompactPredictionLogOperator(task_id="compact_log", endpoint=ENDPOINT)
        labels = SnapshotDatasetOperator(
            task_id="labels",
            name="flight_labels",
            source=LANDED_FLIGHTS,
            columns=[ENTITY, TARGET],
        )
        labelled = JoinLabelsOperator(
            task_id="join_labels",
            predictions=predictions.output,
            labels=labels.output,
            label_key=ENTITY,
            label_column=TARGET,
        )
        ValidateDataOperator(
            task_id="validate_inputs",
            predictions=predictions.output,
            model_version=champion.output,
        )
        MonitorModelOperator(
            task_id="monitor",
            endpoint=ENDPOINT,
            model_version=champion.output,
            predictions=predictions.output,
            labelled=labelled.output,
            segments=["origin"],
            outlets=[AssetAlias(f"{ENDPOINT}-signals")],
        )
