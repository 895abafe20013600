"""Level 2: a published pipeline goes through its environments, one after the other.

Each environment is an Airflow that follows a ref of a git repository. There the ref is moved, the
new DAG version awaited, the pipeline run once and judged; if that fails, the ref is moved back and
nothing goes further. A person is asked where an environment says so.

`MLOPS_PIPELINE_ENVIRONMENTS` names the YAML or JSON file of the environments; without it those of
`dags/flights/environments.yaml` are shown. It runs when a version is published, or by hand with the
URI of its manifest.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Asset, Param, TaskGroup, task

from airflow_mlops_provider.assets import pipeline_asset
from airflow_mlops_provider.operators import (
    CheckPipelineRunOperator,
    PromotePipelineOperator,
    RollbackPipelineOperator,
    WaitForDagVersionOperator,
)
from airflow_mlops_provider.steps.pipeline_cd.environments import read_environments

if TYPE_CHECKING:
    from airflow_mlops_provider.records import PipelineEnvironment

ENVIRONMENTS = os.environ.get("MLOPS_PIPELINE_ENVIRONMENTS") or str(
    Path(__file__).parent / "flights" / "environments.yaml"
)
PIPELINE = os.environ.get("MLOPS_PIPELINE", "pipeline")


@task
def choose_version(
    params: dict[str, Any], triggering_asset_events: dict[Asset, list[Any]]
) -> dict[str, Any]:
    """Give the version that was asked for, else the last that was published."""
    from airflow_mlops_provider.records import PublishedPipeline
    from airflow_mlops_provider.steps.pipeline_ci.publish import read_published

    if params["manifest"]:
        return read_published(params["manifest"]).to_xcom()
    events = [event for each in triggering_asset_events.values() for event in each]
    if not events:
        raise ValueError("Give the param `manifest`: the URI of a version's manifest.json.")
    last = max(events, key=lambda event: event.timestamp)
    return PublishedPipeline.from_xcom(last.extra).to_xcom()


def deliver(environment: PipelineEnvironment, version: Any) -> tuple[Any, Any]:
    """Wire one environment; return its first task and the check that all went well."""
    given: dict[str, Any] = {"environment": environment.to_xcom(), "deferrable": True}
    with TaskGroup(environment.name.replace(".", "_")):
        promote = PromotePipelineOperator(task_id="promote", version=version, **given)
        wait = WaitForDagVersionOperator(task_id="wait", promotion=promote.output, **given)
        check = CheckPipelineRunOperator(task_id="check", promotion=promote.output, **given)
        roll_back = RollbackPipelineOperator(
            task_id="roll_back", version=version, trigger_rule="one_failed", **given
        )
        promote >> wait >> check
        [promote, wait, check] >> roll_back
        if not environment.approval:
            return promote, check
        approve = ApprovalOperator(
            task_id="approve",
            subject=f"Promote this pipeline to {environment.name}?",
            body="{{ ti.xcom_pull(task_ids='choose_version') | tojson }}",
        )
        approve >> promote
        return approve, check


with DAG(
    "level2_pipeline_cd",
    description="Promote a published pipeline from environment to environment",
    schedule=[pipeline_asset(PIPELINE)],
    max_active_runs=1,
    params={
        "manifest": Param(
            None,
            type=["null", "string"],
            description="URI of a version's manifest.json; empty means what was published",
        )
    },
    doc_md=__doc__,
    tags=["mlops", "level-2"],
) as dag:
    version = choose_version()
    before: Any = version
    delivered = EmptyOperator(task_id="delivered")  # fails with any environment before it
    for environment in read_environments(ENVIRONMENTS):
        first, check = deliver(environment, version)
        before >> first
        before = check
    before >> delivered
