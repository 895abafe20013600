from __future__ import annotations

import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from airflow.sdk import AssetAlias
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.assets import pipeline_asset
from airflow_mlops_provider.operators import (
    BuildPipelineOperator,
    PublishPipelineOperator,
    StagePipelineOperator,
    TestPipelineOperator,
)
from airflow_mlops_provider.operators.pipeline_stages import Bench
from airflow_mlops_provider.operators.provenance import task_parameters
from airflow_mlops_provider.records import (
    PipelineBuild,
    PipelineCheck,
    PipelineStagingReport,
    PipelineTestReport,
    PublishedPipeline,
)
from airflow_mlops_provider.steps.pipeline_ci.checks import Checks
from airflow_mlops_provider.steps.pipeline_ci.rooms import Room
from airflow_mlops_provider.steps.pipeline_ci.staging import Staging

STEPS = "airflow_mlops_provider.steps.pipeline_ci"
COMMIT = "c" * 40
BUILD = PipelineBuild(
    repository="/forge/shop.git",
    commit=COMMIT,
    tree="t" * 40,
    author="Ada",
    committed_at="2026-01-01T00:00:00+00:00",
    subject="Add one",
    source_uri="/w/s.tar.gz",
    source_sha256="s",
    name="shop",
    version="1.2",
    wheel_uri="/w/shop.whl",
    wheel_sha256="w",
    builders={},
)
PYTHON = {"python": sys.executable}


def checks_of(outcome):
    return [PipelineCheck(name="tests", outcome=outcome, reason="1 != 2")]


def report_of(outcome="passed"):
    return PipelineTestReport(
        commit=COMMIT,
        wheel_sha256="w",
        checks=checks_of(outcome),
        n_tests=1,
        n_failed=0,
        n_skipped=0,
        coverage=None,
        dags=["train"],
        artifacts=[],
    )


def staged(outcome="passed"):
    return PipelineStagingReport(
        commit=COMMIT,
        wheel_sha256="w",
        dag_id="train",
        checks=checks_of(outcome),
        metrics={"auc": 0.7},
        endpoints=["e"],
        artifacts=[],
    )


@pytest.fixture
def room(tmp_path):
    with (
        patch(f"{STEPS}.rooms.furnish", return_value=Room(tmp_path, tmp_path / "w.whl")) as furnish,
        patch(f"{STEPS}.rooms.keep_artifacts", return_value=["/w/junit.xml"]),
    ):
        yield furnish


