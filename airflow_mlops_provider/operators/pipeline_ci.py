"""CI of a pipeline repository: build, test, stage and publish one exact commit."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.assets import pipeline_asset
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.features import as_bool
from airflow_mlops_provider.operators.pipeline_stages import (
    PipelineStageOperator,
    TriedBuildOperator,
)
from airflow_mlops_provider.operators.runtimes import kind_of, python_of
from airflow_mlops_provider.operators.virtualenvs import virtualenv_python
from airflow_mlops_provider.records import (
    PipelineBuild,
    PipelineStagingReport,
    PipelineTestReport,
)
from airflow_mlops_provider.workspace import join

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.steps.pipeline_ci.checks import Checks
    from airflow_mlops_provider.steps.pipeline_ci.staging import Staging

_BUILD = ["build>=1.2"]


class BuildPipelineOperator(PipelineStageOperator):
    """Check out one exact commit and build its wheel. Gives a ``PipelineBuild``.

    The wheel is built by the build backend that the project names, in an environment of its own
    (``python -m build``). A commit whose wheel does not build fails the task for good.

    Args:
        repository: Path, ``file://``, ``https://`` or ``ssh`` URL of the git repository, without a
            password: git on the worker needs a credential helper or a key.
        commit: Full hash of the commit; also one that no branch has any more.
        isolation: Whether the build backend is installed for each build; otherwise the
            interpreter of ``runtime`` has to have it.
    """

    template_fields: Sequence[str] = (
        *PipelineStageOperator.shared_template_fields,
        "repository",
        "commit",
        "isolation",
    )
    stage = "build"

    def __init__(
        self, *, repository: str, commit: str, isolation: Any = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.repository = repository
        self.commit = commit
        self.isolation = isolation

    def execute(self, context: Context) -> dict[str, Any]:
        """Build the wheel, and keep it in the workspace."""
        from airflow_mlops_provider.steps.pipeline_ci.build import build_pipeline
        from airflow_mlops_provider.steps.pipeline_ci.git import Git

        with self.bench(context) as bench:
            build = build_pipeline(
                self.commands(bench.artifacts),
                Git(self.repository, bench.folder / "git", self.variables),
                self.commit,
                python=_builder(self.runtime),
                workspace=self.workspace_uri,
                folder=bench.folder,
                isolation=as_bool(self.isolation),
                seconds=float(self.timeout_seconds),
            )
            bench.run.log_record(build)
        self.log.info("Built %s %s of %s", build.name, build.version, build.commit)
        return build.to_xcom()


class TestPipelineOperator(TriedBuildOperator):
    """Lint and test a build, and check its DAGs and features. Gives a ``PipelineTestReport``.

    The tests run against the wheel. Each DAG file is imported by Airflow in a process of its own:
    import errors, cycles, DAGs that cannot be serialised and ids that are there twice are found. A
    feature repository is planned. All checks run; if one failed, the task fails for good with the
    reasons, and the report is under the XCom key ``report``.

    Args:
        lint: Python module and arguments that look at the source; None leaves it out.
        tests: Folder or file for pytest; None leaves them out.
        feature_repo: Folder of the Feast repository, if there is one.
        min_coverage: Least share of lines, in [0, 1], that the tests must reach; it is measured
            if the environment has ``coverage``.
    """

    __test__ = False  # for pytest
    template_fields: Sequence[str] = (
        *TriedBuildOperator.build_template_fields,
        "lint",
        "tests",
        "feature_repo",
        "min_coverage",
    )
    stage = "test"

    def __init__(
        self,
        *,
        lint: Sequence[str] | None = ("ruff", "check", "."),
        tests: str | None = "tests",
        feature_repo: str | None = "feature_repo",
        min_coverage: float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.lint = lint
        self.tests = tests
        self.feature_repo = feature_repo
        self.min_coverage = min_coverage

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the checks, and keep their reports."""
        from airflow_mlops_provider.steps.pipeline_ci import checks
        from airflow_mlops_provider.steps.pipeline_ci.rooms import keep_artifacts

        build = PipelineBuild.from_xcom(self.build)
        with self.bench(context) as bench:
            commands, room = self.furnish(build, bench)
            report = checks.check_build(commands, build, self._checks(), room)
            kept = keep_artifacts(room, build, self.workspace_uri)
            report = replace(report, artifacts=kept)
            bench.run.log_record(report)
            context["ti"].xcom_push(key="report", value=report.to_xcom())
            checks.require_passed(self.stage, build.commit, report.checks)
        self.log.info("%d tests, %d DAGs passed", report.n_tests, len(report.dags))
        return report.to_xcom()

    def _checks(self) -> Checks:
        from airflow_mlops_provider.steps.pipeline_ci.checks import Checks

        return Checks(
            lint=self.lint,
            tests=self.tests,
            dags=self.dags,
            feature_repo=self.feature_repo,
            min_coverage=None if self.min_coverage is None else float(self.min_coverage),
            seconds=float(self.timeout_seconds),
        )


