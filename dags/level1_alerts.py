"""Level 1: a person judges what an alert calls for.

Drift and a degraded champion ask for a training by themselves, for the gate decides whether its
model is any better. Every other alert of monitoring (data quality, attribution, fairness, service,
business figures) may have causes that no training mends, so it asks a person: retrain, ignore, or
roll back. The answer stays in the ledger of retraining.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG

from airflow_mlops_provider.assets import alert_asset
from airflow_mlops_provider.operators import (
    DeployModelOperator,
    FinishPipelineRunOperator,
    JudgeAlertOperator,
    RollbackModelOperator,
    StartPipelineRunOperator,
)
from flights.settings import ENDPOINT, MODEL

with DAG(
    "level1_alerts",
    description="Ask a person what an alert of monitoring calls for",
    schedule=[alert_asset(ENDPOINT)],
    doc_md=__doc__,
    tags=["mlops", "level-1", "flights"],
):
    start_run = StartPipelineRunOperator(task_id="start_run")
    finish_run = FinishPipelineRunOperator(task_id="finish_run")

    with finish_run.as_teardown(setups=start_run):
        judge = JudgeAlertOperator(
            task_id="judge",
            name=MODEL,
            inlets=[alert_asset(ENDPOINT)],
            response_timeout=timedelta(days=2),
            defaults=["Ignore"],
        )
        retrain = TriggerDagRunOperator(
            task_id="retrain",
            trigger_dag_id="level1_continuous_training",
            conf={"retraining_event": judge.output["event"]},
        )
        ignore = EmptyOperator(task_id="ignore")
        roll_back = RollbackModelOperator(
            task_id="roll_back", name=MODEL, reason="A person decided so on an alert."
        )
        switch = DeployModelOperator(
            task_id="switch_traffic",
            model_version=roll_back.output,
            endpoint=ENDPOINT,
            traffic=100,
        )

        judge >> [retrain, ignore, roll_back]
