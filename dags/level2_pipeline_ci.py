"""Level 2: each commit of a pipeline repository is built, tested, staged and published.

It runs when something is pushed to the branch (the triggerer looks), when the forge calls it
(`POST /api/v2/dags/level2_pipeline_ci/dagRuns` with `{"conf": {"commit": "…"}}`), and by hand for
the head of the branch. Of several commits each goes its own way, the oldest first.

`MLOPS_PIPELINE_REPOSITORY` names the repository (`airflow-mlops init` makes one that fits), and
`MLOPS_PIPELINE_PYTHON` an interpreter that has its dependencies; otherwise they are installed.
"""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import DAG, Asset, AssetAlias, AssetWatcher, Param, task, task_group

from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.operators import (
    BuildPipelineOperator,
    PublishPipelineOperator,
    StagePipelineOperator,
    TestPipelineOperator,
)
from airflow_mlops_provider.triggers.git import GitBranchTrigger
from airflow_mlops_provider.workspace import join

REPOSITORY = os.environ.get("MLOPS_PIPELINE_REPOSITORY") or join(
    workspace_uri(), "forge", "pipeline.git"
)
BRANCH = "main"
PYTHON = os.environ.get("MLOPS_PIPELINE_PYTHON")
RUNTIME = {"python": PYTHON} if PYTHON else None
ONE_AT_A_TIME = {"max_active_tis_per_dagrun": 1}

commits = Asset(
    "pipeline_commits",
    watchers=[
        AssetWatcher(
            name="pipeline_branch",
            trigger=GitBranchTrigger(repository=REPOSITORY, branch=BRANCH),
        )
    ],
)


@task
def choose_commits(
    params: dict[str, Any], triggering_asset_events: dict[Asset, list[Any]]
) -> list[str]:
    """Give the commit that was asked for, else those that were pushed, else the branch's head."""
    if params["commit"]:
        return [params["commit"]]
    pushed = [
        commit
        for events in triggering_asset_events.values()
        for event in events
        for commit in event.extra.get("payload", {}).get("commits", [])
    ]
    return list(dict.fromkeys(pushed)) or [_head()]


def _head() -> str:
    from pathlib import Path
    from tempfile import TemporaryDirectory

    from airflow_mlops_provider.steps.pipeline_ci.git import Git

    with TemporaryDirectory() as folder:
        return Git(REPOSITORY, Path(folder), os.environ).head(BRANCH)


@task_group
def ci(commit: str) -> None:
    """Take one commit through the stages; a stage that refuses it stops only this one."""
    build = BuildPipelineOperator(
        task_id="build", repository=REPOSITORY, commit=commit, **ONE_AT_A_TIME
    )
    test = TestPipelineOperator(
        task_id="test", build=build.output, runtime=RUNTIME, **ONE_AT_A_TIME
    )
    stage = StagePipelineOperator(
        task_id="stage",
        build=build.output,
        pipeline="train",
        conf={"rows": 200},
        bounds={"auc": [0.8, None]},
        runtime=RUNTIME,
        **ONE_AT_A_TIME,
    )
    publish = PublishPipelineOperator(
        task_id="publish",
        build=build.output,
        report=test.output,
        staging=stage.output,
        outlets=[AssetAlias("published_pipelines")],
    )
    test >> stage >> publish


with DAG(
    "level2_pipeline_ci",
    description="Build, test, stage and publish each commit of a pipeline repository",
    schedule=[commits],
    max_active_runs=1,
    params={
        "commit": Param(
            None,
            type=["null", "string"],
            pattern="^[0-9a-f]{40}$",
            description="Full hash; empty means what was pushed, or the head of the branch",
        )
    },
    doc_md=__doc__,
    tags=["mlops", "level-2"],
):
    ci.expand(commit=choose_commits())