class StagePipelineOperator(TriedBuildOperator):
    """Train once with a build, on a sample, in a staging. Gives a ``PipelineStagingReport``.

    One of its DAGs runs in an Airflow of its own, by ``dag.test()``, with an empty workspace: its
    own MLflow experiment, feature store and serving host, none of them production's. The run has
    to succeed, each metric has to be finite and within ``bounds``, and the model that it made has
    to answer its input example over HTTP. If not, the task fails for good with the reasons, and
    the report is under the XCom key ``report``.

    Args:
        pipeline: Id of the DAG to run.
        conf: Of its run; how the DAG is told to take a sample.
        bounds: By metric ``[least, greatest]`` of its last value, None for no limit.
        curves: Parts of the names of metrics, logged over steps, that must not end higher than
            they began.
        serve: Whether the model is served and asked.
    """

    template_fields: Sequence[str] = (
        *TriedBuildOperator.build_template_fields,
        "pipeline",
        "conf",
        "bounds",
        "curves",
        "serve",
    )
    stage = "stage"

    def __init__(
        self,
        *,
        pipeline: str,
        conf: Mapping[str, Any] | None = None,
        bounds: Mapping[str, Sequence[float | None]] | None = None,
        curves: Sequence[str] = ("loss",),
        serve: Any = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pipeline = pipeline
        self.conf = conf
        self.bounds = bounds
        self.curves = curves
        self.serve = serve

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the DAG, and judge what came of it."""
        from airflow_mlops_provider.steps.pipeline_ci.checks import require_passed
        from airflow_mlops_provider.steps.pipeline_ci.rooms import keep_artifacts
        from airflow_mlops_provider.steps.pipeline_ci.staging import stage_build

        build = PipelineBuild.from_xcom(self.build)
        with self.bench(context) as bench:
            commands, room = self.furnish(build, bench)
            report = stage_build(commands, build, self._staging(), room)
            kept = keep_artifacts(room, build, self.workspace_uri)
            report = replace(report, artifacts=kept)
            bench.run.log_record(report)
            bench.run.log_metrics(report.metrics)
            context["ti"].xcom_push(key="report", value=report.to_xcom())
            require_passed(self.stage, build.commit, report.checks)
        self.log.info("%s ran with %s", report.dag_id, report.metrics)
        return report.to_xcom()

    def _staging(self) -> Staging:
        from airflow_mlops_provider.steps.pipeline_ci.staging import Staging

        return Staging(
            dag_id=self.pipeline,
            conf=self.conf or {},
            dags=self.dags or "dags",
            bounds=self.bounds or {},
            curves=self.curves,
            serve=as_bool(self.serve),
            seconds=float(self.timeout_seconds),
        )


class PublishPipelineOperator(MlopsOperator):
    """Publish a build with its reports and provenance, for ever. Gives a ``PublishedPipeline``.

    A version of a commit is published whole or not at all, and never changes. Publishing it again
    gives the same record; another wheel of it, or one whose reports are of another, fails the
    task for good. An ``AssetAlias`` among the outlets receives an event of
    ``mlops-pipeline://name``, with the record as its extra.

    Args:
        build: The ``PipelineBuild``.
        report: Its ``PipelineTestReport``.
        staging: Its ``PipelineStagingReport``, if it was staged.
        folder: fsspec URI; by default ``pipelines/published`` in the workspace.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "build",
        "report",
        "staging",
        "folder",
    )

    def __init__(
        self,
        *,
        build: Any,
        report: Any,
        staging: Any = None,
        folder: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.build = build
        self.report = report
        self.staging = staging
        self.folder = folder

    def execute(self, context: Context) -> dict[str, Any]:
        """Copy the files, and then write the manifest that makes them a version."""
        from airflow_mlops_provider.steps.pipeline_ci.publish import publish_pipeline

        ti = context["ti"]
        with self.tracked_run(context) as run:
            published = publish_pipeline(
                PipelineBuild.from_xcom(self.build),
                PipelineTestReport.from_xcom(self.report),
                PipelineStagingReport.from_xcom(self.staging) if self.staging else None,
                folder=self.folder or join(self.workspace_uri, "pipelines", "published"),
                run={"dag_id": ti.dag_id, "run_id": ti.run_id, "mlflow_run_id": run.run_id},
            )
            run.log_record(published)
        self.log.info("%s %s is %s", published.name, published.version, published.manifest_uri)
        self.emit_asset(context, pipeline_asset(published.name), published)
        return published.to_xcom()


def _builder(runtime: dict[str, Any] | None) -> str:
    """Return an interpreter that has ``build``: ours if it has, else an environment's."""
    if runtime is None:
        return sys.executable if find_spec("build") else virtualenv_python(_BUILD)
    if kind_of(runtime) == "python":
        return python_of(runtime, "build")
    requirements = [*runtime["requirements"], *_BUILD]
    return virtualenv_python(requirements, runtime.get("python_version"))
