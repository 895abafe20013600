"""Level 2: a newly registered challenger is canaried under live traffic.

It is then promoted or rolled back. The DAG starts by itself when a version is registered; the
canary waits in the triggerer, not in a worker.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_mlops_provider.assets import model_asset
from airflow_mlops_provider.operators import (
    CanaryRolloutOperator,
    CheckFeatureServiceOperator,
    DeployModelOperator,
    FinishPipelineRunOperator,
    GetModelVersionOperator,
    PromoteModelOperator,
    StartPipelineRunOperator,
)
from flights.settings import CHALLENGER, CHAMPION, ENDPOINT, FEATURE_REPO, MODEL

with DAG(
    "level2_model_delivery",
    description="Canary of the challenger against the champion",
    schedule=[model_asset(MODEL)],
    max_active_runs=1,
    params={
        "steps": Param([10, 50, 100], type="array", items={"type": "integer"}, title="Weights, %"),
        "min_requests": Param(100, type="integer", minimum=1, title="Requests a step and variant"),
        "step_min_seconds": Param(5, type="number", minimum=0),
        "bake_seconds": Param(5, type="number", minimum=0),
    },
    render_template_as_native_obj=True,
    doc_md=__doc__,
    tags=["mlops", "level-2", "flights"],
):
    start_run = StartPipelineRunOperator(task_id="start_run")
    finish_run = FinishPipelineRunOperator(task_id="finish_run")

    with finish_run.as_teardown(setups=start_run):
        challenger = GetModelVersionOperator(task_id="challenger", model=CHALLENGER)
        champion = GetModelVersionOperator(task_id="champion", model=CHAMPION)
        features = CheckFeatureServiceOperator(
            task_id="features", model_version=challenger.output, repo_path=FEATURE_REPO
        )
        deploy = DeployModelOperator(
            task_id="deploy", model_version=challenger.output, endpoint=ENDPOINT
        )
        canary = CanaryRolloutOperator(
            task_id="canary",
            endpoint=ENDPOINT,
            candidate=challenger.output,
            steps="{{ params.steps }}",
            shield=True,
            min_requests="{{ params.min_requests }}",
            step_min_seconds="{{ params.step_min_seconds }}",
            bake_seconds="{{ params.bake_seconds }}",
            interval_seconds=2,
            deferrable=True,
        )
        promote = PromoteModelOperator(
            task_id="promote",
            model_version=challenger.output,
            expected_champion=champion.output,
        )
        features >> deploy >> canary >> promote
