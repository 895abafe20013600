"""Promotions that people approve, and what waits for the registry."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, AssetWatcher, Param, get_current_context, task

from airflow_mlops_provider.assets import model_asset
from airflow_mlops_provider.operators import ValidateModelOperator
from airflow_mlops_provider.operators.approve import promote_after_approval
from airflow_mlops_provider.sensors.registry import ModelAliasSensor
from airflow_mlops_provider.triggers.registry import ModelRegistryTrigger

SOON = timedelta(seconds=8)
APPROVALS = {
    "approval": {},
    "approval_in_time": {"response_timeout": SOON},
    "approval_or_default": {"response_timeout": SOON, "defaults": "Approve"},
}
RECORDS = ("challenger", "champion", "version", "expected")

for dag_id, arguments in APPROVALS.items():
    with DAG(
        dag_id,
        schedule=None,
        params={name: Param(None) for name in RECORDS},
        default_args={"retries": 1, "retry_delay": timedelta(0)},
        render_template_as_native_obj=True,
    ):
        gate = ValidateModelOperator(
            task_id="gate",
            challenger="{{ params.challenger }}",
            champion="{{ params.champion }}",
            floors={"auc": 0.6},
        )
        promote_after_approval(
            gate,
            "{{ params.version }}",
            expected_champion="{{ params.expected }}",
            **arguments,
        )

WATCHED = model_asset("watched")
WATCHED.watchers = [
    AssetWatcher(name="registry", trigger=ModelRegistryTrigger(name="watched", poke_interval=0.5))
]

with DAG("woken", schedule=[WATCHED]):

    @task
    def told():
        events = get_current_context()["triggering_asset_events"][WATCHED]
        return [change for event in events for change in event.extra["payload"]["changes"]]

    told()

with DAG("waiting", schedule=None):
    ModelAliasSensor(
        task_id="wait", name="awaited", alias="champion", deferrable=True, poke_interval=0.5
    )