def test_build_passes_repository_commit_and_builder_on(context, run, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SECRET", "s")
    operator = BuildPipelineOperator(
        task_id="t",
        repository="/forge/shop.git",
        commit=COMMIT,
        isolation=False,
        timeout_seconds="60",
        runtime=PYTHON,
        environment={"MINE": "1"},
        workspace="/w",
    )
    with patch(f"{STEPS}.build.build_pipeline", return_value=BUILD) as step:
        assert operator.execute(context) == BUILD.to_xcom()
    commands, git, commit = step.call_args.args
    assert (git.repository, commit) == ("/forge/shop.git", COMMIT)
    assert commands._environment["MINE"] == "1"
    assert "AIRFLOW_CONN_SECRET" not in commands._environment
    given = step.call_args.kwargs
    assert given.pop("folder").name.startswith("airflow-mlops-")
    assert given == {
        "python": sys.executable,
        "workspace": "/w",
        "isolation": False,
        "seconds": 60.0,
    }
    run.log_record.assert_called_once_with(BUILD)


def test_test_gives_its_report(context, run, room):
    operator = TestPipelineOperator(
        task_id="t", build=BUILD.to_xcom(), runtime=PYTHON, min_coverage="0.8", workspace="/w"
    )
    with patch(f"{STEPS}.checks.check_build", return_value=report_of()) as step:
        record = PipelineTestReport.from_xcom(operator.execute(context))
    assert record.artifacts == ["/w/junit.xml"]
    _, build, checks, room = step.call_args.args
    assert build == BUILD
    assert checks == Checks(min_coverage=0.8, seconds=1800)
    assert room.python == sys.executable


def test_a_failed_check_fails_for_good_and_leaves_report_and_logs(context, run, room):
    operator = TestPipelineOperator(
        task_id="t", build=BUILD.to_xcom(), runtime=PYTHON, workspace="/w"
    )
    with (
        patch(f"{STEPS}.checks.check_build", return_value=report_of("failed")),
        pytest.raises(
            AirflowFailException, match=r"test stage refused commit cccccccccccc.*1 != 2"
        ),
    ):
        operator.execute(context)
    pushed = {
        call.kwargs["key"]: call.kwargs["value"] for call in context["ti"].xcom_push.mock_calls
    }
    assert pushed["report"]["checks"][0]["outcome"] == "failed"
    run.client.log_artifacts.assert_called_once()


def test_without_a_runtime_the_dependencies_are_installed(context, run, room):
    operator = TestPipelineOperator(
        task_id="t",
        build=BUILD.to_xcom(),
        extras=["ci"],
        constraints="constraints.txt",
        runtime={"requirements": ["pytest"], "python_version": "3.12"},
        workspace="/w",
    )
    with (
        patch(f"{STEPS}.rooms.environment_of", return_value="/env/python") as made,
        patch(f"{STEPS}.checks.check_build", return_value=report_of()) as step,
    ):
        operator.execute(context)
    assert made.call_args.kwargs == {
        "extras": ["ci"],
        "requirements": ["pytest"],
        "constraints": "constraints.txt",
        "python_version": "3.12",
        "seconds": 1800.0,
    }
    assert step.call_args.args[3].python == "/env/python"


def test_stage_passes_the_run_on(context, run, room):
    operator = StagePipelineOperator(
        task_id="t",
        build=BUILD.to_xcom(),
        pipeline="train",
        conf={"sample": 100},
        bounds={"auc": [0.6, None]},
        runtime=PYTHON,
        workspace="/w",
    )
    with patch(f"{STEPS}.staging.stage_build", return_value=staged()) as step:
        record = PipelineStagingReport.from_xcom(operator.execute(context))
    assert record.metrics == {"auc": 0.7}
    assert step.call_args.args[2] == Staging(
        dag_id="train", conf={"sample": 100}, bounds={"auc": [0.6, None]}, seconds=1800
    )


def test_a_staging_that_fails_fails_for_good(context, run, room):
    operator = StagePipelineOperator(
        task_id="t", build=BUILD.to_xcom(), pipeline="train", runtime=PYTHON, workspace="/w"
    )
    with (
        patch(f"{STEPS}.staging.stage_build", return_value=staged("failed")),
        pytest.raises(AirflowFailException, match="stage stage refused commit"),
    ):
        operator.execute(context)


def test_publish_says_where_it_was_published_from(context, run):
    published = PublishedPipeline(
        name="shop",
        version="1.2",
        commit=COMMIT,
        manifest_uri="/p/manifest.json",
        wheel_uri="/p/shop.whl",
        wheel_sha256="w",
        source_uri="/p/s.tar.gz",
        repository="/forge/shop.git",
    )
    operator = PublishPipelineOperator(
        task_id="t",
        build=BUILD.to_xcom(),
        report=report_of().to_xcom(),
        workspace="/w",
        outlets=[AssetAlias("published")],
    )
    with patch(f"{STEPS}.publish.publish_pipeline", return_value=published) as step:
        assert operator.execute(context) == published.to_xcom()
    event = context["outlet_events"].__getitem__.return_value.add
    event.assert_called_once_with(pipeline_asset("shop"), extra=published.to_xcom())
    step.assert_called_once_with(
        BUILD,
        report_of(),
        None,
        folder="/w/pipelines/published",
        run={"dag_id": "a_dag", "run_id": "a_run", "mlflow_run_id": "run-1"},
    )


def test_a_killed_task_ends_its_processes(context, run, tmp_path):
    operator = BuildPipelineOperator(task_id="t", repository="/r", commit=COMMIT)
    bench = Bench(run, tmp_path, Path(tmp_path, "artifacts"))
    commands = operator.commands(bench.artifacts)
    with patch.object(commands, "stop") as stop:
        operator.on_kill()
    stop.assert_called_once_with()


def test_secrets_of_the_environment_are_no_parameters_in_mlflow():
    operator = BuildPipelineOperator(
        task_id="t", repository="/r", commit=COMMIT, environment={"AIRFLOW_CONN_X": "password"}
    )
    parameters = task_parameters(operator)
    assert parameters["task.commit"] == COMMIT
    assert "password" not in str(parameters)
