"""Level 1: a degraded champion gives way to its predecessor, if that is proven better.

Opt-in: the DAG is paused until somebody unpauses it. Each performance signal wakes it, beside the
training that the same signal starts. The predecessor is asked what it says of the champion's own
labelled live rows, and takes over, alias and traffic, only if the confidence interval of the
difference says that it is better.
"""

from __future__ import annotations

from airflow.sdk import DAG, AssetAlias

from airflow_mlops_provider.assets import performance_asset
from airflow_mlops_provider.operators import (
    CompactPredictionLogOperator,
    FinishPipelineRunOperator,
    GetModelVersionOperator,
    JoinLabelsOperator,
    RollbackDegradedModelOperator,
    SnapshotDatasetOperator,
    StartPipelineRunOperator,
)
from flights.columns import ENTITY, TARGET
from flights.settings import CHAMPION, ENDPOINT, LANDED_FLIGHTS, PREVIOUS

with DAG(
    "level1_degraded",
    description="Roll a degraded champion back to its predecessor",
    schedule=[performance_asset(ENDPOINT)],
    max_active_runs=1,
    is_paused_upon_creation=True,
    doc_md=__doc__,
    tags=["mlops", "level-1", "flights"],
):
    start_run = StartPipelineRunOperator(task_id="start_run")
    finish_run = FinishPipelineRunOperator(task_id="finish_run")

    with finish_run.as_teardown(setups=start_run):
        champion = GetModelVersionOperator(task_id="champion", model=CHAMPION)
        previous = GetModelVersionOperator(task_id="previous", model=PREVIOUS)
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
        RollbackDegradedModelOperator(
            task_id="roll_back",
            champion=champion.output,
            previous=previous.output,
            labelled=labelled.output,
            endpoint=ENDPOINT,
            outlets=[AssetAlias(f"{ENDPOINT}-rollbacks")],
        )
